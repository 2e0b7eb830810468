#include "edge/edged/objects.h"

#include "wire/resource.h"

#define FETCH_TIMEOUT_MS 70000
#define TOKEN_SECONDS_DEFAULT 3600

void object_set_free(struct object_set *s) {
    if (!s)
        return;
    struct object_entry *e, *tmp;
    HASH_ITER (hh, s->items, e, tmp) {
        HASH_DEL(s->items, e);
        yyjson_doc_free(e->doc);
        free(e);
    }
    free(s->ns);
    free(s);
}

/* The kind, then the name. */
static struct object_entry *find(const struct object_set *s, enum object_kind kind, const char *name, size_t n) {
    char small[256];
    _cleanup_(free_p) char *large = n + 1 > sizeof(small) ? xmalloc(n + 1) : NULL;
    char *key = large ? large : small;
    key[0] = (char)('0' + kind);
    memcpy(key + 1, name, n);
    struct object_entry *e;
    HASH_FIND(hh, s->items, key, n + 1, e);
    return e;
}

const struct object_entry *object_set_get(const struct object_set *s, enum object_kind kind, const char *name) {
    return s && name ? find(s, kind, name, strlen(name)) : NULL;
}

struct object_entry *object_set_want(struct object_set *s, enum object_kind kind, const char *name) {
    size_t n = strlen(name);
    struct object_entry *e = find(s, kind, name, n);
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e) + n + 2);
    e->kind = kind;
    e->key[0] = (char)('0' + kind);
    memcpy(e->key + 1, name, n + 1);
    e->name = e->key + 1;
    HASH_ADD_KEYPTR(hh, s->items, e->key, n + 1, e);
    return e;
}

static void want(void *arg, enum object_kind kind, const char *name) {
    if (!str_empty(name))
        object_set_want(arg, kind, name);
}

static const char *account_of(const struct pod *p) {
    return str_or(json_str(p->spec, "serviceAccountName"), str_or(json_str(p->spec, "serviceAccount"), "default"));
}

char *token_entry_name(const struct pod *p, yyjson_val *source) {
    int64_t seconds = json_int_or(yyjson_obj_get(source, "expirationSeconds"), TOKEN_SECONDS_DEFAULT);
    return xasprintf("%s/%s/%lld", account_of(p), str_or(json_str(source, "audience"), ""), (long long)seconds);
}

static void visit_env(yyjson_val *containers, void (*visit)(void *arg, enum object_kind kind, const char *name),
                      void *arg) {
    size_t i, max, j, n;
    yyjson_val *c, *e;
    yyjson_arr_foreach (containers, i, max, c) {
        yyjson_arr_foreach (yyjson_obj_get(c, "env"), j, n, e) {
            visit(arg, OBJ_CONFIGMAP, json_str(e, "valueFrom", "configMapKeyRef", "name"));
            visit(arg, OBJ_SECRET, json_str(e, "valueFrom", "secretKeyRef", "name"));
        }
        yyjson_arr_foreach (yyjson_obj_get(c, "envFrom"), j, n, e) {
            visit(arg, OBJ_CONFIGMAP, json_str(e, "configMapRef", "name"));
            visit(arg, OBJ_SECRET, json_str(e, "secretRef", "name"));
        }
    }
}

static void visit_volumes(const struct pod *p, void (*visit)(void *arg, enum object_kind kind, const char *name),
                          void *arg) {
    size_t i, max, j, n;
    yyjson_val *v, *src;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "volumes"), i, max, v) {
        visit(arg, OBJ_CONFIGMAP, json_str(v, "configMap", "name"));
        visit(arg, OBJ_SECRET, json_str(v, "secret", "secretName"));
        yyjson_arr_foreach (json_get(v, "projected", "sources"), j, n, src) {
            visit(arg, OBJ_CONFIGMAP, json_str(src, "configMap", "name"));
            visit(arg, OBJ_SECRET, json_str(src, "secret", "name"));
            yyjson_val *token = yyjson_obj_get(src, "serviceAccountToken");
            if (token) {
                _cleanup_(free_p) char *name = token_entry_name(p, token);
                visit(arg, OBJ_TOKEN, name);
            }
        }
    }
}

/* Shows every reference of the pod, some of them more than once; the name may be NULL. */
static void visit_references(const struct pod *p, void (*visit)(void *arg, enum object_kind kind, const char *name),
                             void *arg) {
    visit_env(yyjson_obj_get(p->spec, "initContainers"), visit, arg);
    visit_env(yyjson_obj_get(p->spec, "containers"), visit, arg);
    visit_volumes(p, visit, arg);
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "imagePullSecrets"), i, max, v)
        visit(arg, OBJ_SECRET, json_str(v, "name"));
}

struct object_set *object_set_of_pod(const struct pod *p) {
    struct object_set *s = NEW(struct object_set);
    s->ns = xstrdup(p->ns);
    visit_references(p, want, s);
    return s;
}

struct look {
    enum object_kind kind;
    const char *name;
    bool found;
};

static void look_for(void *arg, enum object_kind kind, const char *name) {
    struct look *l = arg;
    l->found = l->found || (kind == l->kind && name && strcmp(name, l->name) == 0);
}

bool pod_refers_to(const struct pod *p, enum object_kind kind, const char *name) {
    struct look l = {.kind = kind, .name = name};
    visit_references(p, look_for, &l);
    return l.found;
}

/* ---- fetching ---- */

struct fetch_item {
    struct object_fetch *fetch;
    struct bus_request *request;
    struct object_entry *entry;
};

struct object_fetch {
    size_t waiting;
    void (*done)(void *arg);
    void *arg;
    size_t n_items;
    struct fetch_item items[];
};

static const char *kind_word(enum object_kind k) {
    return k == OBJ_CONFIGMAP ? "configmap" : k == OBJ_SECRET ? "secret" : "service account token";
}

static int entry_error(struct object_entry *e, yyjson_val *status) {
    const char *reason = json_str(status, "reason");
    if (str_eq(reason, "NotFound") || json_int_or(yyjson_obj_get(status, "code"), 0) == 404)
        return error_set(&e->error, ERR_NOT_FOUND, "%s \"%s\" not found", kind_word(e->kind), e->name);
    return error_set(&e->error, ERR_UNAVAILABLE, "%s \"%s\": %s", kind_word(e->kind), e->name,
                     str_or(json_str(status, "message"), "refused by the cloud"));
}

static void entry_take(struct object_entry *e, yyjson_val *obj) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(d, yyjson_val_mut_copy(d, obj));
    yyjson_doc_free(e->doc);
    e->doc = yyjson_mut_doc_imut_copy(d, NULL);
    yyjson_mut_doc_free(d);
    e->obj = yyjson_doc_get_root(e->doc);
    e->error = (struct error)ERROR_INIT;
}

void object_entry_set(struct object_entry *e, struct message *answer, const struct error *err) {
    if (!answer) {
        e->error.code = err ? err->code : ERR_UNAVAILABLE;
        error_set(&e->error, e->error.code, "%s \"%s\": %s", kind_word(e->kind), e->name, error_text(err));
        return;
    }
    yyjson_val *status = message_content_error(answer);
    if (status) {
        entry_error(e, status);
        return;
    }
    yyjson_doc *parsed = NULL;
    yyjson_val *content = answer->content;
    if (yyjson_is_arr(content) && yyjson_arr_size(content) > 0) { /* stored values, as the original hands them over */
        content = yyjson_arr_get_first(content);
        if (yyjson_is_str(content)) {
            parsed = json_parse(bytes_of(yyjson_get_str(content), yyjson_get_len(content)), MESSAGE_MAX, NULL);
            content = yyjson_doc_get_root(parsed);
        }
    } else if (!yyjson_is_obj(content)) {
        content = message_content_object(answer, &parsed);
    }
    if (yyjson_is_obj(content) && yyjson_obj_size(content) > 0)
        entry_take(e, content);
    else
        error_set(&e->error, ERR_NOT_FOUND, "%s \"%s\" not found", kind_word(e->kind), e->name);
    yyjson_doc_free(parsed);
}

static void fetch_finish(struct object_fetch *f) {
    void (*done)(void *) = f->done;
    void *arg = f->arg;
    free(f);
    done(arg);
}

static void item_done(void *arg, struct message *answer, const struct error *err) {
    struct fetch_item *item = arg;
    struct object_fetch *f = item->fetch;
    item->request = NULL;
    object_entry_set(item->entry, answer, err);
    message_free(answer);
    if (--f->waiting == 0)
        fetch_finish(f);
}

static struct message *token_request(const struct pod *p, const char *entry) {
    struct bytes parts[3];
    if (bytes_split(bytes_str(entry), '/', parts, 3) < 3)
        panic("token entry %s", entry);
    _cleanup_(free_p) char *account = bytes_dup(parts[0]);
    struct bytes seconds = bytes_str(strrchr(entry, '/') + 1);
    struct bytes audience = {parts[1].ptr, (size_t)(seconds.ptr - 1 - parts[1].ptr)};
    int64_t n = TOKEN_SECONDS_DEFAULT;
    if (parse_i64(seconds, 600, INT32_MAX, &n) < 0)
        n = TOKEN_SECONDS_DEFAULT;
    _cleanup_(buf_free) struct buf content = BUF_INIT(16384), resource = BUF_INIT(1024);
    resource_format(&resource, p->ns, "serviceaccounttoken", account);
    buf_add_str(&content, "{\"kind\":\"TokenRequest\",\"apiVersion\":\"authentication.k8s.io/v1\",\"spec\":{");
    if (audience.len > 0) {
        buf_add_str(&content, "\"audiences\":[");
        json_append_string(&content, audience);
        buf_add_str(&content, "],");
    } else
        buf_add_str(&content, "\"audiences\":null,");
    buf_addf(&content,
             "\"expirationSeconds\":%lld,\"boundObjectRef\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"name\":\"%s\","
             "\"uid\":\"%s\"}}}",
             (long long)n, p->name, p->uid);
    return message_new(&(struct message_fields){.source = MODULE_EDGED,
                                                .group = GROUP_META,
                                                .operation = OP_QUERY,
                                                .resource = resource.ptr,
                                                .content_text = buf_bytes(&content)});
}

static struct message *plain_query(const struct pod *p, const struct object_entry *e) {
    _cleanup_(buf_free) struct buf resource = BUF_INIT(1024);
    resource_format(&resource, p->ns, e->kind == OBJ_CONFIGMAP ? "configmap" : "secret", e->name);
    return message_new(&(struct message_fields){
        .source = MODULE_EDGED, .group = GROUP_META, .operation = OP_QUERY, .resource = resource.ptr});
}

struct object_fetch *object_fetch_start(struct bus *b, const struct pod *p, struct object_set *s,
                                        void (*done)(void *arg), void *arg) {
    size_t n = HASH_COUNT(s->items), i = 0;
    struct object_fetch *f = xcalloc(1, sizeof(*f) + n * sizeof(f->items[0]));
    *f = (struct object_fetch){.done = done, .arg = arg, .waiting = n, .n_items = n};
    for (struct object_entry *e = s->items; e; e = e->hh.next, i++) {
        struct message *m = e->kind == OBJ_TOKEN ? token_request(p, e->name) : plain_query(p, e);
        f->items[i] = (struct fetch_item){.fetch = f, .entry = e};
        f->items[i].request = bus_request(b, MODULE_METAMANAGER, m, FETCH_TIMEOUT_MS, item_done, &f->items[i]);
    }
    return f;
}

void object_fetch_cancel(struct object_fetch *f) {
    if (!f)
        return;
    for (size_t i = 0; i < f->n_items; i++)
        if (f->items[i].request)
            bus_request_cancel(f->items[i].request);
    free(f);
}
