/* What the runtime knows of one pod: its sandboxes and containers, as last seen. Plain data, filled from CRI answers.
 */
#pragma once

#include "base/str.h"
#include "cri.pb-c.h"

#define LABEL_POD_NAME "io.kubernetes.pod.name"
#define LABEL_POD_NAMESPACE "io.kubernetes.pod.namespace"
#define LABEL_POD_UID "io.kubernetes.pod.uid"
#define LABEL_CONTAINER_NAME "io.kubernetes.container.name"
#define ANNOTATION_HASH "io.kubernetes.container.hash"
#define ANNOTATION_RESTARTS "io.kubernetes.container.restartCount"
#define ANNOTATION_TERM_PATH "io.kubernetes.container.terminationMessagePath"
#define ANNOTATION_TERM_POLICY "io.kubernetes.container.terminationMessagePolicy"
#define ANNOTATION_GRACE "io.kubernetes.pod.terminationGracePeriod"

enum rt_state { RT_CREATED, RT_RUNNING, RT_EXITED, RT_UNKNOWN };

struct rt_container {
    char *id, *sandbox_id, *name;
    enum rt_state state;
    bool detailed; /* what follows is from ContainerStatus, in this state */
    bool seen;     /* scratch of a relist */
    int64_t created_ns, started_ns, finished_ns;
    int exit_code;
    int64_t restarts, grace_s;
    uint64_t hash;
    char *reason, *message, *image, *image_id, *term_path, *log_path;
    bool term_policy_logs; /* FallbackToLogsOnError */
    struct rt_container *next;
};

struct rt_sandbox {
    char *id;
    bool ready, detailed, seen;
    bool stopped; /* by us: its network is released */
    uint32_t attempt;
    int64_t created_ns;
    struct strlist ips;
    struct rt_sandbox *next;
};

struct rt_pod {
    struct rt_sandbox *sandboxes;    /* newest first */
    struct rt_container *containers; /* newest first */
};

void rt_pod_free(struct rt_pod *p);
/* The entry of that id; made if missing. */
struct rt_container *rt_container_ensure(struct rt_pod *p, const char *id);
struct rt_container *rt_container_find(const struct rt_pod *p, const char *id);
struct rt_sandbox *rt_sandbox_ensure(struct rt_pod *p, const char *id);
struct rt_sandbox *rt_sandbox_find(const struct rt_pod *p, const char *id);
void rt_container_drop(struct rt_pod *p, const char *id);
void rt_sandbox_drop(struct rt_pod *p, const char *id); /* and its containers */
/* Newest container of that name; with `before`, the newest that is older than it. NULL if none. */
struct rt_container *rt_newest(const struct rt_pod *p, const char *name, const struct rt_container *before);
struct rt_sandbox *rt_current_sandbox(const struct rt_pod *p); /* newest; NULL if none */

/* From list entries and status answers. True if something visible changed. */
bool rt_container_listed(struct rt_pod *p, const Cri__Container *c);
bool rt_container_status(struct rt_pod *p, const char *sandbox_id, const Cri__ContainerStatus *s);
bool rt_sandbox_listed(struct rt_pod *p, const Cri__PodSandbox *s);
bool rt_sandbox_status(struct rt_pod *p, const Cri__PodSandboxStatus *s);
