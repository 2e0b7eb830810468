/* The node's certificate: read from its files, obtained with a join token, renewed before it expires
 * (wire-protocol.md 4.2 to 4.6, 6.2, 6.3). Loop thread. */
#pragma once

#include "edge/edge_config.h"
#include "net/loop.h"
#include "net/tls.h"

struct certificates;

struct certificates_handlers {
    /* There is a certificate to connect with: told after start, after joining, after each renewal. */
    void (*ready)(void *arg);
    /* The certificate was obtained with the token, which has served. */
    void (*joined)(void *arg);
};

enum certificate_state {
    CERTIFICATE_MISSING, /* no files, or not readable, or key and certificate do not belong together */
    CERTIFICATE_FOREIGN, /* names another node */
    CERTIFICATE_EXPIRED,
    CERTIFICATE_VALID, /* also if it is not valid yet: then it is our clock that is wrong */
};

/* Reads the files. Fails where there is neither a usable certificate nor a token, with what to do. */
struct certificates *certificates_new(struct loop *l, const struct edge_config *c,
                                      const struct certificates_handlers *h, void *arg, struct error *err) MUST_CHECK;
void certificates_start(struct certificates *c);
/* The cloud refuses us: joins anew if there is a token that was not tried yet. False if there is none. */
bool certificates_rejoin(struct certificates *c);
/* A context with our identity and the cloud's CA; the caller owns it. */
struct tls_ctx *certificates_tls(const struct certificates *c, struct error *err) MUST_CHECK;
void certificates_free(struct certificates *c);

/* For tests: what the files hold at time now (Unix seconds). why says what is wrong. */
enum certificate_state certificate_judge(struct bytes cert_pem, struct bytes key_pem, const char *node, int64_t now,
                                         struct error *why);
/* When to renew, between 70 and 80 % of the life; fraction in [0, 1]. */
int64_t certificate_renewal_time(int64_t not_before, int64_t not_after, double fraction);
