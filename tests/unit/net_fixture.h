/* What the tests of net/ share: a loop that gives up instead of hanging, and a small PKI. */
#pragma once

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "base/bytes.h"
#include "base/mem.h"
#include "net/loop.h"
#include "net/tls.h"

#include <stdio.h>

struct fixture_guard {
    struct loop *loop;
    bool fired;
};

static inline void fixture_gave_up(void *arg) {
    struct fixture_guard *g = arg;
    g->fired = true;
    loop_stop(g->loop);
}

/* Runs the loop until somebody calls loop_stop; fails the test when nobody does. */
static inline void run_loop(struct loop *l) {
    struct fixture_guard guard = {.loop = l};
    struct timer *t = timer_new(l, fixture_gave_up, &guard);
    timer_set(t, 20 * 1000);
    loop_run(l);
    timer_free(t);
    assert_false(guard.fired);
}

/* Lets everything that is due happen: for "and nothing more is called". */
static inline void fixture_stop(void *arg) {
    loop_stop(arg);
}
static inline void settle(struct loop *l, int ms) {
    struct timer *t = timer_new(l, fixture_stop, l);
    timer_set(t, ms);
    loop_run(l);
    timer_free(t);
}

struct pki {
    struct buf ca_key, ca, server_key, server, client_key, client;
};

static inline void pki_free(struct pki *p) {
    struct buf *all[] = {&p->ca_key, &p->ca, &p->server_key, &p->server, &p->client_key, &p->client};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_free(all[i]);
}

static inline void pki_make(struct pki *p, const char *server_san, const char *node) {
    struct error err = ERROR_INIT;
    struct buf *all[] = {&p->ca_key, &p->ca, &p->server_key, &p->server, &p->client_key, &p->client};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_init(all[i], 16 * 1024);
    assert_int_equal(x509_new_key(&p->ca_key, &err), 0);
    assert_int_equal(x509_new_ca("KubeEdge", buf_bytes(&p->ca_key), &p->ca, &err), 0);
    const char *sans[] = {"", server_san, "127.0.0.1", NULL};
    struct x509_sign sign = {
        .ca_cert_pem = buf_bytes(&p->ca),
        .ca_key_pem = buf_bytes(&p->ca_key),
        .lifetime_s = 3600,
        .server_auth = true,
        .sans = sans,
    };
    struct x509_subject server = {.common_name = "KubeEdge", .organization = "KubeEdge"};
    assert_int_equal(x509_new_key(&p->server_key, &err), 0);
    assert_int_equal(x509_sign_key(&sign, buf_bytes(&p->server_key), &server, &p->server, &err), 0);
    struct x509_subject client = {.organization = "system:nodes"};
    snprintf(client.common_name, sizeof(client.common_name), "system:node:%s", node);
    sign.server_auth = false;
    sign.client_auth = true;
    sign.sans = NULL;
    assert_int_equal(x509_new_key(&p->client_key, &err), 0);
    assert_int_equal(x509_sign_key(&sign, buf_bytes(&p->client_key), &client, &p->client, &err), 0);
}

static inline struct tls_ctx *pki_server_ctx(const struct pki *p, bool require_client) {
    struct error err = ERROR_INIT;
    struct tls_server_options o = {
        .cert_pem = buf_bytes(&p->server),
        .key_pem = buf_bytes(&p->server_key),
        .client_ca_pem = buf_bytes(&p->ca),
        .require_client_cert = require_client,
    };
    struct tls_ctx *c = tls_server_ctx(&o, &err);
    if (!c)
        fail_msg("%s", err.msg);
    return c;
}

static inline struct tls_ctx *pki_client_ctx(const struct pki *p, bool with_cert) {
    struct error err = ERROR_INIT;
    struct tls_client_options o = {.ca_pem = buf_bytes(&p->ca)};
    if (with_cert) {
        o.cert_pem = buf_bytes(&p->client);
        o.key_pem = buf_bytes(&p->client_key);
    }
    struct tls_ctx *c = tls_client_ctx(&o, &err);
    if (!c)
        fail_msg("%s", err.msg);
    return c;
}
