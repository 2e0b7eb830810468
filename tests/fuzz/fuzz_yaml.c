/* YAML that reads is written, and reads back as the same; and as a configuration file it is taken or refused. */
#include "base/config.h"
#include "base/log.h"
#include "base/mem.h"

struct settings {
    char *text, *json;
    bool enable;
    int64_t number, delay_ms;
    struct strlist names, limits;
};

#define AT(member) offsetof(struct settings, member)
static const struct config_key keys[] = {
    {.path = "a.text", .type = CFG_STRING, .offset = AT(text), .default_value = "x"},
    {.path = "a.enable", .type = CFG_BOOL, .offset = AT(enable), .default_value = "true"},
    {.path = "a.n", .type = CFG_INT, .offset = AT(number), .min = -5, .max = 5, .default_value = "1"},
    {.path = "b.delay", .type = CFG_DURATION_MS, .offset = AT(delay_ms), .default_value = "1m0s"},
    {.path = "b.names", .type = CFG_STRINGS, .offset = AT(names), .default_value = "[a]"},
    {.path = "b.limits", .type = CFG_STRING_MAP, .offset = AT(limits), .default_value = "{k: v}"},
    {.path = "b.c.json", .type = CFG_JSON, .offset = AT(json)},
    {.path = "d", .type = CFG_IGNORED},
};
static const struct config_schema schema = {"v1", "Fuzz", keys, ARRAY_LEN(keys)};

static void load(struct bytes text) {
    struct settings s = {0};
    struct error err = ERROR_INIT;
    log_set_level(LOG_ERROR);
    if (config_defaults(&schema, &s, &err) < 0)
        panic("%s", err.msg);
    if (config_load_text(&schema, text, "f.yaml", &s, &err) == 0) {
        _cleanup_(buf_free) struct buf out = BUF_INIT(64u << 20);
        if (config_print(&schema, &s, false, &out) < 0)
            panic("a configuration cannot be printed");
        if (config_load_text(&schema, buf_bytes(&out), "again.yaml", &s, &err) < 0)
            panic("a printed configuration is refused: %s", err.msg);
    }
    config_free(&schema, &s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes text = bytes_of(data, size);
    struct yaml_doc doc, again;
    struct error err = ERROR_INIT;
    load(text);
    if (yaml_parse(text, "f.yaml", &doc, &err) < 0)
        return 0;
    (void)yaml_line(&doc, "a.b[0]");
    _cleanup_(buf_free) struct buf out = BUF_INIT(64u << 20);
    if (yaml_write(&out, yyjson_doc_get_root(doc.json)) < 0)
        panic("what was read cannot be written");
    if (yaml_parse(buf_bytes(&out), "again.yaml", &again, &err) < 0) {
        if (err.code != ERR_TOO_LARGE)
            panic("what was written does not read: %s", err.msg);
    } else if (!json_equal(yyjson_doc_get_root(doc.json), yyjson_doc_get_root(again.json))) {
        panic("what was written reads as something else");
    }
    yaml_doc_free(&again);
    yaml_doc_free(&doc);
    return 0;
}
