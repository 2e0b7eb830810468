/* POST serviceaccounts/<name>/token: a token for those who may act for the account. Nothing is stored. */
#include "apiserver/account_token.h"
#include "apiserver/call.h"
#include "base/clock.h"
#include "kube/object.h"

#define LIFETIME_DEFAULT_S 3600
#define LIFETIME_MIN_S 600
#define LIFETIME_MAX_S (1LL << 32)
#define AUDIENCES_MAX 32

static const char group[] = "authentication.k8s.io";

static int check_spec(yyjson_val *spec, struct fail *f) {
    int64_t lifetime = json_int_or(json_get(spec, "expirationSeconds"), LIFETIME_DEFAULT_S);
    yyjson_val *audience;
    size_t i, n;
    if (lifetime < LIFETIME_MIN_S)
        fail_cause(f, "FieldValueInvalid", "spec.expirationSeconds",
                   "Invalid value: %lld: may not specify a duration less than 10 minutes", (long long)lifetime);
    else if (lifetime > LIFETIME_MAX_S)
        fail_cause(f, "FieldValueInvalid", "spec.expirationSeconds",
                   "Invalid value: %lld: may not specify a duration larger than 2^32 seconds", (long long)lifetime);
    if (yyjson_arr_size(json_get(spec, "audiences")) > AUDIENCES_MAX)
        fail_cause(f, "FieldValueTooMany", "spec.audiences", "Too many: must have at most %d items", AUDIENCES_MAX);
    yyjson_arr_foreach (json_get(spec, "audiences"), i, n, audience)
        if (yyjson_get_len(audience) == 0)
            fail_cause(f, "FieldValueInvalid", "spec.audiences", "Invalid value: \"\": must not be empty");
    return f->causes ? fail_invalid(f, group, "TokenRequest", "") : 0;
}

/* The object that the token shall be bound to, as it is stored; it is the pod's account that asks. */
static int find_bound(struct call *c, yyjson_val *ref, yyjson_doc **out) {
    static const char *const resources[][2] = {{"Pod", "pods"}, {"Secret", "secrets"}, {"Node", "nodes"}};
    const char *kind = str_or(json_str(ref, "kind"), ""), *name = str_or(json_str(ref, "name"), ""), *plural = NULL;
    for (size_t i = 0; i < ARRAY_LEN(resources); i++)
        if (strcmp(resources[i][0], kind) == 0)
            plural = resources[i][1];
    if (!plural || !str_eq(str_or(json_str(ref, "apiVersion"), "v1"), "v1"))
        return fail_bad_request(&c->fail, "cannot bind token to object of type %s", kind);
    struct record *rec =
        storage_get(storage_resource(c->s->storage, "", plural), strcmp(plural, "nodes") == 0 ? "" : c->path.ns, name);
    if (!rec)
        return fail_not_found(&c->fail, "", plural, name);
    *out = record_parse(rec);
    yyjson_val *o = yyjson_doc_get_root(*out);
    const char *uid = json_str(ref, "uid");
    if (!str_empty(uid) && strcmp(uid, object_uid(o)) != 0)
        return fail_conflict(&c->fail, "", plural, name, "the UID in the bound object reference is another object's");
    const char *account = json_str(o, "spec", "serviceAccountName");
    if (strcmp(kind, "Pod") == 0 && !str_eq(account, c->path.name))
        return fail_bad_request(&c->fail,
                                "cannot bind token for serviceaccount \"%s\" to pod running with different "
                                "serviceaccount name.",
                                c->path.name);
    return 0;
}

/* A node asks for its own pods only. */
static int check_node(struct call *c, yyjson_val *ref, yyjson_val *bound) {
    const char *node = identity_node_name(&c->id);
    if (!node || identity_has_group(&c->id, GROUP_MASTERS))
        return 0;
    if (bound && str_eq(json_str(ref, "kind"), "Pod") && json_str(ref, "uid") &&
        str_eq(json_str(bound, "spec", "nodeName"), node))
        return 0;
    return fail_forbidden(&c->fail, "", "serviceaccounts", c->path.name,
                          "a node requests tokens bound to its own pods only, with their uid");
}

static void find_node(struct call *c, yyjson_val *pod, struct token_claims *claims, yyjson_doc **node) {
    const char *name = json_str(pod, "spec", "nodeName");
    struct record *rec = str_empty(name) ? NULL : storage_get(storage_resource(c->s->storage, "", "nodes"), "", name);
    if (!rec)
        return;
    *node = record_parse(rec);
    claims->node = name;
    claims->node_uid = object_uid(yyjson_doc_get_root(*node));
}

static void answer(struct call *c, yyjson_val *body, const char *token, const struct token_claims *claims) {
    char when[RFC3339_SIZE];
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    json_set_str(d, root, "kind", "TokenRequest");
    json_set_str(d, root, "apiVersion", "authentication.k8s.io/v1");
    yyjson_mut_val *meta = json_ensure_obj(d, root, "metadata");
    json_set_str(d, meta, "name", c->path.name);
    json_set_str(d, meta, "namespace", c->path.ns);
    json_set_str(d, meta, "creationTimestamp", rfc3339_seconds(claims->now, when));
    yyjson_val *ref = json_get(body, "spec", "boundObjectRef");
    yyjson_mut_val *spec = json_ensure_obj(d, root, "spec");
    json_set(d, spec, "audiences", yyjson_val_mut_copy(d, claims->audiences));
    json_set_int(d, spec, "expirationSeconds", claims->lifetime_s);
    json_set(d, spec, "boundObjectRef", ref ? yyjson_val_mut_copy(d, ref) : yyjson_mut_null(d));
    yyjson_mut_val *status = json_ensure_obj(d, root, "status");
    json_set_str(d, status, "token", token);
    json_set_str(d, status, "expirationTimestamp", rfc3339_seconds(claims->now + claims->lifetime_s, when));
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(root, &len);
    answer_json(c->http, 201, bytes_of(text, len), c->q.pretty);
}

static int serve(struct call *c) {
    static const char own_audience[] = "[\"" TOKEN_ISSUER "\"]";
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body = NULL, *bound = NULL, *node = NULL,
                                            *own = json_parse(BYTES_LIT(own_audience), 4096, NULL);
    struct record *rec = storage_get(kind_resource(c->s, c->kind), c->path.ns, c->path.name);
    if (!rec)
        return fail_not_found(&c->fail, "", "serviceaccounts", c->path.name);
    if (body_parse(http_body(c->http), body_type_of(http_header(c->http, "Content-Type", NULL)), &body, &c->fail) < 0)
        return -1;
    yyjson_val *spec = json_get(yyjson_doc_get_root(body), "spec"), *ref = json_get(spec, "boundObjectRef");
    if (!yyjson_is_obj(yyjson_doc_get_root(body)))
        return fail_bad_request(&c->fail, "the body of the request is not a TokenRequest");
    if (check_spec(spec, &c->fail) < 0 || (ref && !yyjson_is_null(ref) && find_bound(c, ref, &bound) < 0) ||
        check_node(c, ref, yyjson_doc_get_root(bound)) < 0)
        return -1;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *account = record_parse(rec);
    yyjson_val *o = yyjson_doc_get_root(bound), *audiences = json_get(spec, "audiences");
    struct token_claims claims = {
        .ns = c->path.ns,
        .account = c->path.name,
        .account_uid = object_uid(yyjson_doc_get_root(account)),
        .audiences = yyjson_arr_size(audiences) ? audiences : yyjson_doc_get_root(own),
        .bound_kind = o ? json_str(ref, "kind") : "",
        .bound_name = o ? object_name(o) : "",
        .bound_uid = o ? object_uid(o) : "",
        .now = clock_wall_s(),
        .lifetime_s = json_int_or(json_get(spec, "expirationSeconds"), LIFETIME_DEFAULT_S),
    };
    if (str_eq(claims.bound_kind, "Pod"))
        find_node(c, o, &claims, &node);
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *token = NULL;
    if (account_token_make(c->s, &claims, &token, &err) < 0)
        return fail_set(&c->fail, 500, "InternalError", "%s", error_text(&err));
    answer(c, yyjson_doc_get_root(body), token, &claims);
    return 0;
}

void token_request_serve(struct call *c) {
    if (serve(c) < 0)
        answer_fail(c->http, &c->fail);
}
