#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Ends s, of which n bytes are kept, at the last whole UTF-8 character. */
static void cut_utf8(char *s, size_t n) {
    size_t start = n;
    while (start > 0 && n - start < 3 && ((unsigned char)s[start - 1] & 0xc0) == 0x80)
        start--;
    if (start > 0) {
        unsigned char lead = (unsigned char)s[start - 1];
        size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
        if (want > 1 && n - start + 1 < want)
            n = start - 1;
    }
    s[n] = 0;
}

static void format_message(char *msg, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

static void format_message(char *msg, size_t size, const char *fmt, va_list ap) {
    int n = vsnprintf(msg, size, fmt, ap);
    if (n < 0)
        msg[0] = 0;
    else if ((size_t)n >= size)
        cut_utf8(msg, size - 1);
}

int error_set(struct error *err, enum error_code code, const char *fmt, ...) {
    if (!err)
        return -1;
    char msg[sizeof(err->msg)]; /* the arguments may point into err itself */
    va_list ap;
    va_start(ap, fmt);
    format_message(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    err->code = code;
    memcpy(err->msg, msg, sizeof(msg));
    return -1;
}

static enum error_code code_of_errno(int errnum) {
    switch (errnum) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ESRCH:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case ELOOP:
    case EXDEV:
        return ERR_INVALID;
    case EFBIG:
    case EMSGSIZE:
    case E2BIG:
        return ERR_TOO_LARGE;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case EAGAIN:
    case EBUSY:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRINUSE:
        return ERR_UNAVAILABLE;
    case ECANCELED:
        return ERR_CANCELLED;
    default:
        return ERR_IO;
    }
}

int error_set_errno(struct error *err, int errnum, const char *fmt, ...) {
    if (!err)
        return -1;
    char what[sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    format_message(what, sizeof(what), fmt, ap);
    va_end(ap);
    char reason[128];
    return error_set(err, code_of_errno(errnum), "%s: %s", what, strerror_r(errnum, reason, sizeof(reason)));
}

int error_wrap(struct error *err, const char *fmt, ...) {
    if (!err)
        return -1;
    char what[sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    format_message(what, sizeof(what), fmt, ap);
    va_end(ap);
    return error_set(err, err->code, "%s: %s", what, err->msg);
}

const char *error_code_name(enum error_code code) {
    static const char *const names[] = {
        [ERR_NONE] = "None",           [ERR_INVALID] = "Invalid",         [ERR_NOT_FOUND] = "NotFound",
        [ERR_EXISTS] = "Exists",       [ERR_CONFLICT] = "Conflict",       [ERR_DENIED] = "Denied",
        [ERR_TOO_LARGE] = "TooLarge",  [ERR_UNSUPPORTED] = "Unsupported", [ERR_EXPIRED] = "Expired",
        [ERR_TIMEOUT] = "Timeout",     [ERR_UNAVAILABLE] = "Unavailable", [ERR_IO] = "IO",
        [ERR_CANCELLED] = "Cancelled", [ERR_INTERNAL] = "Internal",
    };
    return (size_t)code < ARRAY_LEN(names) ? names[code] : "Internal";
}
