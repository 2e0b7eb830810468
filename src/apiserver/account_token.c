#define LOG_COMPONENT "apiserver"
#include "apiserver/account_token.h"

#include "apiserver/server.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "kube/object.h"
#include "net/es256.h"
#include "net/tls.h"

#define KEY_MAX (16u << 10)
#define TOKEN_MAX (32u << 10)
#define GONE_GRACE_S 60 /* a token outlives the deletion of its pod by so long: for what the pod does while it ends */
#define KNOWN_GOOD 512  /* signatures that are remembered to be right */

struct token_keeper {
    struct es256_key *key;
    char *key_id;
    unsigned char good[KNOWN_GOOD][32]; /* hashes of whole tokens, by their first bytes */
};

int token_keeper_open(struct token_keeper **out, const char *dir, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s/sa.key", dir);
    _cleanup_(buf_free_secret) struct buf pem = BUF_INIT(KEY_MAX);
    _cleanup_(buf_free) struct buf der = BUF_INIT(KEY_MAX), id = BUF_INIT(64);
    struct error why = ERROR_INIT;
    if (file_read(path, &pem, &why) < 0) {
        if (why.code != ERR_NOT_FOUND)
            return error_set(err, why.code, "read %s: %s", path, why.msg);
        if (x509_new_key(&pem, err) < 0 || file_write_atomic(path, buf_bytes(&pem), 0600, err) < 0)
            return error_wrap(err, "make the key %s", path);
        log_info("made a key file=%s", path);
    }
    struct es256_key *key = es256_key_new(buf_bytes(&pem), err);
    if (!key)
        return error_wrap(err, "%s", path);
    unsigned char hash[32];
    if (es256_public_der(key, &der, err) < 0 || sha256(buf_bytes(&der), hash) < 0) {
        es256_key_free(key);
        return error_wrap(err, "%s", path);
    }
    base64url_encode(bytes_of(hash, sizeof(hash)), &id);
    struct token_keeper *k = NEW(struct token_keeper);
    k->key = key;
    k->key_id = buf_take(&id, NULL);
    *out = k;
    return 0;
}

void token_keeper_free(struct token_keeper *k) {
    if (!k)
        return;
    es256_key_free(k->key);
    free(k->key_id);
    free(k);
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

static void add_named(yyjson_mut_doc *d, yyjson_mut_val *to, const char *key, const char *name, const char *uid) {
    yyjson_mut_val *o = json_ensure_obj(d, to, key);
    json_set_str(d, o, "name", name);
    json_set_str(d, o, "uid", uid);
}

static char *claims_text(const struct token_claims *c, size_t *len) {
    char uuid[UUID_SIZE];
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    _cleanup_(free_p) char *subject = xasprintf(ACCOUNT_USER_PREFIX "%s:%s", c->ns, c->account);
    json_set(d, root, "aud", yyjson_val_mut_copy(d, c->audiences));
    json_set_int(d, root, "exp", c->now + c->lifetime_s);
    json_set_int(d, root, "iat", c->now);
    json_set_str(d, root, "iss", TOKEN_ISSUER);
    json_set_str(d, root, "jti", uuid_v4(uuid));
    yyjson_mut_val *private = json_ensure_obj(d, root, "kubernetes.io");
    json_set_str(d, private, "namespace", c->ns);
    if (c->node)
        add_named(d, private, "node", c->node, c->node_uid);
    if (*c->bound_kind) /* "Pod" becomes "pod" */
        add_named(d, private,
                  str_eq(c->bound_kind, "Pod")      ? "pod"
                  : str_eq(c->bound_kind, "Secret") ? "secret"
                                                    : "node",
                  c->bound_name, c->bound_uid);
    add_named(d, private, "serviceaccount", c->account, c->account_uid);
    json_set_int(d, root, "nbf", c->now);
    json_set_str(d, root, "sub", subject);
    return json_write_mut(root, len);
}

int account_token_make(struct apiserver *s, const struct token_claims *claims, char **out, struct error *err) {
    unsigned char signature[ES256_SIZE];
    size_t len;
    _cleanup_(free_p) char *body = claims_text(claims, &len);
    _cleanup_(free_p) char *head = xasprintf("{\"alg\":\"ES256\",\"kid\":\"%s\"}", s->tokens->key_id);
    _cleanup_(buf_free_secret) struct buf token = BUF_INIT(TOKEN_MAX);
    base64url_encode(bytes_str(head), &token);
    buf_add_char(&token, '.');
    base64url_encode(bytes_of(body, len), &token);
    if (es256_sign(s->tokens->key, buf_bytes(&token), signature, err) < 0)
        return -1;
    buf_add_char(&token, '.');
    base64url_encode(bytes_of(signature, sizeof(signature)), &token);
    if (buf_check(&token, err, "token") < 0)
        return -1;
    *out = buf_take(&token, NULL);
    return 0;
}

/* ---- checking --------------------------------------------------------------------------------------------------- */

static int denied(struct error *err, const char *why) {
    return error_set(err, ERR_DENIED, "%s", why);
}

static yyjson_doc *decode(struct bytes part) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(TOKEN_MAX);
    return base64url_decode(part, &text) < 0 ? NULL : json_parse(buf_bytes(&text), TOKEN_MAX, NULL);
}

/* The signature costs a tenth of a millisecond; a token that was right once stays so, as far as that goes. */
static bool signature_good(struct token_keeper *k, struct bytes token, struct bytes parts[3]) {
    unsigned char hash[32];
    if (sha256(token, hash) < 0)
        return false;
    unsigned char *known = k->good[(hash[0] | (unsigned)hash[1] << 8) % KNOWN_GOOD];
    if (memcmp(known, hash, sizeof(hash)) == 0)
        return true;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *head = decode(parts[0]);
    _cleanup_(buf_free) struct buf signature = BUF_INIT(2 * ES256_SIZE);
    if (!str_eq(json_str(yyjson_doc_get_root(head), "alg"), "ES256") || base64url_decode(parts[2], &signature) < 0 ||
        !es256_verify(k->key, bytes_of(token.ptr, parts[0].len + 1 + parts[1].len), buf_bytes(&signature)))
        return false;
    memcpy(known, hash, sizeof(hash));
    return true;
}

static bool list_has(yyjson_val *list, const char *value) {
    size_t i, n;
    yyjson_val *v;
    yyjson_arr_foreach (list, i, n, v)
        if (yyjson_equals_str(v, value))
            return true;
    return false;
}

static int check_audiences(yyjson_val *claims, const struct strlist *wanted, struct strlist *matched,
                           struct error *err) {
    yyjson_val *aud = json_get(claims, "aud");
    bool any = false;
    if (wanted->count == 0) {
        any = list_has(aud, TOKEN_ISSUER);
        if (any && matched)
            strlist_add(matched, TOKEN_ISSUER);
    }
    for (size_t i = 0; i < wanted->count; i++)
        if (list_has(aud, wanted->items[i])) {
            any = true;
            if (matched)
                strlist_add(matched, wanted->items[i]);
        }
    return any ? 0 : denied(err, "the token is not for this audience");
}

static int check_times(yyjson_val *claims, struct error *err) {
    int64_t now = clock_wall_s();
    if (json_int_or(json_get(claims, "exp"), 0) <= now)
        return error_set(err, ERR_EXPIRED, "service account token has expired");
    if (json_int_or(json_get(claims, "nbf"), 0) > now + GONE_GRACE_S)
        return denied(err, "the token is not valid yet");
    return 0;
}

/* The object is there, is the one that was meant, and was not deleted a while ago. */
static int check_there(struct apiserver *s, const char *plural, const char *ns, yyjson_val *claim, struct error *err) {
    const char *name = str_or(json_str(claim, "name"), "");
    struct record *rec = storage_get(storage_resource(s->storage, "", plural), ns, name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = rec ? record_parse(rec) : NULL;
    yyjson_val *o = yyjson_doc_get_root(doc);
    int64_t deleted;
    if (!o || !str_eq(object_uid(o), json_str(claim, "uid")))
        return error_set(err, ERR_DENIED, "%s \"%.253s\" of the token is gone", plural, name);
    const char *when = json_str(o, "metadata", "deletionTimestamp");
    if (when && (rfc3339_parse(bytes_str(when), &deleted) < 0 || deleted / 1000000000 + GONE_GRACE_S < clock_wall_s()))
        return error_set(err, ERR_DENIED, "%s \"%.253s\" of the token was deleted", plural, name);
    return 0;
}

static int check_bound(struct apiserver *s, yyjson_val *private, const char *ns, struct error *err) {
    yyjson_val *pod = json_get(private, "pod"), *secret = json_get(private, "secret"),
               *node = json_get(private, "node");
    if (pod && check_there(s, "pods", ns, pod, err) < 0)
        return -1;
    if (secret && check_there(s, "secrets", ns, secret, err) < 0)
        return -1;
    /* Where the token is bound to a pod, the node only tells where that pod was. */
    return node && !pod ? check_there(s, "nodes", "", node, err) : 0;
}

static void add_extra(struct identity *out, yyjson_val *claims) {
    static const char *const kinds[] = {"node", "pod"};
    yyjson_val *private = json_get(claims, "kubernetes.io");
    _cleanup_(free_p) char *id = xasprintf("JTI=%s", str_or(json_str(claims, "jti"), ""));
    identity_add_extra(out, "authentication.kubernetes.io/credential-id", id);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        yyjson_val *o = json_get(private, kinds[i]);
        _cleanup_(free_p) char *name = xasprintf("authentication.kubernetes.io/%s-name", kinds[i]),
                               *uid = xasprintf("authentication.kubernetes.io/%s-uid", kinds[i]);
        if (!o)
            continue;
        identity_add_extra(out, name, str_or(json_str(o, "name"), ""));
        identity_add_extra(out, uid, str_or(json_str(o, "uid"), ""));
    }
}

int account_token_check(struct apiserver *s, struct bytes token, const struct strlist *audiences, struct identity *out,
                        struct strlist *matched, struct error *err) {
    struct bytes parts[3];
    if (token.len > TOKEN_MAX || bytes_split(token, '.', parts, 3) != 3)
        return denied(err, "the token is malformed");
    if (!signature_good(s->tokens, token, parts))
        return denied(err, "the token was not signed by this server");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = decode(parts[1]);
    yyjson_val *claims = yyjson_doc_get_root(doc), *private = json_get(claims, "kubernetes.io");
    const char *ns = json_str(private, "namespace"), *name = json_str(private, "serviceaccount", "name");
    if (str_empty(ns) || str_empty(name) || !str_eq(json_str(claims, "iss"), TOKEN_ISSUER))
        return denied(err, "the token is not of a service account");
    if (check_times(claims, err) < 0 || check_audiences(claims, audiences, matched, err) < 0 ||
        check_there(s, "serviceaccounts", ns, json_get(private, "serviceaccount"), err) < 0 ||
        check_bound(s, private, ns, err) < 0)
        return -1;
    identity_set_account(out, ns, name);
    out->uid = xstrdup(json_str(private, "serviceaccount", "uid"));
    add_extra(out, claims);
    return 0;
}

/* ---- documents -------------------------------------------------------------------------------------------------- */

void account_token_jwks(const struct apiserver *s, struct buf *out) {
    unsigned char x[32], y[32];
    es256_point(s->tokens->key, x, y);
    buf_addf(out,
             "{\"keys\":[{\"use\":\"sig\",\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"P-256\",\"alg\":\"ES256\",\"x\":\"",
             s->tokens->key_id);
    base64url_encode(bytes_of(x, sizeof(x)), out);
    buf_add_str(out, "\",\"y\":\"");
    base64url_encode(bytes_of(y, sizeof(y)), out);
    buf_add_str(out, "\"}]}");
}

void account_token_configuration(struct buf *out) {
    buf_add_str(out, "{\"issuer\":\"" TOKEN_ISSUER "\",\"jwks_uri\":\"" TOKEN_ISSUER
                     "/openid/v1/jwks\",\"response_types_supported\":[\"id_token\"],"
                     "\"subject_types_supported\":[\"public\"],"
                     "\"id_token_signing_alg_values_supported\":[\"ES256\"]}");
}
