/* ECDSA with P-256 and SHA-256 as JSON Web Signatures use it (RFC 7518): signatures are 64 bytes, r and s. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#define ES256_SIZE 64

struct es256_key;
/* A private key, as x509_new_key makes it. NULL on failure. */
struct es256_key *es256_key_new(struct bytes key_pem, struct error *err) MUST_CHECK;
void es256_key_free(struct es256_key *k);
int es256_sign(const struct es256_key *k, struct bytes text, unsigned char out[ES256_SIZE],
               struct error *err) MUST_CHECK;
bool es256_verify(const struct es256_key *k, struct bytes text, struct bytes signature);
/* The public key's coordinates, and it as DER (SubjectPublicKeyInfo), whose hash names the key. */
void es256_point(const struct es256_key *k, unsigned char x[32], unsigned char y[32]);
int es256_public_der(const struct es256_key *k, struct buf *out, struct error *err) MUST_CHECK;
