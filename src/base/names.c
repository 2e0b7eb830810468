/* Names as Kubernetes defines them, and UTF-8. */
#include "base/str.h"

static bool is_lower_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c) {
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* [a-z0-9]([-a-z0-9]*[a-z0-9])? */
static bool is_dns_part(struct bytes s) {
    if (s.len == 0 || !is_lower_alnum(s.ptr[0]) || !is_lower_alnum(s.ptr[s.len - 1]))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_lower_alnum(s.ptr[i]) && s.ptr[i] != '-')
            return false;
    return true;
}

bool dns_label_valid(struct bytes s) {
    return s.len <= 63 && is_dns_part(s);
}

bool dns_subdomain_valid(struct bytes s) {
    if (s.len == 0 || s.len > 253)
        return false;
    struct bytes part;
    bool more;
    do {
        more = bytes_cut(s, '.', &part, &s);
        if (!is_dns_part(part))
            return false;
    } while (more);
    return true;
}

/* 1..63 of [A-Za-z0-9_.-], alphanumeric at both ends */
static bool is_name_part(struct bytes s) {
    if (s.len == 0 || s.len > 63 || !is_alnum(s.ptr[0]) || !is_alnum(s.ptr[s.len - 1]))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_alnum(s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '_' && s.ptr[i] != '.')
            return false;
    return true;
}

bool qualified_name_valid(struct bytes s) {
    struct bytes prefix, name;
    if (!bytes_cut(s, '/', &prefix, &name))
        return is_name_part(s);
    return dns_subdomain_valid(prefix) && is_name_part(name);
}

bool label_value_valid(struct bytes s) {
    return s.len == 0 || is_name_part(s);
}

/* Length of the well-formed UTF-8 character at the start of s, 0 if there is none (RFC 3629: no surrogates, no
 * overlong forms, nothing above U+10FFFF). */
size_t utf8_length(struct bytes s) {
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (s.len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || s.len < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

bool utf8_valid(struct bytes s) {
    while (s.len > 0) {
        size_t n = utf8_length(s);
        if (n == 0)
            return false;
        s.ptr += n;
        s.len -= n;
    }
    return true;
}
