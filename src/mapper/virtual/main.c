/* virtual-mapper: devices that exist only here; the smallest example of a mapper.
 *
 * A property counts up from 0 in steps of its setting `step` (default 1), once per reading; with `kind: held` it gives
 * back what was written last. */
#include "mapper/libmapper/mapper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct virtual_property {
    double value, step;
    bool held;
    char text[MAPPER_TEXT_MAX];
};

static int prepare(const struct mapper_settings *visitor, enum mapper_type type, void **property, struct error *err) {
    const char *kind = mapper_setting(visitor, "kind");
    struct virtual_property *p;
    double step;
    if (mapper_setting_double(visitor, "step", 1, &step, err) < 0)
        return -1;
    if (kind && strcmp(kind, "held") != 0 && strcmp(kind, "counter") != 0)
        return mapper_error(err, "kind is \"%.32s\": it must be counter or held", kind);
    p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->step = step;
    p->held = (kind && strcmp(kind, "held") == 0) || type == MAPPER_STRING;
    *property = p;
    return 0;
}

static int open_device(const struct mapper_settings *device, void **handle, struct error *err) {
    static char there;
    *handle = &there;
    return 0;
}

static void close_device(void *handle) {
}

static int read_device(void *handle, struct mapper_reading *readings, size_t n, struct error *err) {
    for (size_t i = 0; i < n; i++) {
        struct virtual_property *p = readings[i].property;
        struct mapper_value *v = &readings[i].value;
        if (v->type == MAPPER_STRING || v->type == MAPPER_BYTES)
            memcpy(v->text, p->text, sizeof v->text);
        else if (v->type == MAPPER_BOOLEAN)
            v->b = p->value != 0;
        else if (v->type == MAPPER_INT)
            v->i = (int64_t)p->value;
        else
            v->d = p->value;
        if (!p->held)
            p->value += p->step;
    }
    return 0;
}

static int write_device(void *handle, void *property, const struct mapper_value *v, bool *gone, struct error *err) {
    struct virtual_property *p = property;
    if (v->type == MAPPER_STRING || v->type == MAPPER_BYTES)
        memcpy(p->text, v->text, sizeof p->text);
    else if (v->type == MAPPER_BOOLEAN)
        p->value = v->b;
    else
        p->value = v->type == MAPPER_INT ? (double)v->i : v->d;
    return 0;
}

int main(int argc, char **argv) {
    static const struct mapper_driver driver = {.protocol = "virtual",
                                                .name = "virtual-mapper",
                                                .version = "1.0",
                                                .prepare = prepare,
                                                .release = free,
                                                .open = open_device,
                                                .close = close_device,
                                                .read = read_device,
                                                .write = write_device};
    return mapper_main(argc, argv, &driver);
}
