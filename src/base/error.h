/* One error type for the whole project.
 *
 * A function that can fail returns int (0, or -1) and takes `struct error *err` last. On failure it fills err with a
 * code from the small closed enum below and a message that says what was being done to which object; on success err is
 * untouched. err may be NULL where the caller only needs to know that it failed. Callers add context on the way up:
 *
 *     if (pod_start(pod, err) < 0)
 *         return error_wrap(err, "pod %s/%s", pod->ns, pod->name);    // "pod default/web: pull image …: …"
 *
 * A struct error is a plain value: no clean-up, copy freely. Initialise with ERROR_INIT. */
#pragma once

#include "base/attrs.h"

enum error_code {
    ERR_NONE = 0,
    ERR_INVALID,     /* input is malformed or breaks a rule; retrying the same will fail again */
    ERR_NOT_FOUND,   /* the named thing does not exist */
    ERR_EXISTS,      /* the named thing exists already */
    ERR_CONFLICT,    /* changed meanwhile: read again, then retry */
    ERR_DENIED,      /* not allowed, or not who it claims to be */
    ERR_TOO_LARGE,   /* a limit of size, depth or count was passed */
    ERR_UNSUPPORTED, /* understood, but not offered here */
    ERR_EXPIRED,     /* certificate, token, resourceVersion: too old */
    ERR_TIMEOUT,     /* no answer in time */
    ERR_UNAVAILABLE, /* peer not reachable or closed, busy, offline: retry later */
    ERR_IO,          /* the operating system refused a read, write, open, ... */
    ERR_CANCELLED,   /* given up by our own side */
    ERR_INTERNAL,    /* anything else */
};

struct error {
    enum error_code code;
    char msg[504];
};

#define ERROR_INIT \
    { .code = ERR_NONE }

/* Fills err (if not NULL) and returns -1. A message longer than the buffer is cut at a UTF-8 boundary. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As error_set, with ": " and strerror(errnum) added, and the code chosen from errnum (ENOENT: NOT_FOUND, ENOSPC and
 * the rest: IO, ...). */
int error_set_errno(struct error *err, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "<formatted>: " in front of the message, keeps the code, returns -1. */
int error_wrap(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "NotFound", "Invalid", ...: for logs and metrics. */
const char *error_code_name(enum error_code code);

static inline const char *error_text(const struct error *err) {
    return err && err->msg[0] ? err->msg : "unknown error";
}
