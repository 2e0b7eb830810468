/* Certificate requests and certificates from the network. */
#include "net/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct x509_subject subject;
    struct x509_info info;
    struct buf out = BUF_INIT(1 << 20);
    struct bytes in = bytes_of(data, size);
    (void)!x509_csr_subject(in, &subject, NULL);
    (void)!x509_cert_info(in, &info, NULL);
    (void)!x509_cert_der_to_pem(in, &out, NULL);
    buf_free(&out);
    return 0;
}
