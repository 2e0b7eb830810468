/* A kubeconfig: YAML with base64 and names of files in it. */
#include "kube/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct kube_config c;
    struct error err = ERROR_INIT;
    if (kube_config_parse(bytes_of(data, size), "kubeconfig", "/nonexistent", &c, &err) == 0)
        kube_config_free(&c);
    return 0;
}
