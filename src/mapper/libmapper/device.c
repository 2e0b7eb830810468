#include "base/clock.h"
#include "mapper/libmapper/internal.h"

#include <math.h>

#define DEFAULT_CYCLE_MS 1000
#define MIN_CYCLE_MS 10
#define OPEN_FIRST_MS 1000
#define OPEN_MAX_MS 30000
#define MAX_READINGS 4096

/* ---- making one ---- */

static const Dmi__ModelProperty *model_property(const Dmi__DeviceModel *m, const char *name) {
    for (size_t i = 0; m && m->spec && i < m->spec->n_properties; i++)
        if (str_eq(m->spec->properties[i]->name, name))
            return m->spec->properties[i];
    return NULL;
}

static int64_t cycle(int64_t ms) {
    return ms <= 0 ? DEFAULT_CYCLE_MS : ms < MIN_CYCLE_MS ? MIN_CYCLE_MS : ms;
}

/* The first fault is the one that is told. */
static void fault(struct device *d, const char *what, const char *name, const struct error *err) {
    if (!d->fault)
        d->fault = xasprintf("%s%s: %s", what, name, error_text(err));
}

static void property_init(struct device *d, struct property *p, const Dmi__DeviceProperty *s,
                          const Dmi__DeviceModel *model) {
    const struct mapper_driver *driver = d->mapper->driver;
    const Dmi__ModelProperty *m = model_property(model, s->name);
    struct error err = ERROR_INIT;
    p->name = xstrdup(s->name);
    p->desired = xstrdup(s->desired ? s->desired->value : "");
    p->report = s->reporttocloud;
    p->cycle_ms = cycle(s->collectcycle);
    p->settings = settings_new(s->visitors ? s->visitors->configdata : NULL);
    if (!m) {
        p->broken = true;
        (void)error_set(&err, ERR_INVALID, "the DeviceModel has no such property");
        fault(d, "property ", p->name, &err);
        return;
    }
    p->type = value_type(m->type);
    p->writable = !str_case_eq(m->accessmode, "ReadOnly");
    p->minimum = xstrdup(m->minimum);
    p->maximum = xstrdup(m->maximum);
    if (p->type == MAPPER_STREAM)
        p->broken = true;
    else if (driver->prepare && driver->prepare(p->settings, p->type, &p->prepared, &err) < 0) {
        p->broken = true;
        fault(d, "property ", p->name, &err);
    }
}

static void make_fingerprint(struct device *d, const Dmi__Device *spec, const Dmi__DeviceModel *model) {
    size_t n = protobuf_c_message_get_packed_size(&spec->base),
           m = model ? protobuf_c_message_get_packed_size(&model->base) : 0;
    d->fingerprint = xmalloc(n + m + 1);
    protobuf_c_message_pack(&spec->base, (uint8_t *)d->fingerprint);
    if (model)
        protobuf_c_message_pack(&model->base, (uint8_t *)d->fingerprint + n);
    d->fingerprint_len = n + m;
}

struct device *device_new(struct mapper *m, const Dmi__Device *spec, const Dmi__DeviceModel *model) {
    struct device *d = NEW(struct device);
    struct error err = ERROR_INIT;
    char bus[256] = "";
    d->mapper = m;
    d->ns = xstrdup(spec->namespace_);
    d->name = xstrdup(spec->name);
    d->key = xasprintf("%s/%s", d->ns, d->name);
    make_fingerprint(d, spec, model);
    d->backoff = BACKOFF(OPEN_FIRST_MS, OPEN_MAX_MS);
    d->report_state = spec->status && spec->status->reporttocloud;
    d->state_cycle_ms = cycle(spec->status ? spec->status->reportcycle : 0);
    d->settings = settings_new(spec->spec && spec->spec->protocol ? spec->spec->protocol->configdata : NULL);
    if (m->driver->bus && m->driver->bus(d->settings, bus, &err) < 0)
        fault(d, "spec.protocol.configData", "", &err);
    d->bus_key = *bus ? xstrdup(bus) : xasprintf("device %s", d->key);
    size_t n = spec->spec ? spec->spec->n_properties : 0;
    d->properties = xcalloc(n + 1, sizeof *d->properties);
    for (d->n_properties = 0; d->n_properties < n; d->n_properties++)
        property_init(d, &d->properties[d->n_properties], spec->spec->properties[d->n_properties], model);
    return d;
}

void device_free(struct device *d) {
    for (size_t i = 0; i < d->n_properties; i++) {
        struct property *p = &d->properties[i];
        if (p->prepared && d->mapper->driver->release)
            d->mapper->driver->release(p->prepared);
        settings_free(p->settings);
        free(p->name);
        free(p->desired);
        free(p->minimum);
        free(p->maximum);
    }
    settings_free(d->settings);
    free(d->properties);
    free(d->fingerprint);
    free(d->key);
    free(d->ns);
    free(d->name);
    free(d->bus_key);
    free(d->fault);
    free(d->message);
    free(d);
}

/* ---- its state ---- */

/* Changes are always told; repetitions where the Device asks for them. */
static void set_state(struct device *d, const char *state, const char *message, int64_t now) {
    bool changed = !str_eq(d->state, state) || !str_eq(d->message, message);
    if (changed) {
        if (message)
            log_warn("device %s: %s device=%s", state, message, d->key);
        else
            log_info("device %s device=%s", state, d->key);
        free(d->message);
        d->message = xstrdup_null(message);
        d->state = state;
    }
    if (changed || (d->report_state && now >= d->state_due_ms)) {
        d->state_due_ms = now + d->state_cycle_ms;
        report_state(d, d->state, d->message);
    }
}

void device_close(struct device *d) {
    if (d->handle)
        d->mapper->driver->close(TAKE(d->handle));
}

static void gone(struct device *d, const struct error *err, int64_t now) {
    device_close(d);
    d->open_due_ms = now + backoff_next_ms(&d->backoff);
    set_state(d, "offline", error_text(err), now);
}

/* ---- desired values ---- */

static int check_limits(const struct property *p, const struct mapper_value *v, struct error *err) {
    double n = v->type == MAPPER_INT ? (double)v->i : v->d, low, high;
    char *end = NULL;
    if (v->type != MAPPER_INT && v->type != MAPPER_FLOAT && v->type != MAPPER_DOUBLE)
        return 0;
    low = strtod(p->minimum, &end);
    if (*p->minimum && !*end && n < low)
        return mapper_error(err, "the desired value %s is less than the minimum %s", p->desired, p->minimum);
    high = strtod(p->maximum, &end);
    if (*p->maximum && !*end && n > high)
        return mapper_error(err, "the desired value %s is greater than the maximum %s", p->desired, p->maximum);
    return 0;
}

/* False: the device has gone. What is wrong with the values themselves goes into *trouble. */
static bool write_desired(struct device *d, char **trouble, int64_t now) {
    const struct mapper_driver *driver = d->mapper->driver;
    for (size_t i = 0; i < d->n_properties; i++) {
        struct property *p = &d->properties[i];
        struct mapper_value *v;
        struct error err = ERROR_INIT;
        bool lost = false;
        if (p->broken || !p->writable || !*p->desired || !driver->write)
            continue;
        v = NEW(struct mapper_value);
        int rc = mapper_value_parse(p->type, p->desired, v, &err);
        if (rc == 0)
            rc = check_limits(p, v, &err);
        if (rc == 0)
            rc = driver->write(d->handle, p->prepared, v, &lost, &err);
        free(v);
        if (rc < 0 && lost) {
            gone(d, &err, now);
            return false;
        }
        if (rc < 0 && !*trouble)
            *trouble = xasprintf("property %s: %s", p->name, error_text(&err));
    }
    return true;
}

/* ---- rounds ---- */

static bool open_device(struct device *d, int64_t now) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *trouble = NULL;
    if (d->mapper->driver->open(d->settings, &d->handle, &err) < 0) {
        d->handle = NULL;
        gone(d, &err, now);
        return false;
    }
    for (size_t i = 0; i < d->n_properties; i++)
        d->properties[i].due_ms = now;
    if (!write_desired(d, &trouble, now))
        return false;
    if (trouble && !d->fault)
        d->fault = TAKE(trouble);
    return true;
}

/* From the time it was due, so that a cycle does not drift; what was missed is not made up for. */
static void set_next(struct property *p, int64_t now) {
    p->due_ms += p->cycle_ms;
    if (p->due_ms <= now)
        p->due_ms = now + p->cycle_ms;
}

static size_t collect_due(struct device *d, struct mapper_reading *readings, struct property **which, int64_t now) {
    size_t n = 0;
    for (size_t i = 0; i < d->n_properties && n < MAX_READINGS; i++) {
        struct property *p = &d->properties[i];
        if (p->broken || !p->report || p->due_ms > now)
            continue;
        which[n] = p;
        readings[n].property = p->prepared;
        readings[n].value.type = p->type;
        n++;
        set_next(p, now);
    }
    return n;
}

static void read_due(struct device *d, int64_t now) {
    struct error err = ERROR_INIT;
    size_t due = 0;
    for (size_t i = 0; i < d->n_properties; i++)
        due += !d->properties[i].broken && d->properties[i].report && d->properties[i].due_ms <= now;
    if (due == 0) {
        set_state(d, d->state, d->message, now);
        return;
    }
    struct mapper_reading *readings = xcalloc(due, sizeof *readings);
    struct property **which = xcalloc(due, sizeof(struct property *));
    _cleanup_(free_p) char *trouble = xstrdup_null(d->fault);
    size_t n = collect_due(d, readings, which, now);
    if (d->mapper->driver->read(d->handle, readings, n, &err) < 0) {
        gone(d, &err, now);
    } else {
        backoff_reset(&d->backoff);
        for (size_t i = 0; i < n; i++) {
            char text[MAPPER_TEXT_MAX];
            if (!readings[i].failed) {
                mapper_value_text(&readings[i].value, text);
                report_value(d, which[i], text, clock_wall_ms());
            } else if (!trouble) {
                trouble = xasprintf("property %s: %s", which[i]->name, readings[i].failed);
            }
        }
        set_state(d, trouble ? "unhealthy" : "ok", trouble, now);
    }
    free(readings);
    free(which);
}

int64_t device_run(struct device *d, int64_t now) {
    if (!d->handle) {
        if (now < d->open_due_ms)
            return d->open_due_ms;
        if (!open_device(d, now))
            return d->open_due_ms;
        set_state(d, d->fault ? "unhealthy" : "ok", d->fault, now);
    }
    read_due(d, now);
    if (!d->handle)
        return d->open_due_ms;
    int64_t next = d->report_state ? d->state_due_ms : INT64_MAX;
    for (size_t i = 0; i < d->n_properties; i++) {
        const struct property *p = &d->properties[i];
        if (!p->broken && p->report && p->due_ms < next)
            next = p->due_ms;
    }
    return next;
}
