/* Small helpers of the cloud tests. */
#pragma once

#include "base/json.h"
#include "base/str.h"
#include "wire/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* JSON with single quotes in place of double ones. */
static inline yyjson_doc *json_of(const char *text) {
    char *copy = xstrdup(text);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    yyjson_doc *d = yyjson_read(copy, strlen(copy), 0);
    assert_non_null(d);
    free(copy);
    return d;
}
