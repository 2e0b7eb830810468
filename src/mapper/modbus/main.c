/* modbus-mapper: Modbus TCP and RTU, on libmodbus. */
#include "base/mem.h"
#include "mapper/modbus/point.h"

#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define GAP 8 /* registers that are read in vain rather than asked for in two requests */

struct modbus_device {
    modbus_t *ctx;
    int gap; /* 0 once the device has refused a request over a gap */
};

/* ---- where it is ---- */

static bool is_rtu(const struct mapper_settings *s) {
    const char *mode = mapper_setting(s, "communicateMode");
    return mode ? strcasecmp(mode, "RTU") == 0 : mapper_setting(s, "serialName") != NULL;
}

static int bus(const struct mapper_settings *s, char *out, struct error *err) {
    const char *mode = mapper_setting(s, "communicateMode"), *serial = mapper_setting(s, "serialName"),
               *ip = mapper_setting(s, "ip"), *port = mapper_setting(s, "port");
    if (mode && strcasecmp(mode, "TCP") != 0 && strcasecmp(mode, "RTU") != 0)
        return mapper_error(err, "communicateMode is \"%.32s\": it must be TCP or RTU", mode);
    if (is_rtu(s) && !serial)
        return mapper_error(err, "serialName is missing: the device file of the line");
    if (!is_rtu(s) && !ip)
        return mapper_error(err, "ip is missing: the address of the device");
    (void)snprintf(out, 256, "%s:%s", is_rtu(s) ? serial : ip, is_rtu(s) ? "rtu" : port ? port : "502");
    return 0;
}

static modbus_t *new_rtu(const struct mapper_settings *s, struct error *err) {
    int64_t baud, data, stop;
    bool rs485;
    const char *parity = mapper_setting(s, "parity");
    char p = !parity ? 'N' : strcasecmp(parity, "even") == 0 ? 'E' : strcasecmp(parity, "odd") == 0 ? 'O' : 'N';
    if (mapper_setting_int(s, "baudRate", 50, 4000000, 9600, &baud, err) < 0 ||
        mapper_setting_int(s, "dataBits", 5, 8, 8, &data, err) < 0 ||
        mapper_setting_int(s, "stopBits", 1, 2, 1, &stop, err) < 0 ||
        mapper_setting_bool(s, "rs485Enabled", false, &rs485, err) < 0)
        return NULL;
    modbus_t *ctx = modbus_new_rtu(mapper_setting(s, "serialName"), (int)baud, p, (int)data, (int)stop);
    if (!ctx)
        (void)mapper_error(err, "the serial settings cannot be used: %s", modbus_strerror(errno));
    return ctx;
}

static modbus_t *new_tcp(const struct mapper_settings *s, struct error *err) {
    const char *port = mapper_setting(s, "port");
    modbus_t *ctx = modbus_new_tcp_pi(mapper_setting(s, "ip"), port ? port : "502");
    if (!ctx)
        (void)mapper_error(err, "ip or port cannot be used: %s", modbus_strerror(errno));
    return ctx;
}

static int open_device(const struct mapper_settings *s, void **handle, struct error *err) {
    int64_t unit;
    double seconds;
    bool rs485 = false;
    if (mapper_setting_int(s, "slaveID", 0, 255, 1, &unit, err) < 0 ||
        mapper_setting_double(s, "timeout", 1, &seconds, err) < 0 ||
        mapper_setting_bool(s, "rs485Enabled", false, &rs485, err) < 0)
        return -1;
    if (seconds < 0.01 || seconds > 60)
        seconds = 1;
    modbus_t *ctx = is_rtu(s) ? new_rtu(s, err) : new_tcp(s, err);
    if (!ctx)
        return -1;
    (void)modbus_set_response_timeout(ctx, (uint32_t)seconds, (uint32_t)((seconds - (uint32_t)seconds) * 1e6));
    if (modbus_set_slave(ctx, (int)unit) < 0 || modbus_connect(ctx) < 0) {
        (void)mapper_error(err, "no connection to %s: %s",
                           is_rtu(s) ? mapper_setting(s, "serialName") : mapper_setting(s, "ip"),
                           modbus_strerror(errno));
        modbus_free(ctx);
        return -1;
    }
    if (rs485 && is_rtu(s))
        (void)modbus_rtu_set_serial_mode(
            ctx, MODBUS_RTU_RS485); /* where the line's hardware does it by itself, this fails */
    struct modbus_device *d = NEW(struct modbus_device);
    d->ctx = ctx;
    d->gap = GAP;
    *handle = d;
    return 0;
}

static void close_device(void *handle) {
    struct modbus_device *d = handle;
    modbus_close(d->ctx);
    modbus_free(d->ctx);
    free(d);
}

static int prepare(const struct mapper_settings *visitor, enum mapper_type type, void **property, struct error *err) {
    struct point p;
    if (point_parse(visitor, type, &p, err) < 0)
        return -1;
    *property = xmemdup(&p, sizeof p);
    return 0;
}

/* ---- reading ---- */

/* The device has answered, and refuses: it is there. */
static bool is_refusal(int errnum) {
    return errnum >= MODBUS_ENOBASE && errnum <= EMBXGTAR;
}

static int request(struct modbus_device *d, enum point_register where, int offset, int count, uint16_t *words,
                   uint8_t *bits) {
    switch (where) {
    case POINT_COIL:
        return modbus_read_bits(d->ctx, offset, count, bits);
    case POINT_DISCRETE_INPUT:
        return modbus_read_input_bits(d->ctx, offset, count, bits);
    case POINT_INPUT:
        return modbus_read_input_registers(d->ctx, offset, count, words);
    case POINT_HOLDING:
        break;
    }
    return modbus_read_registers(d->ctx, offset, count, words);
}

struct round {
    struct modbus_device *device;
    struct mapper_reading *readings;
    const struct point **points;
    size_t *order;
    struct error *err;
};

static int read_batch(struct round *r, const struct point_batch *b);

/* Each by itself: so that one wrong address spoils only its own property. */
static int read_singly(struct round *r, const struct point_batch *b) {
    for (size_t i = b->first; i < b->first + b->n; i++) {
        const struct point *p = r->points[r->order[i]];
        if (read_batch(r, &(struct point_batch){i, 1, p->offset, p->count}) < 0)
            return -1;
    }
    return 0;
}

static int read_batch(struct round *r, const struct point_batch *b) {
    uint16_t words[POINT_WORDS_MAX];
    uint8_t bits[POINT_BITS_MAX];
    const struct point *first = r->points[r->order[b->first]];
    if (request(r->device, first->where, b->offset, b->count, words, bits) < 0) {
        if (!is_refusal(errno))
            return mapper_error(r->err, "the device does not answer: %s", modbus_strerror(errno));
        if (b->n > 1) {
            r->device->gap = 0;
            return read_singly(r, b);
        }
        r->readings[r->order[b->first]].failed = modbus_strerror(errno);
        return 0;
    }
    for (size_t i = b->first; i < b->first + b->n; i++) {
        const struct point *p = r->points[r->order[i]];
        struct mapper_reading *x = &r->readings[r->order[i]];
        int at = p->offset - b->offset;
        x->failed =
            point_is_bit(p) ? point_decode_bit(p, bits + at, &x->value) : point_decode(p, words + at, &x->value);
    }
    return 0;
}

static int read_device(void *handle, struct mapper_reading *readings, size_t n, struct error *err) {
    struct round r = {.device = handle, .readings = readings, .err = err};
    struct point_batch *batches = xcalloc(n, sizeof *batches);
    int rc = 0;
    r.points = xcalloc(n, sizeof(struct point *));
    r.order = xcalloc(n, sizeof *r.order);
    for (size_t i = 0; i < n; i++)
        r.points[i] = readings[i].property;
    size_t count = point_batches(r.points, r.order, n, r.device->gap, batches);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = read_batch(&r, &batches[i]);
    free(batches);
    free(r.points);
    free(r.order);
    return rc;
}

/* ---- writing ---- */

static int write_device(void *handle, void *property, const struct mapper_value *v, bool *gone, struct error *err) {
    struct modbus_device *d = handle;
    const struct point *p = property;
    uint16_t words[POINT_WORDS_MAX];
    bool on = false;
    int rc;
    if (p->where == POINT_DISCRETE_INPUT || p->where == POINT_INPUT)
        return mapper_error(err, "its register can only be read");
    if (p->where == POINT_COIL) {
        if (point_encode_bit(v, &on, err) < 0)
            return -1;
        rc = modbus_write_bit(d->ctx, p->offset, on);
    } else {
        if (point_encode(p, v, words, err) < 0)
            return -1;
        rc = p->count == 1 ? modbus_write_register(d->ctx, p->offset, words[0])
                           : modbus_write_registers(d->ctx, p->offset, p->count, words);
    }
    if (rc >= 0)
        return 0;
    *gone = !is_refusal(errno);
    return mapper_error(err, "%s: %s", *gone ? "the device does not answer" : "the device refuses the value",
                        modbus_strerror(errno));
}

int main(int argc, char **argv) {
    static const struct mapper_driver driver = {.protocol = "modbus",
                                                .name = "modbus-mapper",
                                                .version = "1.0",
                                                .bus = bus,
                                                .prepare = prepare,
                                                .release = free,
                                                .open = open_device,
                                                .close = close_device,
                                                .read = read_device,
                                                .write = write_device};
    return mapper_main(argc, argv, &driver);
}
