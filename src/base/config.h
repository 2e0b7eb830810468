/* Configuration files in KubeEdge's YAML form (resource-sync.md section 8), described by a table.
 *
 * The defaults are filled first, the file is laid over them: absent keys keep the default, maps are merged key by key,
 * lists are replaced; key names match without regard to case. Unknown keys are warned about with file and line, except
 * those listed as known to the original but without effect here (told once, at info level). A wrong type or a value out
 * of range is refused with file, line, key, and what is allowed. */
#pragma once

#include "base/str.h"
#include "base/yaml.h"

enum config_type {
    CFG_STRING,      /* char *, owned */
    CFG_BOOL,        /* bool; also yes, no, on, off */
    CFG_INT,         /* int64_t within [min, max] */
    CFG_DURATION_MS, /* int64_t ms, never negative; Go duration text */
    CFG_STRINGS,     /* struct strlist; a list of strings */
    CFG_STRING_MAP,  /* struct strlist of "key=value"; values may be any scalar */
    CFG_JSON,        /* char *, owned: the value as JSON text (lists of objects, such as taints) */
    CFG_IGNORED,     /* a key (or a whole subtree) of the original that has no effect here */
};

struct config_key {
    const char *path; /* "modules.edgeHub.heartbeat" */
    enum config_type type;
    size_t offset;             /* into the configuration struct */
    int64_t min, max;          /* CFG_INT; both 0: any */
    const char *default_value; /* as written in YAML, flow style for lists and maps; a string without quotes is taken as
                                  it stands; NULL: unset */
    bool minimal;              /* printed by --minconfig */
};

struct config_schema {
    const char *api_version,
        *kind; /* printed at the top; checked leniently: another kind is refused, an absent one is fine */
    const struct config_key *keys;
    size_t n_keys;
};

/* Fills *config (zeroed by the caller) with defaults. */
int config_defaults(const struct config_schema *s, void *config, struct error *err) MUST_CHECK;
/* Lays the file over it. After a failure config is partly changed: only config_free it. */
int config_load(const struct config_schema *s, const char *path, void *config, struct error *err) MUST_CHECK;
/* The same for text; name stands for the file in messages. */
int config_load_text(const struct config_schema *s, struct bytes text, const char *name, void *config,
                     struct error *err) MUST_CHECK;
/* Prints the configuration as YAML: all keys, or the minimal ones only; never the unset and the ignored ones. */
int config_print(const struct config_schema *s, const void *config, bool minimal, struct buf *out);
void config_free(const struct config_schema *s, void *config);
/* Value of `key` in a CFG_STRING_MAP list, or NULL. */
const char *config_map_get(const struct strlist *map, const char *key);
