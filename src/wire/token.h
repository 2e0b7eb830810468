/* Join tokens (wire-protocol.md 4.4): <caHash>.<jwt header>.<jwt claims>.<jwt signature>. Sans-IO: the clock is passed
 * in. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>

#define JOIN_TOKEN_MAX 4096

/* Appends a whole join token that expires at `expires` (Unix seconds). key: CA private key, SEC 1 DER. */
int join_token_new(struct bytes ca_cert_der, struct bytes key_der, int64_t expires, struct buf *out,
                   struct error *err) MUST_CHECK;
/* Edge side: splits, compares the first part with the hash of the CA certificate it received (ERR_DENIED on mismatch),
 * and gives the JWT to send as bearer token (a view into token). */
int join_token_check_ca(struct bytes token, struct bytes ca_cert_der, struct bytes *jwt, struct error *err) MUST_CHECK;
/* Cloud side: verifies the three-part JWT: HS256 only, signature, exp required. ERR_DENIED, ERR_EXPIRED, ERR_INVALID
 * with the texts of wire-protocol.md 4.3. */
int join_token_verify(struct bytes jwt, struct bytes key_der, int64_t now, struct error *err) MUST_CHECK;
