/* What edge components ask MetaManager for: answered from the database, or by the cloud and then stored. */
#define LOG_COMPONENT "metamanager"

#include "base/mem.h"
#include "base/str.h"
#include "edge/metamanager/meta_internal.h"
#include "edge/metamanager/meta_local.h"
#include "kube/object.h"

#include <utlist.h>

/* A request on its way to the cloud. */
struct meta_remote {
    struct metamanager *mm;
    struct message *message; /* the caller's; owned */
    struct bus_request *request;
    struct meta_remote *prev, *next;
};

static void reply(struct metamanager *mm, const struct message *request, const struct message_fields *content) {
    struct message_fields f = *content;
    f.operation = OP_RESPONSE;
    struct message *answer = message_response(request, MODULE_METAMANAGER, request->group, &f);
    if (!bus_reply(mm->bus, answer))
        message_free(answer);
}

static void reply_not_found(struct metamanager *mm, const struct job *j) {
    size_t len = 0;
    _cleanup_(free_p) char *message = xasprintf("%.*s \"%.*s\" not found", (int)j->resource.type.len,
                                                j->resource.type.ptr, (int)j->resource.name.len, j->resource.name.ptr);
    _cleanup_(free_p) char *status = status_failure(404, "NotFound", message, NULL, &len);
    _cleanup_(free_p) char *content = xasprintf("{\"ErrStatus\":%s}", status);
    reply(mm, j->message, &(struct message_fields){.content_text = bytes_str(content)});
}

static void remote_free(struct meta_remote *r) {
    DL_DELETE(r->mm->remotes, r);
    if (r->message)
        message_free(r->message);
    free(r);
}

static bool is_patch(const struct message *m) {
    return strcmp(m->operation, OP_PATCH) == 0;
}

/* The cloud did not get it: the caller is told, and a status patch is kept for who reads the database meanwhile. */
static void remote_failed(struct metamanager *mm, struct message *m, const struct error *err) {
    (void)bus_reply_error(mm->bus, m->id, err);
    if (is_patch(m))
        meta_submit(mm, job_new(JOB_KEEP_PATCH, m));
    else
        message_free(m);
}

static void remote_done(void *arg, struct message *answer, const struct error *err) {
    struct meta_remote *r = arg;
    struct metamanager *mm = r->mm;
    struct message *m = TAKE(r->message);
    remote_free(r);
    if (!answer) {
        remote_failed(mm, m, err);
        return;
    }
    struct job *j = job_new(JOB_ANSWER, m);
    j->answer = answer;
    meta_submit(mm, j);
}

/* Sends the request on under an id of its own, so that a caller may try again with the same one. */
static void ask_cloud(struct metamanager *mm, struct message *m) {
    struct error err = ERROR_INIT;
    if (!bus_connected(mm->bus)) {
        (void)error_set(&err, ERR_UNAVAILABLE, "not connected to the cloud");
        remote_failed(mm, m, &err);
        return;
    }
    struct meta_remote *r = NEW(struct meta_remote);
    r->mm = mm;
    r->message = m;
    DL_APPEND(mm->remotes, r);
    struct message_fields f = {.source = m->source,
                               .group = m->group,
                               .operation = m->operation,
                               .resource = m->resource,
                               .resource_version = m->resource_version,
                               .content = m->content};
    r->request = bus_request(mm->bus, MODULE_WEBSOCKET, message_new(&f),
                             (int)mm->config->meta.remote_query_timeout_s * 1000, remote_done, r);
}

/* Where a query is answered. */
enum place {
    LOCAL,       /* the database only: the cloud does not answer for these */
    LOCAL_FIRST, /* the cloud keeps the stored copy up to date, so that asking it again would give nothing newer */
    CLOUD_FIRST, /* the database only while there is no connection */
};

static enum place place_of(const struct resource *r) {
    static const char *const local_first[] = {"configmap", "secret", "node", "serviceaccounttoken"};
    static const char *const cloud_first[] = {"persistentvolume", "persistentvolumeclaim", "volumeattachment", "lease",
                                              "certificatesigningrequest"};
    if (r->name.len == 0)
        return LOCAL;
    for (size_t i = 0; i < ARRAY_LEN(local_first); i++)
        if (bytes_eq_str(r->type, local_first[i]))
            return LOCAL_FIRST;
    for (size_t i = 0; i < ARRAY_LEN(cloud_first); i++)
        if (bytes_eq_str(r->type, cloud_first[i]))
            return CLOUD_FIRST;
    return LOCAL;
}

static void query(struct metamanager *mm, struct message *m) {
    struct resource r;
    bool known = resource_parse(bytes_str(m->resource), &r, NULL) == 0;
    if (known && place_of(&r) == CLOUD_FIRST && bus_connected(mm->bus))
        ask_cloud(mm, m);
    else
        meta_submit(mm, job_new(JOB_READ, m));
}

void meta_request(struct metamanager *mm, struct message *m) {
    struct resource r;
    bool known = resource_parse(bytes_str(m->resource), &r, NULL) == 0;
    if (meta_is_local(m))
        meta_submit(mm, job_new(JOB_LOCAL, m));
    else if (known && bytes_eq_str(r.type, "event"))
        bus_send(mm->bus, MODULE_WEBSOCKET, m);
    else if (strcmp(m->operation, OP_QUERY) == 0)
        query(mm, m);
    else if (known && strcmp(m->operation, OP_DELETE) == 0 && bytes_eq_str(r.type, "serviceaccounttoken"))
        meta_submit(mm, job_new(JOB_TOKENS, m));
    else
        ask_cloud(mm, m);
}

static void read_done(struct metamanager *mm, struct job *j) {
    enum place place = j->has_resource ? place_of(&j->resource) : LOCAL;
    bool connected = bus_connected(mm->bus);
    if (j->text && place == LOCAL && j->has_resource && j->resource.name.len == 0 && !meta_is_whole(mm)) {
        _cleanup_(free_p) char *content = xasprintf("{\"incomplete\":%s}", j->text);
        reply(mm, j->message, &(struct message_fields){.content_text = bytes_str(content)});
    } else if (j->text && !(j->stale && connected)) {
        reply(mm, j->message, &(struct message_fields){.content_text = bytes_of(j->text, j->text_len)});
    } else if (place == LOCAL) {
        reply_not_found(mm, j);
    } else if (connected) {
        ask_cloud(mm, TAKE(j->message));
    } else {
        struct error err = ERROR_INIT;
        (void)error_set(&err, ERR_UNAVAILABLE, "%s is not stored, and the cloud cannot be reached",
                        j->message->resource);
        (void)bus_reply_error(mm->bus, j->message->id, &err);
    }
}

/* Answers to queries of these are tracked by the cloud as delivered once acknowledged (wire-protocol.md 3.4). */
static bool wants_ack(const struct job *j) {
    static const char *const types[] = {"configmap", "secret", "persistentvolume", "persistentvolumeclaim",
                                        "volumeattachment"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (j->object && bytes_eq_str(j->resource.type, types[i]))
            return true;
    return false;
}

static void answer_done(struct metamanager *mm, struct job *j) {
    if (j->failed.code == ERR_NONE && wants_ack(j))
        meta_ack(mm, j->answer);
    if (j->failed.code == ERR_NONE && j->told) {
        struct buf resource = BUF_INIT(4096);
        _cleanup_(free_p) char *ns = bytes_dup(j->resource.ns), *name = bytes_dup(j->resource.name);
        if (resource_format(&resource, ns, "pod", name) == 0) {
            struct message_fields f = {.source = MODULE_METAMANAGER,
                                       .group = GROUP_RESOURCE,
                                       .operation = OP_UPDATE,
                                       .resource = resource.ptr,
                                       .content_text = bytes_of(j->object, j->object_len)};
            bus_send(mm->bus, MODULE_EDGED, message_new(&f));
        }
        buf_free(&resource);
    }
    struct message_fields content = {.content = j->answer->content};
    if (j->text)
        content.content_text = bytes_of(j->text, j->text_len);
    reply(mm, j->message, &content);
}

void meta_request_done(struct metamanager *mm, struct job *j) {
    if (j->kind == JOB_ANSWER)
        answer_done(mm, j); /* the caller gets the answer also where it could not be stored */
    else if (j->kind == JOB_WHOLE)
        mm->gaps = j->failed.code != ERR_NONE;
    else if (j->failed.code != ERR_NONE)
        (void)bus_reply_error(mm->bus, j->message->id, &j->failed);
    else if (j->kind == JOB_READ)
        read_done(mm, j);
    else if (j->kind == JOB_LOCAL)
        reply(mm, j->message, &(struct message_fields){.content_text = bytes_of(j->text, j->text_len)});
    else if (j->kind == JOB_TOKENS)
        reply(mm, j->message, &(struct message_fields){.content_string = "OK"});
    job_free(j);
}

void meta_requests_free(struct metamanager *mm) {
    struct meta_remote *r, *next;
    DL_FOREACH_SAFE (mm->remotes, r, next) {
        bus_request_cancel(r->request);
        remote_free(r);
    }
}
