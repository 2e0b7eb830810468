#include "apiserver/discovery.h"

#include <sys/utsname.h>

static const struct {
    unsigned bit;
    const char *name;
} verbs[] = {
    {VERB_CREATE, "create"}, {VERB_DELETE, "delete"}, {VERB_DELETECOLLECTION, "deletecollection"},
    {VERB_GET, "get"},       {VERB_LIST, "list"},     {VERB_PATCH, "patch"},
    {VERB_UPDATE, "update"}, {VERB_WATCH, "watch"},
};

static void add_verbs(struct buf *out, unsigned bits) {
    bool any = false;
    buf_add_str(out, "\"verbs\":[");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!(bits & verbs[i].bit))
            continue;
        buf_addf(out, "%s\"%s\"", any ? "," : "", verbs[i].name);
        any = true;
    }
    buf_add_char(out, ']');
}

static void add_names(struct buf *out, const char *member, const char *const *names) {
    if (!names[0])
        return;
    buf_addf(out, ",\"%s\":[", member);
    for (size_t i = 0; names[i]; i++) {
        buf_add_str(out, i ? "," : "");
        json_append_string(out, bytes_str(names[i]));
    }
    buf_add_char(out, ']');
}

static bool same_group(const struct kind *a, const struct kind *b) {
    return str_eq(a->group, b->group);
}

static bool same_version(const struct kind *a, const struct kind *b) {
    return same_group(a, b) && str_eq(a->version, b->version);
}

/* The kinds are in discovery order, but those of a group-version need not be neighbours; the first one stands for it.
 */
static bool is_first(const struct kinds *ks, size_t i, bool (*same)(const struct kind *, const struct kind *)) {
    for (size_t j = 0; j < i; j++)
        if (same(kinds_at(ks, j), kinds_at(ks, i)))
            return false;
    return true;
}

/* ---- aggregated ------------------------------------------------------------------------------------------------- */

static void add_response_kind(struct buf *out, const char *group, const char *version, const char *kind) {
    buf_addf(out, "\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"},", group, version, kind);
}

static void add_aggregated_kind(struct buf *out, const struct kind *k) {
    buf_addf(out, "{\"resource\":\"%s\",", k->plural);
    add_response_kind(out, k->group, k->version, k->kind);
    buf_addf(out, "\"scope\":\"%s\",\"singularResource\":\"%s\",", k->namespaced ? "Namespaced" : "Cluster",
             k->singular);
    add_verbs(out, k->verbs);
    add_names(out, "shortNames", k->short_names);
    add_names(out, "categories", k->categories);
    buf_add_str(out, k->n_subresources ? ",\"subresources\":[" : "");
    for (size_t i = 0; i < k->n_subresources; i++) {
        const struct kind_subresource *s = &k->subresources[i];
        buf_addf(out, "%s{\"subresource\":\"%s\",", i ? "," : "", s->name);
        add_response_kind(out, s->kind ? s->group : k->group, s->kind ? s->version : k->version,
                          s->kind ? s->kind : k->kind);
        add_verbs(out, s->verbs);
        buf_add_char(out, '}');
    }
    buf_add_str(out, k->n_subresources ? "]}" : "}");
}

static void add_aggregated_version(const struct kinds *ks, struct buf *out, const struct kind *first) {
    bool any = false;
    buf_addf(out, "{\"version\":\"%s\",\"resources\":[", first->version);
    for (size_t i = 0; i < kinds_count(ks); i++) {
        if (!same_version(first, kinds_at(ks, i)))
            continue;
        buf_add_str(out, any ? "," : "");
        add_aggregated_kind(out, kinds_at(ks, i));
        any = true;
    }
    buf_add_str(out, "],\"freshness\":\"Current\"}");
}

static void write_aggregated(const struct kinds *ks, bool core, enum discovery_format format, struct buf *out) {
    bool any_group = false;
    buf_addf(
        out,
        "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\",\"metadata\":{},\"items\":[",
        format == DISCOVERY_V2 ? "v2" : "v2beta1");
    for (size_t i = 0; i < kinds_count(ks); i++) {
        const struct kind *group = kinds_at(ks, i);
        if ((*group->group == '\0') != core || !is_first(ks, i, same_group))
            continue;
        buf_addf(out, "%s{\"metadata\":{\"name\":\"%s\"},\"versions\":[", any_group ? "," : "", group->group);
        bool any_version = false;
        for (size_t j = i; j < kinds_count(ks); j++) {
            if (!same_group(group, kinds_at(ks, j)) || !is_first(ks, j, same_version))
                continue;
            buf_add_str(out, any_version ? "," : "");
            add_aggregated_version(ks, out, kinds_at(ks, j));
            any_version = true;
        }
        buf_add_str(out, "]}");
        any_group = true;
    }
    buf_add_str(out, "]}");
}

/* ---- plain ------------------------------------------------------------------------------------------------------ */

static void add_plain_kind(struct buf *out, const struct kind *k) {
    buf_addf(out, "{\"name\":\"%s\",\"singularName\":\"%s\",\"namespaced\":%s,\"kind\":\"%s\",", k->plural, k->singular,
             k->namespaced ? "true" : "false", k->kind);
    add_verbs(out, k->verbs);
    add_names(out, "shortNames", k->short_names);
    add_names(out, "categories", k->categories);
    buf_add_char(out, '}');
    for (size_t i = 0; i < k->n_subresources; i++) {
        const struct kind_subresource *s = &k->subresources[i];
        buf_addf(out, ",{\"name\":\"%s/%s\",\"singularName\":\"\",\"namespaced\":%s,", k->plural, s->name,
                 k->namespaced ? "true" : "false");
        if (s->kind && (!str_eq(s->group, k->group) || !str_eq(s->version, k->version)))
            buf_addf(out, "\"group\":\"%s\",\"version\":\"%s\",", s->group, s->version);
        buf_addf(out, "\"kind\":\"%s\",", s->kind ? s->kind : k->kind);
        add_verbs(out, s->verbs);
        buf_add_char(out, '}');
    }
}

static void add_group(const struct kinds *ks, struct buf *out, size_t first, bool typed) {
    const struct kind *group = kinds_at(ks, first);
    buf_addf(out, "{%s\"name\":\"%s\",\"versions\":[", typed ? "\"kind\":\"APIGroup\",\"apiVersion\":\"v1\"," : "",
             group->group);
    for (size_t i = first, n = 0; i < kinds_count(ks); i++) {
        const struct kind *k = kinds_at(ks, i);
        if (same_group(group, k) && is_first(ks, i, same_version))
            buf_addf(out, "%s{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}", n++ ? "," : "", k->group, k->version,
                     k->version);
    }
    buf_addf(out, "],\"preferredVersion\":{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}}", group->group,
             group->version, group->version);
}

static void write_group_list(const struct kinds *ks, struct buf *out) {
    bool any = false;
    buf_add_str(out, "{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":[");
    for (size_t i = 0; i < kinds_count(ks); i++) {
        if (!*kinds_at(ks, i)->group || !is_first(ks, i, same_group))
            continue;
        buf_add_str(out, any ? "," : "");
        add_group(ks, out, i, false);
        any = true;
    }
    buf_add_str(out, "]}");
}

static int write_resources(const struct kinds *ks, struct bytes group, struct bytes version, struct buf *out) {
    bool any = false;
    for (size_t i = 0; i < kinds_count(ks); i++) {
        const struct kind *k = kinds_at(ks, i);
        if (!bytes_eq_str(group, k->group) || !bytes_eq_str(version, k->version))
            continue;
        if (!any)
            buf_addf(out,
                     "{\"kind\":\"APIResourceList\",\"apiVersion\":\"v1\",\"groupVersion\":\"%s%s%s\",\"resources\":[",
                     k->group, *k->group ? "/" : "", k->version);
        buf_add_str(out, any ? "," : "");
        add_plain_kind(out, k);
        any = true;
    }
    buf_add_str(out, any ? "]}" : "");
    return any ? 0 : -1;
}

static int write_group(const struct kinds *ks, struct bytes group, struct buf *out) {
    for (size_t i = 0; group.len > 0 && i < kinds_count(ks); i++) {
        if (bytes_eq_str(group, kinds_at(ks, i)->group)) {
            add_group(ks, out, i, true);
            return 0;
        }
    }
    return -1;
}

static void write_version(struct buf *out) {
    struct utsname name;
    const char *machine = uname(&name) == 0 ? name.machine : "";
    const char *arch = str_eq(machine, "x86_64") ? "amd64" : str_eq(machine, "aarch64") ? "arm64" : machine;
    buf_addf(out,
             "{\"major\":\"1\",\"minor\":\"32\",\"gitVersion\":\"" DISCOVERY_GIT_VERSION "\",\"gitCommit\":\"\","
             "\"gitTreeState\":\"clean\",\"buildDate\":\"1970-01-01T00:00:00Z\",\"goVersion\":\"\","
             "\"compiler\":\"c\",\"platform\":\"linux/%s\"}",
             arch);
}

/* ---- paths ------------------------------------------------------------------------------------------------------ */

static bool is_root(struct bytes path) {
    return bytes_eq_str(path, "/api") || bytes_eq_str(path, "/apis");
}

static struct bytes without_slash(struct bytes path) {
    return path.len > 1 && path.ptr[path.len - 1] == '/' ? bytes_of(path.ptr, path.len - 1) : path;
}

static int write_document(const struct kinds *ks, struct bytes path, enum discovery_format format, struct buf *out) {
    struct bytes parts[5];
    size_t n = bytes_split(path, '/', parts, ARRAY_LEN(parts)); /* "", "apis", group, version */
    if (bytes_eq_str(path, "/version"))
        write_version(out);
    else if (is_root(path) && format != DISCOVERY_PLAIN)
        write_aggregated(ks, bytes_eq_str(path, "/api"), format, out);
    else if (bytes_eq_str(path, "/api"))
        buf_add_str(out, "{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],\"serverAddressByClientCIDRs\":[]}");
    else if (bytes_eq_str(path, "/apis"))
        write_group_list(ks, out);
    else if (n == 3 && bytes_eq_str(parts[1], "api"))
        return write_resources(ks, BYTES_EMPTY, parts[2], out);
    else if (n == 3 && bytes_eq_str(parts[1], "apis"))
        return write_group(ks, parts[2], out);
    else if (n == 4 && bytes_eq_str(parts[1], "apis") && parts[2].len > 0)
        return write_resources(ks, parts[2], parts[3], out);
    else
        return -1;
    return 0;
}

int discovery_document(const struct kinds *ks, struct bytes path, enum discovery_format format, struct buf *out,
                       struct error *err) {
    if (write_document(ks, without_slash(path), format, out) < 0)
        return error_set(err, ERR_NOT_FOUND, "the server could not find the requested resource");
    return buf_check(out, err, "discovery document");
}

const char *discovery_content_type(struct bytes path, enum discovery_format format) {
    if (!is_root(without_slash(path)) || format == DISCOVERY_PLAIN)
        return "application/json";
    return format == DISCOVERY_V2 ? "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                                  : "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
}

bool discovery_format_of_accept(struct bytes clause, enum discovery_format *out) {
    struct bytes part, rest = clause;
    bool json = false, group = false, list = false, more = true, v2 = false, v2beta1 = false;
    while (more) {
        struct bytes whole = rest;
        more = bytes_cut(whole, ';', &part, &rest);
        part = bytes_trim(more ? part : whole);
        json = json || bytes_eq_str(part, "application/json");
        group = group || bytes_eq_str(part, "g=apidiscovery.k8s.io");
        list = list || bytes_eq_str(part, "as=APIGroupDiscoveryList");
        v2 = v2 || bytes_eq_str(part, "v=v2");
        v2beta1 = v2beta1 || bytes_eq_str(part, "v=v2beta1");
    }
    if (!json || !group || !list || (!v2 && !v2beta1))
        return false;
    *out = v2 ? DISCOVERY_V2 : DISCOVERY_V2BETA1;
    return true;
}
