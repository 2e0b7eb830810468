#define LOG_COMPONENT "edgehub"

#include "edge/edgehub/certificates.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/http_client.h"
#include "wire/token.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEM_MAX (1u << 20)
#define ANSWER_MAX (1u << 20)
#define CALL_TIMEOUT_MS 30000
#define CHECK_EVERY_MS (3600 * 1000) /* the wall clock may jump: it is looked at again at least so often */

enum step {
    STEP_IDLE,
    STEP_CA,   /* fetching /ca.crt, to be checked against the token */
    STEP_JOIN, /* /edge.crt with the token */
    STEP_RENEW /* /edge.crt with our certificate */
};

struct certificates {
    struct loop *loop;
    const struct edge_config *config;
    const struct certificates_handlers *handlers;
    void *arg;
    struct buf ca, cert, key; /* PEM, as in the files */
    enum certificate_state state;
    int64_t renew_at; /* Unix seconds */

    enum step step;
    struct timer *timer; /* next step, next try, next renewal */
    struct backoff backoff;
    bool token_tried; /* by certificates_rejoin */
    struct http_client *http;
    struct http_call *call;
    struct buf new_ca, new_key;
    struct log_once trouble;
};

enum certificate_state certificate_judge(struct bytes cert_pem, struct bytes key_pem, const char *node, int64_t now,
                                         struct error *why) {
    struct x509_info info;
    if (x509_cert_info(cert_pem, &info, why) < 0 || x509_check_pair(cert_pem, key_pem, why) < 0)
        return CERTIFICATE_MISSING;
    _cleanup_(free_p) char *expected = xasprintf("system:node:%s", node);
    if (strcmp(info.subject.common_name, expected) != 0) {
        (void)error_set(why, ERR_DENIED, "it is for %s, and this node is %s", info.subject.common_name, expected);
        return CERTIFICATE_FOREIGN;
    }
    if (now > info.not_after) {
        char when[RFC3339_SIZE];
        (void)error_set(why, ERR_EXPIRED, "it expired on %s", rfc3339_seconds(info.not_after, when));
        return CERTIFICATE_EXPIRED;
    }
    return CERTIFICATE_VALID;
}

int64_t certificate_renewal_time(int64_t not_before, int64_t not_after, double fraction) {
    int64_t tenth = (not_after - not_before) / 10;
    return not_before + 7 * tenth + (int64_t)((double)tenth * fraction);
}

/* ---- files ---- */

/* While a new pair is put in place the new key waits beside the old one, so that a crash in between leaves a pair. */
static char *new_key_path(const struct certificates *c) {
    return xasprintf("%s.new", c->config->hub.key_file);
}

static int write_files(struct certificates *c, struct bytes cert_pem, struct error *err) {
    const struct edgehub_config *f = &c->config->hub;
    const char *const files[] = {f->ca_file, f->cert_file, f->key_file};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        _cleanup_(free_p) char *path = xstrdup(files[i]);
        if (dir_make(dirname(path), 0700, err) < 0)
            return -1;
    }
    _cleanup_(free_p) char *new_key = new_key_path(c);
    if (c->new_ca.len > 0 && file_write_atomic(f->ca_file, buf_bytes(&c->new_ca), 0600, err) < 0)
        return -1;
    if (file_write_atomic(new_key, buf_bytes(&c->new_key), 0600, err) < 0 ||
        file_write_atomic(f->cert_file, cert_pem, 0600, err) < 0)
        return -1;
    if (rename(new_key, f->key_file) < 0)
        return error_set_errno(err, errno, "put %s in place", f->key_file);
    return 0;
}

static int read_pem(const char *path, struct buf *out, struct error *err) {
    buf_free_secret(out);
    buf_init(out, PEM_MAX);
    return file_read(path, out, err);
}

static void plan_renewal(struct certificates *c) {
    struct x509_info info;
    if (x509_cert_info(buf_bytes(&c->cert), &info, NULL) < 0)
        return;
    double fraction = (double)random_below(1000) / 1000;
    c->renew_at = certificate_renewal_time(info.not_before, info.not_after, fraction);
}

/* A renewal that was cut short after the certificate was written: its key is still beside. */
static void finish_renewal(struct certificates *c) {
    _cleanup_(free_p) char *path = new_key_path(c);
    _cleanup_(buf_free_secret) struct buf key = BUF_INIT(PEM_MAX);
    if (file_read(path, &key, NULL) < 0 || x509_check_pair(buf_bytes(&c->cert), buf_bytes(&key), NULL) < 0)
        return;
    if (rename(path, c->config->hub.key_file) == 0)
        (void)buf_add_bytes((buf_clear(&c->key), &c->key), buf_bytes(&key));
}

static enum certificate_state load(struct certificates *c, struct error *why) {
    const struct edgehub_config *f = &c->config->hub;
    if (read_pem(f->ca_file, &c->ca, why) < 0 || read_pem(f->cert_file, &c->cert, why) < 0 ||
        (read_pem(f->key_file, &c->key, why) < 0 && access(f->key_file, F_OK) == 0))
        return CERTIFICATE_MISSING;
    if (x509_check_pair(buf_bytes(&c->cert), buf_bytes(&c->key), NULL) < 0)
        finish_renewal(c);
    enum certificate_state state =
        certificate_judge(buf_bytes(&c->cert), buf_bytes(&c->key), c->config->edged.node_name, clock_wall_s(), why);
    if (state == CERTIFICATE_VALID)
        plan_renewal(c);
    return state;
}

/* ---- asking the cloud ---- */

static void drop_call(struct certificates *c) {
    if (c->call)
        http_call_cancel(TAKE(c->call));
    if (c->http)
        http_client_free(TAKE(c->http));
}

static void settle(struct certificates *c) {
    int64_t wait_s = c->renew_at - clock_wall_s();
    int64_t ms = wait_s < 0 ? 0 : wait_s * 1000;
    c->step = STEP_IDLE;
    if (c->http) /* to be freed, but not from inside its own callback */
        ms = 0;
    timer_set(c->timer, ms < CHECK_EVERY_MS ? ms : CHECK_EVERY_MS);
}

static void retry(struct certificates *c, const struct error *why, const char *advice) {
    int64_t ms = backoff_next_ms(&c->backoff);
    log_once_failed(&c->trouble, LOG_COMPONENT, "%s server=%s: %s; %s",
                    c->step == STEP_RENEW ? "the certificate could not be renewed" : "cannot join the cloud",
                    c->config->hub.http_server, error_text(why), advice);
    c->step = c->step == STEP_RENEW ? STEP_RENEW : STEP_CA;
    timer_set(c->timer, ms);
}

static const char *advice_for(const struct error *why) {
    switch (why->code) {
    case ERR_TIMEOUT:
    case ERR_UNAVAILABLE:
        return "trying again; check modules.edgeHub.httpServer and the network";
    case ERR_DENIED:
        return "get a fresh token with `keadm gettoken`, put it in modules.edgeHub.token and restart edgecore; trying "
               "again";
    case ERR_IO:
        return "make room, or make the folder writable; trying again";
    default:
        return "trying again";
    }
}

static void accept_certificate(struct certificates *c, struct bytes der) {
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf pem = BUF_INIT(PEM_MAX);
    struct x509_info info;
    bool joined = c->step == STEP_JOIN;
    if (x509_cert_der_to_pem(der, &pem, &err) < 0 || x509_cert_info(buf_bytes(&pem), &info, &err) < 0 ||
        x509_check_pair(buf_bytes(&pem), buf_bytes(&c->new_key), &err) < 0) {
        (void)error_wrap(&err, "the cloud's answer is not our certificate");
        retry(c, &err, "trying again");
        return;
    }
    if (write_files(c, buf_bytes(&pem), &err) < 0) {
        retry(c, &err, advice_for(&err));
        return;
    }
    buf_free_secret(&c->new_key);
    buf_init(&c->new_key, PEM_MAX);
    buf_clear(&c->new_ca);
    c->state = load(c, &err);
    if (c->state != CERTIFICATE_VALID) {
        retry(c, &err, "trying again");
        return;
    }
    char until[RFC3339_SIZE];
    log_once_recovered(&c->trouble, LOG_COMPONENT, "the cloud answers server=%s", c->config->hub.http_server);
    log_info("certificate %s node=%s valid_until=%s", joined ? "obtained" : "renewed", c->config->edged.node_name,
             rfc3339_seconds(info.not_after, until));
    backoff_reset(&c->backoff);
    settle(c);
    if (joined)
        c->handlers->joined(c->arg);
    c->handlers->ready(c->arg);
}

static void accept_ca(struct certificates *c, struct bytes der) {
    struct error err = ERROR_INIT;
    struct bytes jwt;
    if (join_token_check_ca(bytes_str(c->config->hub.token), der, &jwt, &err) < 0) {
        retry(c, &err, advice_for(&(struct error){.code = ERR_DENIED}));
        return;
    }
    buf_clear(&c->new_ca);
    if (x509_cert_der_to_pem(der, &c->new_ca, &err) < 0) {
        retry(c, &err, "trying again");
        return;
    }
    c->step = STEP_JOIN;
    timer_set(c->timer, 0);
}

static void call_done(void *arg, const struct http_result *r) {
    struct certificates *c = arg;
    struct error err = ERROR_INIT;
    c->call = NULL;
    if (r->status == 0) {
        err = r->error;
        retry(c, &err, advice_for(&err));
    } else if (r->status != 200) {
        struct bytes text = bytes_trim(r->body);
        (void)error_set(&err, r->status == 401 || r->status == 403 ? ERR_DENIED : ERR_INTERNAL, "HTTP %d: %.*s",
                        r->status, text.len > 300 ? 300 : (int)text.len, text.len ? text.ptr : "");
        retry(c, &err, advice_for(&err));
    } else if (c->step == STEP_CA) {
        accept_ca(c, r->body);
    } else {
        accept_certificate(c, r->body);
    }
}

static int start_call(struct certificates *c, const char *path, const char *const *headers, struct bytes body,
                      const struct tls_client_options *tls, struct error *err) {
    struct http_client_options o = {.tls = *tls, .user_agent = "selvage-edgecore/" SELVAGE_VERSION};
    drop_call(c);
    c->http = http_client_new(c->loop, &o, err);
    if (!c->http)
        return -1;
    _cleanup_(free_p) char *url = xasprintf("%s%s", c->config->hub.http_server, path);
    struct http_call_options call = {.method = "GET",
                                     .url = url,
                                     .headers = headers,
                                     .body = body,
                                     .max_body = ANSWER_MAX,
                                     .timeout_ms = CALL_TIMEOUT_MS,
                                     .done = call_done,
                                     .arg = c};
    c->call = http_call(c->http, &call, err);
    return c->call ? 0 : -1;
}

static int ask_ca(struct certificates *c, struct error *err) {
    return start_call(c, "/ca.crt", NULL, BYTES_EMPTY, &(struct tls_client_options){.insecure_bootstrap = true}, err);
}

static int ask_certificate(struct certificates *c, struct error *err) {
    struct x509_subject subject = {.organization = "system:nodes"};
    const char *node = c->config->edged.node_name;
    (void)snprintf(subject.common_name, sizeof(subject.common_name), "system:node:%s", node);
    _cleanup_(buf_free) struct buf csr = BUF_INIT(PEM_MAX);
    buf_clear(&c->new_key);
    if (x509_new_key(&c->new_key, err) < 0 || x509_new_csr(buf_bytes(&c->new_key), &subject, &csr, err) < 0)
        return -1;
    _cleanup_(free_p) char *name = xasprintf("NodeName: %s", node), *bearer = NULL;
    const char *headers[] = {name, NULL, NULL};
    struct tls_client_options tls = {.ca_pem = buf_bytes(&c->ca)};
    if (c->step == STEP_JOIN) {
        struct bytes hash, jwt;
        if (!bytes_cut(bytes_str(c->config->hub.token), '.', &hash, &jwt))
            return error_set(err, ERR_INVALID, "the join token has no dot in it");
        bearer = xasprintf("Authorization: Bearer %.*s", (int)jwt.len, jwt.ptr);
        headers[1] = bearer;
        tls.ca_pem = buf_bytes(&c->new_ca);
    } else {
        tls.cert_pem = buf_bytes(&c->cert);
        tls.key_pem = buf_bytes(&c->key);
    }
    int rc = start_call(c, "/edge.crt", headers, buf_bytes(&csr), &tls, err);
    if (bearer)
        explicit_bzero(bearer, strlen(bearer));
    return rc;
}

static void step(void *arg) {
    struct certificates *c = arg;
    struct error err = ERROR_INIT;
    drop_call(c);
    if (c->step == STEP_IDLE) {
        if (!c->config->hub.rotate_certificates || clock_wall_s() < c->renew_at) {
            settle(c);
            return;
        }
        c->step = STEP_RENEW;
        c->backoff = BACKOFF(2000, CHECK_EVERY_MS);
    }
    int rc = c->step == STEP_CA ? ask_ca(c, &err) : ask_certificate(c, &err);
    if (rc < 0)
        retry(c, &err, "trying again");
}

static void start_join(struct certificates *c) {
    c->step = STEP_CA;
    c->backoff = BACKOFF(1000, 30000);
    timer_set(c->timer, 0);
}

/* ---- public ---- */

static const char *const STATE_TEXT[] = {"missing", "for another node", "expired", "valid"};

/* An expired certificate is tried where nothing better is at hand: it may be our clock that is wrong. */
static bool can_start(const struct certificates *c) {
    return c->state == CERTIFICATE_VALID || c->state == CERTIFICATE_EXPIRED || *c->config->hub.token;
}

struct certificates *certificates_new(struct loop *l, const struct edge_config *config,
                                      const struct certificates_handlers *h, void *arg, struct error *err) {
    struct certificates *c = NEW(struct certificates);
    struct error why = ERROR_INIT;
    c->loop = l;
    c->config = config;
    c->handlers = h;
    c->arg = arg;
    buf_init(&c->ca, PEM_MAX);
    buf_init(&c->cert, PEM_MAX);
    buf_init(&c->key, PEM_MAX);
    buf_init(&c->new_ca, PEM_MAX);
    buf_init(&c->new_key, PEM_MAX);
    c->timer = timer_new(l, step, c);
    c->state = load(c, &why);
    if (!can_start(c)) {
        (void)error_set(err, ERR_DENIED,
                        "the certificate %s is %s (%s), and there is no join token: put one from `keadm gettoken` into "
                        "modules.edgeHub.token of %s",
                        config->hub.cert_file, STATE_TEXT[c->state], error_text(&why), config->path);
        certificates_free(c);
        return NULL;
    }
    if (c->state != CERTIFICATE_VALID)
        log_info("the certificate is %s, joining with the token file=%s: %s", STATE_TEXT[c->state],
                 config->hub.cert_file, error_text(&why));
    return c;
}

void certificates_start(struct certificates *c) {
    if (c->state == CERTIFICATE_VALID) {
        settle(c);
        c->handlers->ready(c->arg);
    } else if (*c->config->hub.token) {
        start_join(c);
    } else {
        log_error("the certificate has expired, and there is no token to join again with: the cloud will refuse it "
                  "unless our clock is wrong; put a token from `keadm gettoken` into modules.edgeHub.token file=%s",
                  c->config->hub.cert_file);
        c->handlers->ready(c->arg);
    }
}

bool certificates_rejoin(struct certificates *c) {
    if (c->token_tried || c->step != STEP_IDLE || !*c->config->hub.token)
        return false;
    c->token_tried = true;
    start_join(c);
    return true;
}

struct tls_ctx *certificates_tls(const struct certificates *c, struct error *err) {
    struct tls_client_options o = {
        .ca_pem = buf_bytes(&c->ca), .cert_pem = buf_bytes(&c->cert), .key_pem = buf_bytes(&c->key)};
    return tls_client_ctx(&o, err);
}

void certificates_free(struct certificates *c) {
    if (!c)
        return;
    drop_call(c);
    timer_free(c->timer);
    buf_free(&c->ca);
    buf_free(&c->cert);
    buf_free_secret(&c->key);
    buf_free(&c->new_ca);
    buf_free_secret(&c->new_key);
    free(c);
}
