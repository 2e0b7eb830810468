/* OpenSSL objects with clean-up, and the readers that tls.c and x509.c share. Private to net/. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

DEFINE_CLEANUP(ASN1_TIME, ASN1_TIME_free)
DEFINE_CLEANUP(BIO, BIO_free_all)
DEFINE_CLEANUP(EVP_PKEY, EVP_PKEY_free)
DEFINE_CLEANUP(X509, X509_free)
DEFINE_CLEANUP(X509_REQ, X509_REQ_free)
DEFINE_CLEANUP(X509_STORE, X509_STORE_free)
DEFINE_CLEANUP(X509_STORE_CTX, X509_STORE_CTX_free)

static inline UNUSED void X509_stack_free_p(STACK_OF(X509) * *stack) {
    sk_X509_pop_free(*stack, X509_free);
    *stack = NULL;
}

/* "<what>: <OpenSSL's reason>", and an empty error queue. Returns -1. */
int openssl_error(struct error *err, enum error_code code, const char *what);

/* At least one certificate, or NULL. */
STACK_OF(X509) * x509_read_pem(struct bytes pem, struct error *err);
/* The first certificate, PEM or DER. */
X509 *x509_read(struct bytes pem_or_der, struct error *err);
EVP_PKEY *key_read_pem(struct bytes pem, struct error *err);
/* A PKCS#10 request whose own signature is right. */
X509_REQ *csr_read(struct bytes der, struct error *err);
/* The certificate as PEM, appended. */
int x509_write_pem(X509 *x, struct buf *out, struct error *err) MUST_CHECK;
/* Common name and first organization. ERR_INVALID: repeated common name, too long, or with a NUL inside. */
struct x509_subject;
int x509_read_name(const X509_NAME *name, struct x509_subject *out, struct error *err) MUST_CHECK;
