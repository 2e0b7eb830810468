#include "base/id.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

void random_bytes(void *p, size_t n) {
    char *at = p;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            panic("the kernel gives no random bytes: %s", strerror(errno));
        at += got;
        n -= (size_t)got;
    }
}

uint64_t random_u64(void) {
    uint64_t v;
    random_bytes(&v, sizeof(v));
    return v;
}

uint64_t random_below(uint64_t n) {
    if (n == 0)
        panic("random_below(0)");
    uint64_t limit = UINT64_MAX - UINT64_MAX % n; /* above it, the remainders would not be equally likely */
    uint64_t v;
    do
        v = random_u64();
    while (v >= limit);
    return v % n;
}

int64_t random_jitter(int64_t value, unsigned percent) {
    if (value <= 0 || percent == 0)
        return value;
    if (percent > 100)
        percent = 100;
    int64_t spread = (int64_t)((double)value * percent / 100);
    if (spread <= 0)
        return value;
    int64_t low = value - spread;
    uint64_t offset = random_below(2 * (uint64_t)spread + 1);
    return offset > (uint64_t)(INT64_MAX - low) ? INT64_MAX : low + (int64_t)offset;
}

char *uuid_v4(char out[UUID_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    /* Every answer of the API server names one: the kernel is asked for many at once. */
    static _Thread_local unsigned char pool[1024];
    static _Thread_local size_t left;
    unsigned char b[16];
    if (left == 0)
        random_bytes(pool, left = sizeof(pool));
    left -= sizeof(b);
    memcpy(b, pool + left, sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    char *p = out;
    for (size_t i = 0; i < sizeof(b); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = digits[b[i] >> 4];
        *p++ = digits[b[i] & 15];
    }
    *p = 0;
    return out;
}

void random_name_suffix(char *out, size_t n) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    for (size_t i = 0; i < n; i++)
        out[i] = alphabet[random_below(sizeof(alphabet) - 1)];
    out[n] = 0;
}
