/* The host's resolv.conf, and what becomes of it: bounded lists of single words. */
#include "base/mem.h"
#include "edge/edged/pod_config.h"

static void check(const struct strlist *list) {
    for (size_t i = 0; i < list->count; i++)
        if (!*list->items[i] || strpbrk(list->items[i], " \t\n"))
            panic("no word: \"%s\"", list->items[i]);
    if (list->count > 64)
        panic("%zu words", list->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dns_settings dns = {0};
    resolv_conf_parse(bytes_of(data, size), &dns);
    check(&dns.host_servers);
    check(&dns.host_searches);
    check(&dns.host_options);
    dns_settings_free(&dns);
    return 0;
}
