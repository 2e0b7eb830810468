/* RFC 3339, Go durations, numbers and names. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes in = bytes_of(data, size);
    int64_t ns, back, number;
    uint64_t count;
    bool flag;
    if (rfc3339_parse(in, &ns) == 0) {
        char text[RFC3339_SIZE];
        if (rfc3339_parse(bytes_str(rfc3339_nano(ns, text)), &back) < 0 || back != ns)
            panic("a time changed on its way");
    }
    if (parse_duration(in, &ns) == 0) {
        char text[40];
        snprintf(text, sizeof(text), "%lldns", (long long)ns);
        if (ns != INT64_MIN && (parse_duration(bytes_str(text), &back) < 0 || back != ns))
            panic("a duration changed on its way");
    }
    if (parse_i64(in, -1000, 1000, &number) == 0 && (number < -1000 || number > 1000))
        panic("a number is out of bounds");
    (void)parse_u64(in, UINT64_MAX, &count);
    (void)parse_bool(in, &flag);
    if (dns_label_valid(in) && (!dns_subdomain_valid(in) || !label_value_valid(in)))
        panic("a DNS label must be a subdomain and a label value");
    (void)qualified_name_valid(in);
    return 0;
}
