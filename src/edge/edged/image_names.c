/* Image names and registry credentials: pure. */
#include "edge/edged/images.h"

#include <ctype.h>

#define DOCKER_CONFIG_MAX (1u << 20)
#define IMAGE_NAME_MAX 4096

static bool path_char(char c) {
    return islower((unsigned char)c) || isdigit((unsigned char)c) || strchr("._-/", c);
}

/* "host[:port]/": only what has a dot, a colon or is localhost is a host. */
static size_t domain_length(const char *image) {
    size_t n = strcspn(image, "/");
    if (image[n] != '/')
        return 0;
    bool host = (n == 9 && strncmp(image, "localhost", 9) == 0) || memchr(image, '.', n) || memchr(image, ':', n);
    return host ? n : 0;
}

bool image_name_valid(const char *image) {
    if (str_empty(image) || strlen(image) > IMAGE_NAME_MAX)
        return false;
    size_t n = domain_length(image);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)image[i]) && !strchr(".-:[]", image[i]))
            return false;
    const char *s = image + (n ? n + 1 : 0), *start = s;
    while (*s && *s != ':' && *s != '@') {
        /* Parts between slashes begin and end with a letter or digit. */
        bool first = s == start || s[-1] == '/', last = !s[1] || strchr("/:@", s[1]);
        if (!path_char(*s) || ((first || last) && !isalnum((unsigned char)*s)))
            return false;
        s++;
    }
    if (s == start)
        return false;
    if (*s == ':') {
        const char *tag = ++s;
        while (isalnum((unsigned char)*s) || *s == '_' || ((*s == '.' || *s == '-') && s > tag))
            s++;
        if (s == tag || s - tag > 128)
            return false;
    }
    if (*s == '@') {
        const char *hex = strchr(s, ':');
        if (!hex || hex == s + 1 || strlen(hex + 1) < 32 || strspn(hex + 1, "0123456789abcdef") != strlen(hex + 1))
            return false;
        return true;
    }
    return *s == '\0';
}

const char *image_pull_policy(yyjson_val *container) {
    const char *policy = json_str(container, "imagePullPolicy");
    if (!str_empty(policy))
        return policy;
    const char *image = str_or(json_str(container, "image"), "");
    if (strchr(image, '@'))
        return "IfNotPresent";
    const char *tag = strchr(image + domain_length(image) + (domain_length(image) ? 1 : 0), ':');
    return !tag || str_eq(tag, ":latest") ? "Always" : "IfNotPresent";
}

char *image_registry(const char *image) {
    size_t n = domain_length(image);
    return n ? xstrndup(image, n) : xstrdup("docker.io");
}

/* "https://index.docker.io/v1/" and "registry.example/path" name the registries docker.io and registry.example. */
static bool key_matches(const char *key, const char *registry) {
    const char *s = strstr(key, "://");
    s = s ? s + 3 : key;
    size_t n = strcspn(s, "/");
    if (n == strlen(registry) && strncmp(s, registry, n) == 0)
        return true;
    bool hub = (n == 15 && strncmp(s, "index.docker.io", n) == 0) || (n == 9 && strncmp(s, "docker.io", n) == 0);
    if (hub)
        return str_eq(registry, "docker.io");
    if (n > 2 && s[0] == '*' && s[1] == '.') { /* one label wild */
        const char *rest = strchr(registry, '.');
        return rest && strlen(rest) == n - 1 && strncmp(rest, s + 1, n - 1) == 0;
    }
    return false;
}

static Cri__AuthConfig *auth_of(yyjson_val *v, const char *registry) {
    Cri__AuthConfig *a = CRI_NEW(Cri__AuthConfig, cri__auth_config__init);
    a->server_address = xstrdup(registry);
    const char *user = json_str(v, "username"), *password = json_str(v, "password"), *auth = json_str(v, "auth");
    _cleanup_(buf_free_secret) struct buf plain = BUF_INIT(65536);
    struct bytes before, after;
    if (!str_empty(user)) {
        a->username = xstrdup(user);
        a->password = xstrdup(str_or(password, ""));
    } else if (!str_empty(auth) && base64_decode(bytes_str(auth), &plain) == 0 &&
               bytes_cut(buf_bytes(&plain), ':', &before, &after)) {
        a->username = bytes_dup(before);
        a->password = bytes_dup(after);
    }
    const char *token = json_str(v, "identitytoken");
    if (!str_empty(token))
        a->identity_token = xstrdup(token);
    return a;
}

static void add_from_secret(yyjson_val *secret, const char *registry, Cri__AuthConfig ***list, size_t *n) {
    bool legacy = false;
    const char *encoded = json_str(secret, "data", ".dockerconfigjson");
    if (!encoded) {
        encoded = json_str(secret, "data", ".dockercfg");
        legacy = true;
    }
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(DOCKER_CONFIG_MAX);
    if (!encoded || base64_decode(bytes_str(encoded), &text) < 0)
        return;
    yyjson_doc *doc = json_parse(buf_bytes(&text), DOCKER_CONFIG_MAX, NULL);
    yyjson_val *auths = yyjson_doc_get_root(doc);
    if (!legacy)
        auths = yyjson_obj_get(auths, "auths");
    size_t i, max;
    yyjson_val *key, *val;
    yyjson_obj_foreach (auths, i, max, key, val) {
        if (!key_matches(yyjson_get_str(key), registry))
            continue;
        *list = xreallocarray(*list, *n + 2, sizeof(**list));
        (*list)[(*n)++] = auth_of(val, registry);
        (*list)[*n] = NULL;
    }
    yyjson_doc_free(doc);
}

Cri__AuthConfig **image_credentials(const struct pod *p, const struct object_set *objects, const char *image) {
    _cleanup_(free_p) char *registry = image_registry(image);
    Cri__AuthConfig **list = NULL;
    size_t n = 0, i, max;
    yyjson_val *ref;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "imagePullSecrets"), i, max, ref) {
        const struct object_entry *e = object_set_get(objects, OBJ_SECRET, json_str(ref, "name"));
        if (e && e->obj)
            add_from_secret(e->obj, registry, &list, &n);
    }
    return list;
}

void image_credentials_free(Cri__AuthConfig **list) {
    for (size_t i = 0; list && list[i]; i++)
        CRI_FREE(list[i]);
    free(list);
}
