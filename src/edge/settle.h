/* Gives memory back that only starting up needed. */
#pragma once

/* Free heap pages, and the mapped pages of program and libraries that nothing has written to: what is still used comes
 * back from the page cache with a minor fault, what only ran at start (dynamic linking, joining, parsing) does not.
 * Call once, when the process has settled. */
void settle_memory(void);
