/* What a write must not contain though the writer may write such objects (admission): rights beyond his own, and what a
 * node may not say of itself. */
#pragma once

#include "apiserver/write.h"

/* The object is decoded, defaulted and valid; t->old_doc is what it replaces. 403 if refused. Writes of the server's
 * own (w->user NULL) and of masters are admitted. */
int admit_write(struct draft *t) MUST_CHECK;
