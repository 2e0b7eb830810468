#define LOG_COMPONENT "edged"
#include "edge/edged/cri.h"

#include "base/log.h"
#include "base/mem.h"

#define CRI_MESSAGE_MAX (16u << 20)

struct cri {
    struct loop *loop;
    struct grpc_channel *runtime, *image; /* image may be the same channel */
    char *endpoint;
    int timeout_ms;
    struct cri_pending *pending;
    struct log_once state;
};

struct method {
    const char *path;
    const ProtobufCMessageDescriptor *response;
    bool image;
};

#define RUNTIME(name) "/runtime.v1.RuntimeService/" name
#define IMAGE(name) "/runtime.v1.ImageService/" name

static const struct method methods[CRI_N_METHODS] = {
    [CRI_VERSION] = {RUNTIME("Version"), &cri__version_response__descriptor, false},
    [CRI_STATUS] = {RUNTIME("Status"), &cri__status_response__descriptor, false},
    [CRI_RUNTIME_CONFIG] = {RUNTIME("RuntimeConfig"), &cri__runtime_config_response__descriptor, false},
    [CRI_RUN_SANDBOX] = {RUNTIME("RunPodSandbox"), &cri__run_pod_sandbox_response__descriptor, false},
    [CRI_STOP_SANDBOX] = {RUNTIME("StopPodSandbox"), &cri__stop_pod_sandbox_response__descriptor, false},
    [CRI_REMOVE_SANDBOX] = {RUNTIME("RemovePodSandbox"), &cri__remove_pod_sandbox_response__descriptor, false},
    [CRI_SANDBOX_STATUS] = {RUNTIME("PodSandboxStatus"), &cri__pod_sandbox_status_response__descriptor, false},
    [CRI_LIST_SANDBOXES] = {RUNTIME("ListPodSandbox"), &cri__list_pod_sandbox_response__descriptor, false},
    [CRI_CREATE_CONTAINER] = {RUNTIME("CreateContainer"), &cri__create_container_response__descriptor, false},
    [CRI_START_CONTAINER] = {RUNTIME("StartContainer"), &cri__start_container_response__descriptor, false},
    [CRI_STOP_CONTAINER] = {RUNTIME("StopContainer"), &cri__stop_container_response__descriptor, false},
    [CRI_REMOVE_CONTAINER] = {RUNTIME("RemoveContainer"), &cri__remove_container_response__descriptor, false},
    [CRI_LIST_CONTAINERS] = {RUNTIME("ListContainers"), &cri__list_containers_response__descriptor, false},
    [CRI_CONTAINER_STATUS] = {RUNTIME("ContainerStatus"), &cri__container_status_response__descriptor, false},
    [CRI_EXEC_SYNC] = {RUNTIME("ExecSync"), &cri__exec_sync_response__descriptor, false},
    [CRI_EXEC] = {RUNTIME("Exec"), &cri__exec_response__descriptor, false},
    [CRI_ATTACH] = {RUNTIME("Attach"), &cri__attach_response__descriptor, false},
    [CRI_PORT_FORWARD] = {RUNTIME("PortForward"), &cri__port_forward_response__descriptor, false},
    [CRI_REOPEN_LOG] = {RUNTIME("ReopenContainerLog"), &cri__reopen_container_log_response__descriptor, false},
    [CRI_LIST_CONTAINER_STATS] = {RUNTIME("ListContainerStats"), &cri__list_container_stats_response__descriptor,
                                  false},
    [CRI_LIST_IMAGES] = {IMAGE("ListImages"), &cri__list_images_response__descriptor, true},
    [CRI_IMAGE_STATUS] = {IMAGE("ImageStatus"), &cri__image_status_response__descriptor, true},
    [CRI_PULL_IMAGE] = {IMAGE("PullImage"), &cri__pull_image_response__descriptor, true},
    [CRI_REMOVE_IMAGE] = {IMAGE("RemoveImage"), &cri__remove_image_response__descriptor, true},
    [CRI_IMAGE_FS_INFO] = {IMAGE("ImageFsInfo"), &cri__image_fs_info_response__descriptor, true},
};

static void on_state(void *arg, bool connected, const struct error *why) {
    struct cri *c = arg;
    if (connected)
        log_once_recovered(&c->state, LOG_COMPONENT, "container runtime answers again at %s", c->endpoint);
    else
        log_once_failed(&c->state, LOG_COMPONENT,
                        "container runtime not reachable at %s: %s; is it running? (edgecore.yaml: "
                        "modules.edged.tailoredKubeletConfig.containerRuntimeEndpoint) trying again",
                        c->endpoint, error_text(why));
}

struct cri *cri_new(struct loop *l, const char *runtime_endpoint, const char *image_endpoint, int request_timeout_ms,
                    struct error *err) {
    struct cri *c = NEW(struct cri);
    c->loop = l;
    c->endpoint = xstrdup(str_or(runtime_endpoint, ""));
    c->timeout_ms = request_timeout_ms;
    c->runtime = grpc_channel_new(l, c->endpoint, err);
    if (!c->runtime) {
        error_wrap(err, "container runtime endpoint \"%s\"", c->endpoint);
        cri_free(c);
        return NULL;
    }
    c->image = c->runtime;
    if (!str_empty(image_endpoint) && !str_eq(image_endpoint, runtime_endpoint)) {
        c->image = grpc_channel_new(l, image_endpoint, err);
        if (!c->image) {
            error_wrap(err, "image service endpoint \"%s\"", image_endpoint);
            cri_free(c);
            return NULL;
        }
    }
    grpc_channel_on_state(c->runtime, on_state, c);
    return c;
}

/* A call under way, so that its failure can be told by the method's name. */
struct cri_pending {
    struct cri *cri;
    const char *path;
    cri_done *done;
    void *arg;
    struct cri_pending *prev, *next;
};

static void unlink_pending(struct cri_pending *p) {
    if (p->prev)
        p->prev->next = p->next;
    else
        p->cri->pending = p->next;
    if (p->next)
        p->next->prev = p->prev;
}

static void on_done(void *arg, int status, const ProtobufCMessage *reply, const struct error *err) {
    struct cri_pending *p = arg;
    unlink_pending(p);
    cri_done *done = p->done;
    void *done_arg = p->arg;
    free(p);
    done(done_arg, status, status == CRI_STATUS_OK ? reply : NULL, err);
}

void cri_call(struct cri *c, enum cri_method m, const void *request, int timeout_ms, cri_done *done, void *arg) {
    struct cri_pending *p = NEW(struct cri_pending);
    *p = (struct cri_pending){c, methods[m].path, done, arg, NULL, c->pending};
    if (c->pending)
        c->pending->prev = p;
    c->pending = p;
    grpc_call(methods[m].image ? c->image : c->runtime,
              &(struct grpc_call_options){.method = methods[m].path,
                                          .request = request,
                                          .response_type = methods[m].response,
                                          .timeout_ms = timeout_ms ? timeout_ms : c->timeout_ms,
                                          .max_message = CRI_MESSAGE_MAX,
                                          .done = on_done,
                                          .arg = p});
}

struct grpc_channel *cri_channel(struct cri *c) {
    return c->runtime;
}

void cri_free(struct cri *c) {
    if (!c)
        return;
    if (c->image && c->image != c->runtime)
        grpc_channel_free(c->image);
    if (c->runtime)
        grpc_channel_free(c->runtime);
    while (c->pending) {
        struct cri_pending *p = c->pending;
        c->pending = p->next;
        free(p);
    }
    free(c->endpoint);
    free(c);
}

void cri_add_pair(Cri__KeyValue ***list, size_t *n, const char *key, const char *value) {
    Cri__KeyValue *kv = CRI_NEW(Cri__KeyValue, cri__key_value__init);
    kv->key = xstrdup(key);
    kv->value = xstrdup(value);
    *list = xreallocarray(*list, *n + 1, sizeof(**list));
    (*list)[(*n)++] = kv;
}

void cri_add_string(char ***list, size_t *n, const char *value) {
    *list = xreallocarray(*list, *n + 1, sizeof(**list));
    (*list)[(*n)++] = xstrdup(value);
}

const char *cri_pair_get(Cri__KeyValue *const *list, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (str_eq(list[i]->key, key))
            return list[i]->value;
    return NULL;
}
