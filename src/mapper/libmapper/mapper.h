/* libmapper: what a mapper is made of besides its protocol.
 *
 * A driver is the table of functions below. The library does the rest: it registers with edgecore and finds it again
 * after a restart of either, opens the devices, reads properties in their cycles, writes desired values, reports values
 * and states, and tries again what fails. A mapper's main is one line:
 *
 *     int main(int argc, char **argv) { return mapper_main(argc, argv, &driver); }
 *
 * Threads: all devices on one bus (mapper_driver.bus) are served by one thread, one call at a time, so a driver that
 * blocks delays only what hangs on the same wire. Nothing is called for the same device from two threads.
 *
 * Errors: functions that can fail return 0, or mapper_error(err, ...) with what went wrong in words: it stands in the
 * status of the Device for its owner to read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
int mapper_error(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Settings: the configData of a device or of a property, already merged with the model's. */
struct mapper_settings;
/* The value as text, numbers in their shortest form; NULL if there is none of that name. Borrowed. */
const char *mapper_setting(const struct mapper_settings *s, const char *name);
/* These give the fallback where there is none, and fail with a sentence where it is something else. */
int mapper_setting_int(const struct mapper_settings *s, const char *name, int64_t min, int64_t max, int64_t fallback,
                       int64_t *out, struct error *err);
int mapper_setting_double(const struct mapper_settings *s, const char *name, double fallback, double *out,
                          struct error *err);
int mapper_setting_bool(const struct mapper_settings *s, const char *name, bool fallback, bool *out, struct error *err);

enum mapper_type {
    MAPPER_INT,
    MAPPER_FLOAT,
    MAPPER_DOUBLE,
    MAPPER_STRING,
    MAPPER_BOOLEAN,
    MAPPER_BYTES,
    MAPPER_STREAM
};

#define MAPPER_TEXT_MAX 4096
struct mapper_value {
    enum mapper_type type;
    union {
        int64_t i; /* MAPPER_INT */
        double d;  /* MAPPER_FLOAT, MAPPER_DOUBLE */
        bool b;    /* MAPPER_BOOLEAN */
    };
    char text[MAPPER_TEXT_MAX]; /* MAPPER_STRING; MAPPER_BYTES: NUL ends it */
};
/* Text to value and back. A value out of the type's range, or no value of it at all, is an error. */
int mapper_value_parse(enum mapper_type type, const char *text, struct mapper_value *out, struct error *err);
/* "61.5", "true", ...: floats in the shortest form that reads back the same. out has MAPPER_TEXT_MAX bytes. */
void mapper_value_text(const struct mapper_value *v, char *out);

/* One property in a round of reading. */
struct mapper_reading {
    void *property;            /* of mapper_driver.prepare */
    struct mapper_value value; /* type is set; the driver fills in the rest */
    const char *failed;        /* set by the driver, a literal: this one could not be read; NULL: it was */
};

struct mapper_driver {
    const char *protocol; /* what Devices name as protocolName */
    const char *name, *version;

    /* What the device hangs on: devices with the same text are called one at a time. out has 256 bytes. NULL: each
     * device stands alone. */
    int (*bus)(const struct mapper_settings *device, char *out, struct error *err);
    /* Parses a property's settings; *property is handed back to read, write and release. No I/O. NULL: properties have
     * no settings, and property is NULL. */
    int (*prepare)(const struct mapper_settings *visitor, enum mapper_type type, void **property, struct error *err);
    void (*release)(void *property);
    /* Connects. Called again, in growing intervals, until it succeeds. */
    int (*open)(const struct mapper_settings *device, void **handle, struct error *err);
    void (*close)(void *handle);
    /* Reads all that are due, in as few requests as the protocol allows. -1: the device does not answer; it is closed,
     * and opened anew. */
    int (*read)(void *handle, struct mapper_reading *readings, size_t n, struct error *err);
    /* NULL: nothing can be written. -1: refused; *gone = true: the device does not answer. */
    int (*write)(void *handle, void *property, const struct mapper_value *value, bool *gone, struct error *err);
};

int mapper_main(int argc, char **argv, const struct mapper_driver *driver);
