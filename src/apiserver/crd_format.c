/* The formats of structural schemas that are checked; others, as int32, say nothing about a string. */
#include "apiserver/crd.h"
#include "base/clock.h"
#include "base/str.h"

#include <arpa/inet.h>

#define BYTES_FORMAT_MAX (4u << 20)

static bool is_date_time(const char *s) {
    int64_t ns;
    return rfc3339_parse(bytes_str(s), &ns) == 0;
}

static bool is_date(const char *s) {
    _cleanup_(free_p) char *time = xasprintf("%.16sT00:00:00Z", s);
    return strlen(s) == 10 && is_date_time(time);
}

static bool is_duration(const char *s) {
    int64_t ns;
    return parse_duration(bytes_str(s), &ns) == 0;
}

static bool is_base64(const char *s) {
    _cleanup_(buf_free) struct buf raw = BUF_INIT(BYTES_FORMAT_MAX);
    return base64_decode(bytes_str(s), &raw) == 0;
}

static bool is_ipv4(const char *s) {
    struct in_addr a;
    return inet_pton(AF_INET, s, &a) == 1;
}

static bool is_ipv6(const char *s) {
    struct in6_addr a;
    return inet_pton(AF_INET6, s, &a) == 1;
}

static bool is_ip(const char *s) {
    return is_ipv4(s) || is_ipv6(s);
}

static bool is_cidr(const char *s) {
    struct bytes address, prefix;
    int64_t bits;
    if (!bytes_cut(bytes_str(s), '/', &address, &prefix))
        return false;
    _cleanup_(free_p) char *text = bytes_dup(address);
    return (is_ipv4(text) && parse_i64(prefix, 0, 32, &bits) == 0) ||
           (is_ipv6(text) && parse_i64(prefix, 0, 128, &bits) == 0);
}

/* Does it look like the example, with hexadecimal digits where that has them? */
static bool is_like(const char *s, const char *example) {
    static const char digits[] = "0123456789abcdefABCDEF";
    for (; *s && *example; s++, example++)
        if (*example == '0' ? !strchr(digits, *s) : *s != *example)
            return false;
    return !*s && !*example;
}

static bool is_uuid(const char *s) {
    return is_like(s, "00000000-0000-0000-0000-000000000000");
}

static bool is_mac(const char *s) {
    return is_like(s, "00:00:00:00:00:00") || is_like(s, "00-00-00-00-00-00");
}

static bool is_hostname(const char *s) {
    struct bytes rest = bytes_str(s), label;
    if (rest.len == 0 || rest.len > 253)
        return false;
    for (bool more = true; more;) {
        more = bytes_cut(rest, '.', &label, &rest);
        if (label.len == 0 || label.len > 63 || label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
            return false;
        for (size_t i = 0; i < label.len; i++) {
            char c = label.ptr[i];
            if (c != '-' && !(c >= '0' && c <= '9') && !((c | 32) >= 'a' && (c | 32) <= 'z'))
                return false;
        }
    }
    return true;
}

static bool is_email(const char *s) {
    const char *at = strrchr(s, '@');
    return at && at != s && is_hostname(at + 1) && !strpbrk(s, " \t\r\n");
}

static bool is_uri(const char *s) {
    const char *colon = strchr(s, ':');
    return (colon && colon != s && !strpbrk(s, " \t\r\n<>")) || *s == '/';
}

bool crd_format_fits(const char *format, const char *text) {
    static const struct {
        const char *name;
        bool (*fits)(const char *text);
    } formats[] = {
        {"byte", is_base64},
        {"cidr", is_cidr},
        {"date", is_date},
        {"date-time", is_date_time},
        {"datetime", is_date_time},
        {"duration", is_duration},
        {"email", is_email},
        {"hostname", is_hostname},
        {"ip", is_ip},
        {"ipv4", is_ipv4},
        {"ipv6", is_ipv6},
        {"mac", is_mac},
        {"uri", is_uri},
        {"uuid", is_uuid},
    };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (str_eq(format, formats[i].name))
            return formats[i].fits(text);
    return true;
}
