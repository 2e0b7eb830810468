/* Who asks, and whether they may (embedded-api.md 7). The policy of this stage is fixed: group system:masters may do
 * everything and speak for others; a node may do what concerns itself; everybody authenticated may read discovery and
 * ask about themselves. */
#pragma once

#include "apiserver/fail.h"
#include "base/str.h"
#include "net/http_server.h"

struct identity {
    char *user;
    struct strlist groups;
};
void identity_free(struct identity *id);
bool identity_has_group(const struct identity *id, const char *group);

/* From the client certificate and the Impersonate headers. Fails with 401, 403 or 400. */
int auth_identify(struct http_request *r, struct identity *out, struct fail *f) MUST_CHECK;

struct access {
    const char *verb; /* "get", "list", ... */
    const char *group, *resource, *subresource, *ns, *name;
    const char *field_selector; /* of list and watch; may be NULL */
    const char *path;           /* of a request for no resource; else NULL */
};
bool auth_allowed(const struct identity *id, const struct access *a);
/* 403 in the words of kubectl's users. */
int auth_refuse(const struct identity *id, const struct access *a, struct fail *f);
