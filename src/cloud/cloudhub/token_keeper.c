#define LOG_COMPONENT "cloudhub"
#include "base/clock.h"
#include "base/log.h"
#include "cloud/cloudhub/pki.h"
#include "cloud/cloudhub/secret.h"
#include "kube/object.h"
#include "wire/token.h"

#define TOKEN_SECRET "tokensecret"
#define RETRY_MS 10000

/* Reads the Secret; if its token is ours and lives for another period, leaves it; else writes a new one, under the
 * optimistic lock. Tokens stay valid until they expire, also replaced ones: only the CA key counts. */
struct token_keeper {
    struct kube_client *kube;
    const struct hub_pki *pki;
    const struct cloud_config *config;
    struct timer *timer;
    struct kube_call *call;
    struct log_once failing;
};

static void retry_later(struct token_keeper *t, const struct error *why) {
    log_once_failed(&t->failing, LOG_COMPONENT, "join token not renewed, retrying: %s", error_text(why));
    timer_set(t->timer, RETRY_MS);
}

static void all_well(struct token_keeper *t) {
    log_once_recovered(&t->failing, LOG_COMPONENT, "join token renewed");
    timer_set(t->timer, t->config->hub.token_refresh_hours * 3600 * 1000 / 2);
}

static bool still_good(struct token_keeper *t, yyjson_val *secret) {
    const char *text = json_str(secret, "data", "tokendata");
    _cleanup_(buf_free_secret) struct buf token = BUF_INIT(JOIN_TOKEN_MAX);
    struct bytes jwt;
    if (str_empty(text) || base64_decode(bytes_str(text), &token) < 0)
        return false;
    return join_token_check_ca(buf_bytes(&token), buf_bytes(&t->pki->ca_cert_der), &jwt, NULL) == 0 &&
           join_token_verify(jwt, buf_bytes(&t->pki->ca_key_der),
                             clock_wall_s() + t->config->hub.token_refresh_hours * 3600, NULL) == 0;
}

static void on_written(void *arg, struct kube_result *r) {
    struct token_keeper *t = arg;
    t->call = NULL;
    if (r->error.code == ERR_NONE)
        all_well(t);
    else if (r->status == 409) /* another cloudcore was faster: look at what it wrote */
        timer_set(t->timer, 0);
    else
        retry_later(t, &r->error);
}

static void write_new(struct token_keeper *t, const char *rv) {
    struct error err = ERROR_INIT;
    _cleanup_(buf_free_secret) struct buf token = BUF_INIT(JOIN_TOKEN_MAX);
    if (hub_pki_new_token(t->pki, t->config, &token, &err) < 0) {
        retry_later(t, &err);
        return;
    }
    const struct secret_field field = {"tokendata", buf_bytes(&token)};
    size_t len;
    _cleanup_(free_p) char *text = secret_text(TOKEN_SECRET, rv, &field, 1, &len);
    _cleanup_(free_p) char *path = kube_path("", "v1", PKI_NAMESPACE, "secrets", rv ? TOKEN_SECRET : NULL, NULL);
    const struct kube_request r = {
        .verb = rv ? "PUT" : "POST", .path = path, .body = bytes_of(text, len), .done = on_written, .arg = t};
    t->call = kube_call(t->kube, &r);
}

static void on_read(void *arg, struct kube_result *r) {
    struct token_keeper *t = arg;
    t->call = NULL;
    if (r->error.code == ERR_NOT_FOUND)
        write_new(t, NULL);
    else if (r->error.code != ERR_NONE)
        retry_later(t, &r->error);
    else if (still_good(t, r->body))
        all_well(t);
    else
        write_new(t, object_rv(r->body));
}

static void look(void *arg) {
    struct token_keeper *t = arg;
    _cleanup_(free_p) char *path = kube_path("", "v1", PKI_NAMESPACE, "secrets", TOKEN_SECRET, NULL);
    const struct kube_request r = {.verb = "GET", .path = path, .done = on_read, .arg = t};
    t->call = kube_call(t->kube, &r);
}

struct token_keeper *token_keeper_start(struct loop *l, struct kube_client *k, const struct hub_pki *p,
                                        const struct cloud_config *c) {
    struct token_keeper *t = NEW(struct token_keeper);
    t->kube = k;
    t->pki = p;
    t->config = c;
    t->timer = timer_new(l, look, t);
    timer_set(t->timer, 0);
    return t;
}

void token_keeper_stop(struct token_keeper *t) {
    if (!t)
        return;
    if (t->call)
        kube_call_cancel(t->call);
    timer_free(t->timer);
    free(t);
}
