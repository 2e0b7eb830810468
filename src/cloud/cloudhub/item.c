#include "cloud/cloudhub/item.h"

#include "base/str.h"
#include "kube/object.h"
#include "wire/resource.h"

/* Resources without a namespace or with a form of their own: never tracked. */
static bool is_untracked_resource(const char *resource) {
    if (str_eq(resource, "membership") || str_starts_with(resource, "membership/") || str_eq(resource, "k8s/ca.crt") ||
        str_eq(resource, "twin/cloud_updated") || str_ends_with(resource, "/twin/cloud_updated"))
        return true;
    struct resource r;
    if (resource_parse(bytes_str(resource), &r, NULL) < 0)
        return false;
    return bytes_eq_str(r.type, "podlist") || bytes_eq_str(r.type, "serviceaccounttoken");
}

static bool is_one_of(const char *s, const char *const *list) {
    for (; *list; list++)
        if (str_eq(s, *list))
            return true;
    return false;
}

static bool is_plain_answer_of_edgecontroller(const struct message *m) {
    static const char *const never[] = {"lease", "nodepatch", "podpatch", "podstatus", "certificatesigningrequest",
                                        NULL};
    struct resource r;
    if (resource_parse(bytes_str(m->resource), &r, NULL) < 0)
        return false;
    if (bytes_eq_str(r.type, "node"))
        return !str_eq(m->operation, OP_UPDATE);
    if (bytes_eq_str(r.type, "pod"))
        return str_eq(m->operation, OP_RESPONSE);
    for (const char *const *t = never; *t; t++)
        if (bytes_eq_str(r.type, *t))
            return true;
    return false;
}

bool hub_needs_ack(const struct message *m) {
    static const char *const untracked_operations[] = {"createvolume",
                                                       "deletevolume",
                                                       "controllerpublishvolume",
                                                       "controllerunpublishvolume",
                                                       "applicationResponse",
                                                       NULL};
    static const char *const untracked_sources[] = {"taskmanager", "nodeupgradejobcontroller", NULL};

    if (is_untracked_resource(m->resource) || is_one_of(m->operation, untracked_operations) ||
        str_eq(m->group, GROUP_USER) || is_one_of(m->source, untracked_sources))
        return false;
    if (str_eq(m->operation, OP_RESPONSE) && (str_eq(yyjson_get_str(m->content), "OK") || message_content_error(m)))
        return false;
    return !(str_eq(m->source, MODULE_EDGECONTROLLER) && is_plain_answer_of_edgecontroller(m));
}

int hub_item_new(const struct message *m, struct hub_item **out, struct error *err) {
    bool needs_ack = hub_needs_ack(m);
    bool answer = str_eq(m->operation, OP_RESPONSE);
    bool deletion = str_eq(m->operation, OP_DELETE);
    const char *key = m->id;

    if (needs_ack && !answer) {
        const char *uid = object_uid(m->content);
        if (!deletion && str_empty(m->resource_version) && !object_deleting(m->content))
            return error_set(err, ERR_INVALID, "message %s for %s has no resourceVersion", m->operation, m->resource);
        if (!deletion && str_empty(uid))
            return error_set(err, ERR_INVALID, "message %s for %s has an object without uid", m->operation,
                             m->resource);
        key = str_or(uid, m->resource);
    }

    _cleanup_(buf_free) struct buf text = BUF_INIT(MESSAGE_MAX);
    if (message_encode(m, &text) < 0)
        return error_set(err, ERR_TOO_LARGE, "message %s for %s is larger than %u bytes", m->operation, m->resource,
                         MESSAGE_MAX);

    const char *strings[] = {m->id, key, m->resource};
    size_t sizes[] = {strlen(m->id) + 1, strlen(key) + 1, strlen(m->resource) + 1};
    struct hub_item *i = xmalloc(sizeof *i + sizes[0] + sizes[1] + sizes[2] + text.len);
    char *p = i->memory, *at[ARRAY_LEN(strings)];
    for (size_t s = 0; s < ARRAY_LEN(strings); s++) {
        at[s] = memcpy(p, strings[s], sizes[s]);
        p += sizes[s];
    }
    i->id = at[0];
    i->key = at[1];
    i->resource = at[2];
    i->text = memcpy(p, text.ptr, text.len);
    i->len = text.len;
    i->rv = rv_number(m->resource_version);
    i->needs_ack = needs_ack;
    i->deletion = deletion;
    i->answer = answer;
    *out = i;
    return 0;
}

void hub_item_free(struct hub_item *i) {
    free(i);
}
