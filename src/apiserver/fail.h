/* A refused request: what becomes a Status (embedded-api.md 1.8). A zeroed struct is "no failure". */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

struct fail_cause {
    char *reason, *message, *field; /* owned; field may be NULL */
    struct fail_cause *next;
};
struct fail {
    int code; /* HTTP; 0: none */
    const char *reason;
    char *message;                   /* owned */
    char *group, *kind, *name, *uid; /* details; owned, may be NULL */
    struct fail_cause *causes;
    int retry_after_s; /* 0: none */
    char *continue_;   /* of a list that goes on otherwise; owned, may be NULL */
};

void fail_clear(struct fail *f);
/* Each fills f and returns -1. A failure that is there already is replaced. */
int fail_set(struct fail *f, int code, const char *reason, const char *fmt, ...) PRINTF_LIKE(4, 5);
int fail_bad_request(struct fail *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* resource is the plural (of a group, "" is core), as in `pods "x" not found`, `deployments.apps "x" ...` */
int fail_not_found(struct fail *f, const char *group, const char *resource, const char *name);
int fail_exists(struct fail *f, const char *group, const char *resource, const char *name);
int fail_conflict(struct fail *f, const char *group, const char *resource, const char *name, const char *why);
int fail_forbidden(struct fail *f, const char *group, const char *resource, const char *name, const char *why);
int fail_not_allowed(struct fail *f, const char *action, const char *group, const char *resource);
int fail_unavailable(struct fail *f, const char *why);
/* 422: add causes, then fail_invalid puts the message together. kind is the Kind here. */
void fail_cause(struct fail *f, const char *reason, const char *field, const char *fmt, ...) PRINTF_LIKE(4, 5);
int fail_invalid(struct fail *f, const char *group, const char *kind, const char *name);

/* The Status, owned. */
char *fail_status(const struct fail *f, size_t *len);
/* {"kind":"Status","status":"Success",...} with details of what was deleted; NULLs are left out. Owned. */
char *success_status(int code, const char *group, const char *resource, const char *name, const char *uid, size_t *len);
