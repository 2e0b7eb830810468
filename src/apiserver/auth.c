#include "apiserver/auth.h"

#include "apiserver/account_token.h"
#include "apiserver/server.h"
#include "base/clock.h"
#include "base/mem.h"
#include "kube/object.h"

#define NAME_MAX_LEN 512
#define IMPERSONATED_MAX 64 /* groups and extra values that a request may claim */
#define AUTHENTICATION "authentication.k8s.io"

void identity_free(struct identity *id) {
    free(TAKE(id->user));
    free(TAKE(id->uid));
    strlist_free(&id->groups);
    strlist_free(&id->extra);
}

bool identity_has_group(const struct identity *id, const char *group) {
    return strlist_has(&id->groups, group);
}

void identity_add_extra(struct identity *id, const char *key, const char *value) {
    strlist_add(&id->extra, key);
    strlist_add(&id->extra, value);
}

const char *identity_node_name(const struct identity *id) {
    if (!str_starts_with(id->user, NODE_USER_PREFIX) || !identity_has_group(id, GROUP_NODES))
        return NULL;
    return id->user + strlen(NODE_USER_PREFIX);
}

void identity_set_account(struct identity *id, const char *ns, const char *name) {
    id->user = xasprintf(ACCOUNT_USER_PREFIX "%s:%s", ns, name);
    strlist_add(&id->groups, "system:serviceaccounts");
    strlist_add_take(&id->groups, xasprintf("system:serviceaccounts:%s", ns));
}

static int unauthorized(struct fail *f) {
    return fail_set(f, 401, "Unauthorized", "Unauthorized");
}

/* ---- who ---- */

static int from_certificate(struct http_request *r, struct identity *out) {
    struct x509_subject subject;
    bool verified = false;
    if (stream_peer_subject(http_stream(r), &subject, &verified, NULL) < 0 || !verified || !subject.common_name[0])
        return -1;
    out->user = xstrdup(subject.common_name);
    if (subject.organization[0])
        strlist_add(&out->groups, subject.organization);
    struct bytes rest = bytes_str(subject.other_organizations), one;
    for (bool more = rest.len > 0; more;) {
        more = bytes_cut(rest, '\n', &one, &rest);
        strlist_add_take(&out->groups, bytes_dup(one));
    }
    return 0;
}

static bool same_secret(yyjson_val *secret, const char *key, struct bytes expected) {
    _cleanup_(buf_free_secret) struct buf value = BUF_INIT(4096);
    return base64_decode(bytes_str(json_str(secret, "data", key)), &value) == 0 && value.len > 0 &&
           secret_equal(buf_bytes(&value), expected);
}

static bool bootstrap_expired(yyjson_val *secret) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(64);
    int64_t ns;
    if (!json_get(secret, "data", "expiration"))
        return false;
    return base64_decode(bytes_str(json_str(secret, "data", "expiration")), &text) < 0 ||
           rfc3339_parse(buf_bytes(&text), &ns) < 0 || ns / 1000000000 <= clock_wall_s();
}

static void add_bootstrap_groups(yyjson_val *secret, struct identity *out) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(4096);
    strlist_add(&out->groups, "system:bootstrappers");
    if (base64_decode(bytes_str(json_str(secret, "data", "auth-extra-groups")), &text) < 0)
        return;
    struct bytes rest = buf_bytes(&text), one;
    for (bool more = rest.len > 0; more;) {
        struct bytes after;
        more = bytes_cut(rest, ',', &one, &after);
        one = bytes_trim(more ? one : rest);
        rest = after;
        if (bytes_starts_with(one, "system:bootstrappers:"))
            strlist_add_take(&out->groups, bytes_dup(one));
    }
}

/* <id>.<secret>, kept in a Secret of kube-system. */
static int bootstrap_token(struct apiserver *s, struct bytes id, struct bytes secret, struct identity *out,
                           struct error *err) {
    if (id.len != 6 || secret.len != 16)
        return error_set(err, ERR_DENIED, "the token is neither of a service account nor a bootstrap token");
    _cleanup_(free_p) char *name = xasprintf("bootstrap-token-%.6s", id.ptr);
    struct record *rec = storage_get(storage_resource(s->storage, "", "secrets"), "kube-system", name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = rec ? record_parse(rec) : NULL;
    yyjson_val *o = yyjson_doc_get_root(doc);
    if (!o || object_deleting(o) || !str_eq(json_str(o, "type"), "bootstrap.kubernetes.io/token") ||
        !same_secret(o, "token-id", id) || !same_secret(o, "token-secret", secret) ||
        !same_secret(o, "usage-bootstrap-authentication", BYTES_LIT("true")))
        return error_set(err, ERR_DENIED, "the bootstrap token is not known");
    if (bootstrap_expired(o))
        return error_set(err, ERR_EXPIRED, "the bootstrap token has expired");
    out->user = xasprintf("system:bootstrap:%.6s", id.ptr);
    add_bootstrap_groups(o, out);
    return 0;
}

int auth_token(struct apiserver *s, struct bytes token, const struct strlist *audiences, struct identity *out,
               struct strlist *matched, struct error *err) {
    struct bytes parts[3];
    size_t n = bytes_split(token, '.', parts, 3);
    int rc;
    if (n == 3)
        rc = account_token_check(s, token, audiences, out, matched, err);
    else if (n == 2 && audiences->count == 0)
        rc = bootstrap_token(s, parts[0], parts[1], out, err);
    else
        return error_set(err, ERR_DENIED, "the token is neither of a service account nor a bootstrap token");
    if (rc == 0)
        strlist_add(&out->groups, GROUP_AUTHENTICATED);
    return rc;
}

static int authenticate(struct apiserver *s, struct http_request *r, struct identity *out, struct fail *f) {
    static const struct strlist own_audience = {0};
    if (from_certificate(r, out) == 0) {
        strlist_add(&out->groups, GROUP_AUTHENTICATED);
        return 0;
    }
    struct bytes header = http_header(r, "Authorization", NULL), scheme, token;
    if (!bytes_cut(header, ' ', &scheme, &token) || scheme.len != 6 || strncasecmp(scheme.ptr, "bearer", 6) != 0)
        return unauthorized(f);
    if (auth_token(s, bytes_trim(token), &own_audience, out, NULL, NULL) < 0)
        return unauthorized(f);
    return 0;
}

/* ---- in whose name ---- */

static int may_impersonate(struct apiserver *s, const struct identity *id, const struct access *a, struct fail *f) {
    return auth_allowed(s, id, a) ? 0 : auth_refuse(id, a, f);
}

static int impersonate_user(struct apiserver *s, const struct identity *id, struct bytes user, struct identity *out,
                            struct fail *f) {
    struct access a = {.verb = "impersonate", .group = "", .resource = "users", .subresource = "", .ns = ""};
    struct bytes ns, name, rest = user;
    _cleanup_(free_p) char *account_ns = NULL, *account = NULL;
    out->user = bytes_dup(user);
    a.name = out->user;
    if (bytes_starts_with(user, ACCOUNT_USER_PREFIX)) {
        rest = bytes_of(user.ptr + strlen(ACCOUNT_USER_PREFIX), user.len - strlen(ACCOUNT_USER_PREFIX));
        if (!bytes_cut(rest, ':', &ns, &name))
            return fail_bad_request(f, "Impersonate-User is no service account: it needs a namespace and a name");
        a.resource = "serviceaccounts";
        a.ns = account_ns = bytes_dup(ns);
        a.name = account = bytes_dup(name);
        if (may_impersonate(s, id, &a, f) < 0)
            return -1;
        free(TAKE(out->user));
        identity_set_account(out, account_ns, account);
        return 0;
    }
    return may_impersonate(s, id, &a, f);
}

/* One of the headers that add to the user. */
static int impersonate_more(struct apiserver *s, const struct identity *id, struct bytes header, struct bytes value,
                            struct identity *out, struct fail *f) {
    static const char extra[] = "Impersonate-Extra-";
    size_t extra_len = sizeof(extra) - 1;
    struct access a = {.verb = "impersonate", .group = "", .subresource = "", .ns = ""};
    _cleanup_(free_p) char *text = bytes_dup(value);
    a.name = text;
    if (header.len == 17 && strncasecmp(header.ptr, "Impersonate-Group", 17) == 0) {
        a.resource = "groups";
        strlist_add(&out->groups, text);
        return may_impersonate(s, id, &a, f);
    }
    if (header.len == 15 && strncasecmp(header.ptr, "Impersonate-Uid", 15) == 0) {
        a.group = AUTHENTICATION;
        a.resource = "uids";
        free(out->uid);
        out->uid = xstrdup(text);
        return may_impersonate(s, id, &a, f);
    }
    if (header.len <= extra_len || strncasecmp(header.ptr, extra, extra_len) != 0)
        return 0;
    _cleanup_(buf_free) struct buf key = BUF_INIT(NAME_MAX_LEN);
    if (percent_decode(bytes_of(header.ptr + extra_len, header.len - extra_len), false, &key) < 0)
        return fail_bad_request(f, "an Impersonate-Extra header has no valid key");
    for (char *p = key.ptr; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    a.group = AUTHENTICATION;
    a.resource = "userextras";
    a.subresource = key.ptr;
    identity_add_extra(out, key.ptr, text);
    return may_impersonate(s, id, &a, f);
}

static bool is_impersonation(struct bytes header) {
    return header.len > 12 && strncasecmp(header.ptr, "Impersonate-", 12) == 0;
}

static int impersonate_all(struct apiserver *s, struct http_request *r, const struct identity *id, struct identity *out,
                           struct fail *f) {
    struct bytes user = http_header(r, "Impersonate-User", NULL), name, value;
    bool any = false;
    for (unsigned i = 0; (name = http_header_at(r, i, &value)).len > 0; i++)
        any |= is_impersonation(name);
    if (!any)
        return 0;
    if (user.len == 0 || user.len > NAME_MAX_LEN)
        return fail_bad_request(f, "who impersonates groups, a uid or extra values has to name the user, too");
    if (impersonate_user(s, id, user, out, f) < 0)
        return -1;
    for (unsigned i = 0; (name = http_header_at(r, i, &value)).len > 0; i++) {
        if (!is_impersonation(name))
            continue;
        if (value.len > NAME_MAX_LEN || out->groups.count + out->extra.count / 2 > IMPERSONATED_MAX)
            return fail_bad_request(f, "the Impersonate headers are too long or too many");
        if (impersonate_more(s, id, name, value, out, f) < 0)
            return -1;
    }
    if (!identity_has_group(out, GROUP_AUTHENTICATED))
        strlist_add(&out->groups, GROUP_AUTHENTICATED);
    return 0;
}

int auth_identify(struct apiserver *s, struct http_request *r, struct identity *out, struct fail *f) {
    struct identity other = {0};
    *out = (struct identity){0};
    if (authenticate(s, r, out, f) < 0 || impersonate_all(s, r, out, &other, f) < 0) {
        identity_free(out);
        identity_free(&other);
        return -1;
    }
    if (other.user) {
        identity_free(out);
        *out = other;
    }
    return 0;
}
