#define LOG_COMPONENT "metamanager"

#include "edge/metamanager/meta_job.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/metamanager/meta_local.h"
#include "edge/metamanager/meta_types.h"
#include "kube/object.h"

#define LIST_MAX (256u << 20) /* all pods of a node together */
#define KEY_MAX 4096

struct job *job_new(enum job_kind kind, struct message *m) {
    struct job *j = NEW(struct job);
    j->kind = kind;
    j->message = m;
    j->has_resource = m && resource_parse(bytes_str(m->resource), &j->resource, NULL) == 0;
    j->size = m && m->doc ? yyjson_doc_get_read_size(m->doc) : 0;
    return j;
}

void job_free(struct job *j) {
    if (j->message)
        message_free(j->message);
    if (j->answer)
        message_free(j->answer);
    free(j->text);
    free(j->object);
    free(j);
}

bool job_writes(const struct job *j) {
    return j->kind == JOB_LOCAL ? meta_local_writes(j->message) : j->kind != JOB_READ;
}

bool content_is_wrapper(yyjson_val *content, bool *ok) {
    yyjson_val *object = json_get(content, "Object"), *error = json_get(content, "Err");
    if (!object && !error)
        return false;
    *ok = yyjson_is_obj(object) && (!error || yyjson_is_null(error));
    return true;
}

static int apply_put(struct job *j, struct meta_store *s, struct error *err) {
    bool answer = strcmp(j->message->operation, OP_RESPONSE) == 0;
    return meta_store_put(s, bytes_str(j->message->resource), &j->resource, j->message->content,
                          answer ? META_PUT_FETCHED : META_PUT_ALWAYS, &j->put, &j->told, err);
}

static int apply_delete(struct job *j, struct meta_store *s, struct error *err) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    yyjson_val *object = message_content_object(j->message, &doc);
    return meta_store_delete(s, bytes_str(j->message->resource), &j->resource, object_uid(object), &j->text,
                             &j->text_len, err);
}

/* A token's row is found by what was asked for. */
static int read_token(struct job *j, struct meta_store *s, struct error *err) {
    _cleanup_(free_p) char *key = meta_token_key(&j->resource, j->message->content);
    if (meta_store_get(s, bytes_str(key), &j->text, &j->text_len, err) < 0)
        return -1;
    if (!j->text)
        return 0;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(bytes_of(j->text, j->text_len), MESSAGE_MAX, NULL);
    j->stale = !meta_token_fresh(yyjson_doc_get_root(doc), clock_wall_s());
    return 0;
}

static int apply_read(struct job *j, struct meta_store *s, struct error *err) {
    if (j->has_resource && bytes_eq_str(j->resource.type, "serviceaccounttoken"))
        return read_token(j, s, err);
    if (!j->has_resource || j->resource.name.len > 0) {
        if (meta_store_get(s, bytes_str(j->message->resource), &j->text, &j->text_len, err) < 0)
            return -1;
        /* A row that is no JSON object is as good as none: it is fetched again. */
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc =
            j->text ? json_parse(bytes_of(j->text, j->text_len), MESSAGE_MAX, NULL) : NULL;
        if (j->text && j->has_resource && (!doc || json_get(yyjson_doc_get_root(doc), "ErrStatus"))) {
            free(j->text);
            j->text = NULL;
        }
        return 0;
    }
    _cleanup_(buf_free) struct buf list = BUF_INIT(LIST_MAX);
    if (meta_store_list(s, j->resource.type, &list, err) < 0)
        return -1;
    j->text = buf_take(&list, &j->text_len);
    return 0;
}

/* The row that an answered object belongs to: that of the object itself for patches of it. */
static int object_row(const struct job *j, struct buf *key, struct resource *r) {
    *r = j->resource;
    if (bytes_ends_with(r->type, "patch"))
        r->type.len -= strlen("patch");
    (void)buf_add_bytes(key, r->ns.len ? r->ns : BYTES_LIT("null"));
    (void)buf_add_char(key, '/');
    (void)buf_add_bytes(key, r->type);
    (void)buf_add_char(key, '/');
    (void)buf_add_bytes(key, r->name);
    return key->overflowed ? -1 : 0;
}

/* An object that came in an answer. Leases change every few seconds and are of no use offline: they are not stored,
 * which spares the flash. */
static int store_answer(struct job *j, struct meta_store *s, yyjson_val *object, struct error *err) {
    _cleanup_(buf_free) struct buf key = BUF_INIT(KEY_MAX);
    struct resource r;
    if (object_row(j, &key, &r) < 0)
        return 0;
    j->object = meta_object_text(r.type, object, &j->object_len);
    if (bytes_eq_str(r.type, "lease"))
        return 0;
    if (bytes_eq_str(r.type, "serviceaccounttoken")) {
        _cleanup_(free_p) char *token_key = meta_token_key(&j->resource, j->message->content);
        return meta_store_put_raw(s, bytes_str(token_key), r.type, bytes_of(j->object, j->object_len), err);
    }
    bool patched_pod = bytes_eq_str(j->resource.type, "podpatch");
    if (meta_store_put(s, buf_bytes(&key), &r, object, patched_pod ? META_PUT_IF_STORED : META_PUT_FETCHED, &j->put,
                       &j->told, err) < 0)
        return -1;
    j->told = j->told && patched_pod;
    if (r.type.len == j->resource.type.len)
        return 0;
    /* The patch has arrived: what was kept of earlier ones is history. */
    return meta_store_delete_raw(s, bytes_str(j->message->resource), err);
}

static int apply_answer(struct job *j, struct meta_store *s, struct error *err) {
    yyjson_val *content = j->answer->content;
    bool ok = false;
    if (!j->has_resource)
        return 0;
    if (content_is_wrapper(content, &ok)) {
        if (ok && store_answer(j, s, json_get(content, "Object"), err) < 0)
            return -1;
        if (j->object) {
            j->text = xasprintf("{\"Object\":%s,\"Err\":null}", j->object);
            j->text_len = strlen(j->text);
        }
        return 0;
    }
    bool named = !str_empty(object_name(content)) || bytes_eq_str(j->resource.type, "serviceaccounttoken");
    if (!yyjson_is_obj(content) || json_get(content, "ErrStatus") || !named)
        return 0;
    if (store_answer(j, s, content, err) < 0)
        return -1;
    if (j->object) {
        j->text = xmemdup(j->object, j->object_len);
        j->text_len = j->object_len;
    }
    return 0;
}

/* Only beside the object that it is for. */
static int apply_keep_patch(struct job *j, struct meta_store *s, struct error *err) {
    _cleanup_(buf_free) struct buf key = BUF_INIT(KEY_MAX);
    _cleanup_(free_p) char *object = NULL, *text = NULL;
    struct resource r;
    size_t len = 0;
    if (!j->has_resource || object_row(j, &key, &r) < 0)
        return 0;
    if (meta_store_get(s, buf_bytes(&key), &object, &len, err) < 0)
        return -1;
    if (!object)
        return 0;
    text = message_content_text(j->message, &len);
    return meta_store_put_raw(s, bytes_str(j->message->resource), j->resource.type, bytes_of(text, len), err);
}

int job_apply(struct job *j, struct meta_store *s, struct error *err) {
    free(TAKE(j->text)); /* of an earlier try that was rolled back */
    free(TAKE(j->object));
    switch (j->kind) {
    case JOB_PUT:
        return apply_put(j, s, err);
    case JOB_DELETE:
        return apply_delete(j, s, err);
    case JOB_READ:
        return apply_read(j, s, err);
    case JOB_ANSWER:
        return apply_answer(j, s, err);
    case JOB_KEEP_PATCH:
        return apply_keep_patch(j, s, err);
    case JOB_LOCAL:
        return meta_local_apply(j, s, err);
    case JOB_TOKENS:
        return meta_store_delete_tokens(s, j->resource.name, err);
    case JOB_WHOLE:
        return meta_store_set_gaps(s, false, err);
    }
    return 0;
}
