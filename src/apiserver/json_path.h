/* The simple JSONPath of printer columns: .a.b, ['a'], [0], [*], [?(@.type=="Ready")]. */
#pragma once

#include "base/json.h"

/* The first value that the path leads to; NULL if there is none or the path is not understood. */
yyjson_val *json_path_first(yyjson_val *root, const char *path);
