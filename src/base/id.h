/* Random bytes and identifiers. */
#pragma once

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *p, size_t n); /* from the kernel; aborts if it has none */
uint64_t random_u64(void);
/* Uniform in [0, n); n > 0. */
uint64_t random_below(uint64_t n);
/* value spread by up to +-percent: jitter for timers. */
int64_t random_jitter(int64_t value, unsigned percent);

#define UUID_SIZE 37
char *uuid_v4(char out[UUID_SIZE]); /* lower case, with dashes, NUL-terminated; returns out */

/* n characters of Kubernetes' generateName alphabet (bcdfghjklmnpqrstvwxz2456789) and a NUL into out. */
void random_name_suffix(char *out, size_t n);
