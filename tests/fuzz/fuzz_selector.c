/* Label selectors, field selectors and quantities: parsing what a quantity's canonical text says must give it again. */
#include "kube/quantity.h"
#include "kube/selector.h"

#include <stdlib.h>

static const char *no_field(void *arg, const char *field) {
    return "";
}

static void check_quantity(struct bytes text) {
    struct quantity q, again;
    struct buf out = BUF_INIT(256), second = BUF_INIT(256);
    struct error err = ERROR_INIT;
    if (quantity_parse(text, &q, &err) == 0) {
        if (quantity_canonical(text, &out, &err) < 0 || quantity_parse(buf_bytes(&out), &again, &err) < 0)
            abort();
        if (quantity_canonical(buf_bytes(&out), &second, &err) < 0 || !bytes_eq(buf_bytes(&out), buf_bytes(&second)))
            abort();
        (void)quantity_milli(quantity_add(q, again));
    }
    buf_free(&out);
    buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes text = bytes_of(data, size);
    struct selector *s = NULL;
    struct error err = ERROR_INIT;
    if (selector_parse_labels(text, &s, &err) == 0)
        (void)selector_match_labels(s, NULL);
    selector_free(s);
    s = NULL;
    if (selector_parse_fields(text, &s, &err) == 0)
        (void)selector_match_fields(s, no_field, NULL);
    selector_free(s);
    check_quantity(text);
    return 0;
}
