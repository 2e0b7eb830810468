#include "apiserver/negotiate.h"

#include "apiserver/path.h"
#include "base/str.h"

#include <strings.h>

#define MAX_CLAUSES 32

struct clause {
    struct bytes type, as, group, version;
    int quality; /* thousandths */
    bool unmanaged;
};

static int read_quality(struct bytes v) {
    int64_t whole, fraction = 0;
    struct bytes before = BYTES_EMPTY, after = BYTES_EMPTY;
    list_next(&v, '.', &before);
    list_next(&v, '.', &after);
    if (parse_i64(before, 0, 1, &whole) < 0)
        return 0;
    int scale = 100;
    for (size_t i = 0; i < after.len && i < 3; i++, scale /= 10) {
        if (after.ptr[i] < '0' || after.ptr[i] > '9')
            return 0;
        fraction += (after.ptr[i] - '0') * scale;
    }
    return whole == 1 ? 1000 : (int)fraction;
}

static void read_parameter(struct clause *c, struct bytes text) {
    struct bytes key, value;
    if (!bytes_cut(bytes_trim(text), '=', &key, &value))
        return;
    if (bytes_eq_str(key, "as"))
        c->as = value;
    else if (bytes_eq_str(key, "g"))
        c->group = value;
    else if (bytes_eq_str(key, "v"))
        c->version = value;
    else if (bytes_eq_str(key, "managedFields"))
        c->unmanaged = bytes_eq_str(value, "none");
    else if (bytes_eq_str(key, "q"))
        c->quality = read_quality(value);
}

static struct clause read_clause(struct bytes text) {
    struct clause c = {.quality = 1000};
    struct bytes part = BYTES_EMPTY;
    list_next(&text, ';', &part);
    c.type = bytes_trim(part);
    while (list_next(&text, ';', &part))
        read_parameter(&c, part);
    return c;
}

static bool is_json(struct bytes type) {
    return bytes_eq_str(type, "application/json") || bytes_eq_str(type, "*/*") || bytes_eq_str(type, "application/*") ||
           bytes_eq_str(type, "application/yaml");
}

static int form_of_as(const struct clause *c) {
    if (bytes_eq_str(c->group, "apidiscovery.k8s.io") && bytes_eq_str(c->as, "APIGroupDiscoveryList")) {
        if (bytes_eq_str(c->version, "v2"))
            return FORM_DISCOVERY_V2;
        return bytes_eq_str(c->version, "v2beta1") ? FORM_DISCOVERY_V2BETA1 : -1;
    }
    if (!bytes_eq_str(c->group, "meta.k8s.io") ||
        (!bytes_eq_str(c->version, "v1") && !bytes_eq_str(c->version, "v1beta1")))
        return -1;
    if (bytes_eq_str(c->as, "Table"))
        return FORM_TABLE;
    if (bytes_eq_str(c->as, "PartialObjectMetadata"))
        return FORM_PARTIAL;
    return bytes_eq_str(c->as, "PartialObjectMetadataList") ? FORM_PARTIAL_LIST : -1;
}

static int form_of(const struct clause *c) {
    if (bytes_starts_with(c->type, "application/com.github.proto-openapi.spec.v2"))
        return FORM_OPENAPI_V2;
    if (!is_json(c->type) && !bytes_starts_with(c->type, "application/com.github.proto-openapi.spec.v3"))
        return -1;
    return c->as.len > 0 ? form_of_as(c) : FORM_JSON;
}

int negotiate(struct bytes accept, unsigned allowed, enum answer_form *out) {
    if (bytes_trim(accept).len == 0)
        accept = BYTES_LIT("application/json");
    int best = -1, best_quality = 0;
    struct bytes part;
    for (unsigned n = 0; n < MAX_CLAUSES && list_next(&accept, ',', &part); n++) {
        struct clause c = read_clause(part);
        int form = form_of(&c);
        if (form >= 0 && (allowed & FORM_BIT(form)) && c.quality > best_quality) {
            best = form == FORM_JSON && c.unmanaged ? FORM_UNMANAGED : form;
            best_quality = c.quality;
        }
    }
    if (best < 0)
        return -1;
    *out = (enum answer_form)best;
    return 0;
}

enum body_type body_type_of(struct bytes content_type) {
    static const struct {
        const char *name;
        enum body_type type;
    } types[] = {
        {"", BODY_JSON},
        {"application/json", BODY_JSON},
        {"application/vnd.kubernetes.protobuf", BODY_PROTOBUF},
        {"application/json-patch+json", BODY_JSON_PATCH},
        {"application/merge-patch+json", BODY_MERGE_PATCH},
        {"application/strategic-merge-patch+json", BODY_STRATEGIC_PATCH},
        {"application/apply-patch+yaml", BODY_APPLY_PATCH},
        {"*/*", BODY_JSON},
    };
    struct bytes type = BYTES_EMPTY;
    list_next(&content_type, ';', &type);
    type = bytes_trim(type);
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (type.len == strlen(types[i].name) && strncasecmp(type.ptr ? type.ptr : "", types[i].name, type.len) == 0)
            return types[i].type;
    return BODY_OTHER;
}
