#include "cloud/devicecontroller/internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "wire/resource.h"

/* ---- sending ---- */

static void send_message(struct devicecontroller *c, const char *node, const struct message_fields *f) {
    /* Who is not connected is told everything when it comes back; only what is gone by then must be remembered. */
    if (!c->hub || (!str_eq(f->operation, OP_DELETE) && !cloudhub_connected(c->hub, node)))
        return;
    metric_add(c->sent, 1);
    cloudhub_send(c->hub, node, message_new(f));
}

static void send_object(struct devicecontroller *c, const char *node, const char *type, const char *operation,
                        yyjson_val *object) {
    _cleanup_(buf_free) struct buf resource = BUF_INIT(1024);
    (void)resource_format(&resource, object_namespace(object), type, object_name(object));
    send_message(c, node,
                 &(struct message_fields){.source = MODULE_DEVICECONTROLLER,
                                          .group = GROUP_RESOURCE,
                                          .operation = operation,
                                          .resource = resource.ptr,
                                          .resource_version = object_rv(object),
                                          .content = object});
}

static yyjson_mut_val *membership_entry(yyjson_mut_doc *d, yyjson_val *device) {
    yyjson_mut_val *o = yyjson_mut_obj(d);
    const char *description = object_label(device, "description");
    _cleanup_(free_p) char *id = xasprintf("%s/%s", object_namespace(device), object_name(device));
    json_set_str(d, o, "id", id);
    json_set_str(d, o, "name", object_name(device));
    if (!str_empty(description))
        json_set_str(d, o, "description", description);
    return o;
}

static void send_twin(struct devicecontroller *c, const char *node, const char *resource, yyjson_mut_val *content) {
    send_message(c, node,
                 &(struct message_fields){.source = MODULE_DEVICECONTROLLER,
                                          .group = GROUP_TWIN,
                                          .operation = OP_UPDATE,
                                          .resource = resource,
                                          .content_mut = content});
}

static yyjson_mut_val *membership_base(yyjson_mut_doc *d) {
    yyjson_mut_val *o = yyjson_mut_obj(d);
    char id[UUID_SIZE];
    json_set_str(d, o, "event_id", uuid_v4(id));
    json_set_int(d, o, "timestamp", clock_wall_ms());
    return o;
}

static void send_membership_change(struct devicecontroller *c, const char *node, bool add, yyjson_val *device) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = membership_base(d);
    yyjson_mut_val *list = json_ensure_arr(d, o, add ? "added_devices" : "removed_devices");
    yyjson_mut_arr_append(list, membership_entry(d, device));
    json_set(d, o, add ? "removed_devices" : "added_devices", yyjson_mut_null(d));
    send_twin(c, node, "membership", o);
}

void devices_send_membership(struct devicecontroller *c, const char *node) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = membership_base(d);
    yyjson_mut_val *list = json_ensure_arr(d, o, "devices");
    struct device *v, *next;
    if (!reflector_synced(c->devices))
        return; /* half a list would take the other half away */
    HASH_ITER (hh, c->index, v, next)
        if (str_eq(v->node, node))
            yyjson_mut_arr_append(list, membership_entry(d, device_object(v)));
    send_twin(c, node, "membership/detail", o);
}

void devices_confirm(struct devicecontroller *c, const char *node, const char *message_id) {
    send_message(c, node,
                 &(struct message_fields){.parent_id = message_id,
                                          .source = MODULE_DEVICECONTROLLER,
                                          .group = GROUP_TWIN,
                                          .operation = OP_RESPONSE,
                                          .resource = "twin",
                                          .content_string = "OK"});
}

/* ---- devices ---- */

struct device *device_find(const struct devicecontroller *c, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", ns, name);
    struct device *d;
    HASH_FIND_STR(c->index, key, d);
    return d;
}

yyjson_val *device_object(const struct device *d) {
    return reflector_get(d->c->devices, d->ns, d->name);
}

static const char *model_name(yyjson_val *device) {
    return str_or(json_str(device, "spec", "deviceModelRef", "name"), "");
}

yyjson_val *device_model(const struct device *d) {
    return reflector_get(d->c->models, d->ns, model_name(device_object(d)));
}

/* The model goes first, so that the device finds it there. One that is there already costs an acknowledgement. */
static void send_device(struct devicecontroller *c, const struct device *d, const char *operation, yyjson_val *object) {
    yyjson_val *model = device_model(d);
    if (model)
        send_object(c, d->node, "devicemodel", operation, model);
    send_object(c, d->node, "device", operation, object);
}

static void assign(struct devicecontroller *c, struct device *d, yyjson_val *object) {
    if (!*d->node)
        return;
    send_membership_change(c, d->node, true, object);
    send_device(c, d, OP_INSERT, object);
}

static bool model_in_use(const struct devicecontroller *c, const char *node, const char *ns, const char *model) {
    const struct device *d;
    for (d = c->index; d; d = d->hh.next)
        if (str_eq(d->node, node) && str_eq(d->ns, ns) && str_eq(model_name(device_object(d)), model))
            return true;
    return false;
}

/* The node has it no longer; old is the Device as the node knows it. */
static void withdraw(struct devicecontroller *c, const char *node, yyjson_val *old) {
    if (!*node)
        return;
    send_membership_change(c, node, false, old);
    send_object(c, node, "device", OP_DELETE, old);
    const char *ns = object_namespace(old), *name = model_name(old);
    yyjson_val *model = reflector_get(c->models, ns, name);
    if (model && !model_in_use(c, node, ns, name))
        send_object(c, node, "devicemodel", OP_DELETE, model);
}

static struct device *device_new(struct devicecontroller *c, yyjson_val *object) {
    struct device *d = NEW(struct device);
    d->c = c;
    d->key = xasprintf("%s/%s", object_namespace(object), object_name(object));
    d->memory = xstrdup(d->key);
    char *slash = strchr(d->memory, '/');
    *slash = 0;
    d->ns = d->memory;
    d->name = slash + 1;
    d->uid = xstrdup(object_uid(object));
    d->node = xstrdup(str_or(json_str(object, "spec", "nodeName"), ""));
    HASH_ADD_KEYPTR(hh, c->index, d->key, strlen(d->key), d);
    d->writer = status_writer_new(c->queue, d);
    return d;
}

static void device_free(struct device *d, bool gone) {
    HASH_DEL(d->c->index, d);
    status_writer_free(d->writer, gone);
    free(d->key);
    free(d->memory);
    free(d->uid);
    free(d->node);
    free(d);
}

static bool same(yyjson_val *a, yyjson_val *b) {
    return a == b || (a && b && json_equal(a, b));
}

static bool device_changed(yyjson_val *a, yyjson_val *b) {
    return !same(json_get(a, "spec"), json_get(b, "spec")) || !same(object_labels(a), object_labels(b)) ||
           !same(json_get(a, "status"), json_get(b, "status"));
}

static void device_removed(struct devicecontroller *c, yyjson_val *object) {
    struct device *d = device_find(c, object_namespace(object), object_name(object));
    if (!d)
        return;
    _cleanup_(free_p) char *node = xstrdup(d->node);
    device_free(d, true);
    withdraw(c, node, object);
}

static void device_updated(struct devicecontroller *c, struct device *d, yyjson_val *object, yyjson_val *old) {
    const char *node = str_or(json_str(object, "spec", "nodeName"), "");
    if (!str_eq(node, d->node)) {
        char *before = d->node;
        d->node = xstrdup(node);
        withdraw(c, before, old ? old : object);
        free(before);
        assign(c, d, object);
    } else if (*node) {
        send_device(c, d, OP_UPDATE, object);
    }
    status_writer_refresh(d->writer);
}

static void on_device(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    struct devicecontroller *c = arg;
    struct device *d = device_find(c, object_namespace(object), object_name(object));
    yyjson_val *kept = reflector_get(c->devices, object_namespace(object), object_name(object));
    if (ev == REFLECTOR_DELETED) {
        device_removed(c, object);
        return;
    }
    if (d && !str_eq(d->uid, object_uid(object))) { /* deleted and made anew while we did not look */
        device_removed(c, old ? old : object);
        d = NULL;
    }
    if (!d)
        assign(c, device_new(c, kept), kept);
    else if (!old || device_changed(old, kept))
        device_updated(c, d, kept, old);
}

/* What the nodes need, and what is compared: without managedFields, and of the status only what tells a mapper. */
static yyjson_doc *trim(void *arg, yyjson_val *object) {
    static const char *const kept[] = {"reportToCloud", "reportCycle"};
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_val_mut_copy(d, object);
    yyjson_mut_val *metadata = yyjson_mut_obj_get(o, "metadata");
    if (metadata)
        json_remove(metadata, "managedFields");
    json_remove(o, "status");
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        yyjson_val *v = json_get(object, "status", kept[i]);
        if (v)
            json_set(d, json_ensure_obj(d, o, "status"), kept[i], yyjson_val_mut_copy(d, v));
    }
    yyjson_mut_doc_set_root(d, o);
    return yyjson_mut_doc_imut_copy(d, NULL);
}

/* ---- models ---- */

static void on_model(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    struct devicecontroller *c = arg;
    if (ev == REFLECTOR_MODIFIED && old && same(json_get(object, "spec"), json_get(old, "spec")))
        return;
    struct strlist told = {0};
    struct device *d, *next;
    HASH_ITER (hh, c->index, d, next) {
        if (!str_eq(d->ns, object_namespace(object)) || !str_eq(model_name(device_object(d)), object_name(object)))
            continue;
        if (*d->node && !strlist_has(&told, d->node)) {
            strlist_add(&told, d->node);
            send_object(c, d->node, "devicemodel",
                        ev == REFLECTOR_DELETED ? OP_DELETE
                        : ev == REFLECTOR_ADDED ? OP_INSERT
                                                : OP_UPDATE,
                        object);
        }
        status_writer_refresh(d->writer);
    }
    strlist_free(&told);
}

/* ---- nodes ---- */

void devices_converge(struct devicecontroller *c, const char *node) {
    struct strlist models = {0};
    struct device *d, *next;
    HASH_ITER (hh, c->index, d, next) {
        yyjson_val *model = device_model(d);
        if (!str_eq(d->node, node))
            continue;
        _cleanup_(free_p) char *key = xasprintf("%s/%s", d->ns, model_name(device_object(d)));
        if (model && !strlist_has(&models, key)) {
            strlist_add(&models, key);
            send_object(c, node, "devicemodel", OP_UPDATE, model);
        }
        send_object(c, node, "device", OP_UPDATE, device_object(d));
    }
    strlist_free(&models);
    devices_send_membership(c, node);
}

/* ---- life ---- */

/* DeviceStatuses whose Device went away while nobody looked. */
static void on_status(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    struct devicecontroller *c = arg;
    if (ev != REFLECTOR_ADDED || device_find(c, object_namespace(object), object_name(object)))
        return;
    _cleanup_(free_p) char *path = kube_path("devices.kubeedge.io", "v1beta1", object_namespace(object),
                                             "devicestatuses", object_name(object), NULL);
    _cleanup_(free_p) char *body = xasprintf("{\"preconditions\":{\"uid\":\"%s\"}}", object_uid(object));
    const struct kube_request r = {.verb = "DELETE", .path = path, .body = bytes_str(body)};
    log_info("the Device of a DeviceStatus is gone, deleting it status=%s/%s", object_namespace(object),
             object_name(object));
    kube_call(c->o.kube, &r);
}

static void on_statuses_listed(void *arg) {
    struct devicecontroller *c = arg;
    reflector_free(TAKE(c->leftovers));
}

static void on_synced(void *arg) {
    struct devicecontroller *c = arg;
    struct device *d, *next;
    if (!reflector_synced(c->devices) || !reflector_synced(c->models))
        return;
    HASH_ITER (hh, c->index, d, next)
        status_writer_refresh(d->writer);
    if (c->leftovers)
        return;
    const struct reflector_options o = {.group = "devices.kubeedge.io",
                                        .version = "v1beta1",
                                        .plural = "devicestatuses",
                                        .event = on_status,
                                        .synced = on_statuses_listed,
                                        .arg = c};
    c->leftovers = reflector_new(c->o.kube, &o);
}

void devices_start(struct devicecontroller *c) {
    struct reflector_options o = {.group = "devices.kubeedge.io",
                                  .version = "v1beta1",
                                  .keep_objects = true,
                                  .trim = trim,
                                  .synced = on_synced,
                                  .arg = c};
    o.plural = "devicemodels";
    o.event = on_model;
    c->models = reflector_new(c->o.kube, &o);
    o.plural = "devices";
    o.event = on_device;
    c->devices = reflector_new(c->o.kube, &o);
}

void devices_free(struct devicecontroller *c) {
    struct device *d, *next;
    HASH_ITER (hh, c->index, d, next)
        device_free(d, false);
    if (c->leftovers)
        reflector_free(c->leftovers);
    if (c->devices)
        reflector_free(c->devices);
    if (c->models)
        reflector_free(c->models);
}
