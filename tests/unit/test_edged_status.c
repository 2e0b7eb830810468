#include "edge/edged/pod_config.h"
#include "edge/edged/pod_status.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct world {
    struct pod *pod;
    struct rt_pod rt;
    struct container_view views[4];
    struct status_input in;
    struct pod_node node;
    struct strlist ips;
    yyjson_mut_doc *out;
};

static void make(struct world *w, const char *spec) {
    memset(w, 0, sizeof(*w));
    _cleanup_(free_p) char *text =
        xasprintf("{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":%s}", spec);
    yyjson_doc *doc = json_parse(bytes_str(text), 1 << 20, NULL);
    w->pod = pod_new(yyjson_doc_get_root(doc), NULL);
    yyjson_doc_free(doc);
    assert_non_null(w->pod);
    strlist_add(&w->node.host_ips, "192.0.2.1");
    strlist_add(&w->ips, "10.0.0.1");
    w->in = (struct status_input){.pod = w->pod,
                                  .runtime_name = "containerd",
                                  .node = &w->node,
                                  .pod_ips = &w->ips,
                                  .sandbox_ready = true,
                                  .views = w->views,
                                  .start_s = 1000,
                                  .now_s = 2000};
    static const char *const lists[] = {"initContainers", "containers"};
    for (size_t l = 0; l < 2; l++) {
        size_t i, max;
        yyjson_val *c;
        yyjson_arr_foreach (yyjson_obj_get(w->pod->spec, lists[l]), i, max, c) {
            w->views[w->in.n_views++] =
                (struct container_view){.spec = c, .role = l ? ROLE_MAIN : ROLE_INIT, .started = true, .ready = true};
        }
    }
}

static struct rt_container *instance(struct world *w, const char *id, enum rt_state state, int exit_code) {
    struct rt_container *c = rt_container_ensure(&w->rt, id);
    c->state = state;
    c->exit_code = exit_code;
    c->started_ns = 1500000000000;
    c->finished_ns = state == RT_EXITED ? 1600000000000 : 0;
    c->image = xstrdup("docker.io/library/x:1");
    c->image_id = xstrdup("sha256:1");
    return c;
}

static yyjson_mut_val *build(struct world *w) {
    yyjson_mut_doc_free(w->out);
    w->out = pod_status_build(&w->in);
    return yyjson_mut_doc_get_root(w->out);
}

static void drop(struct world *w) {
    yyjson_mut_doc_free(w->out);
    rt_pod_free(&w->rt);
    strlist_free(&w->node.host_ips);
    strlist_free(&w->ips);
    pod_free(w->pod);
}

static const char *condition(yyjson_mut_val *status, const char *type, const char *key) {
    size_t i, max;
    yyjson_mut_val *c;
    yyjson_mut_arr_foreach (yyjson_mut_obj_get(status, "conditions"), i, max, c) {
        if (str_eq(json_mut_str(c, "type"), type))
            return json_mut_str(c, key);
    }
    return NULL;
}

static yyjson_mut_val *entry(yyjson_mut_val *status, size_t i) {
    return yyjson_mut_arr_get(yyjson_mut_obj_get(status, "containerStatuses"), i);
}

#define ONE "{\"containers\":[{\"name\":\"c\",\"image\":\"x:1\"}]}"

static void a_pod_that_nothing_is_known_of_is_pending(void **state) {
    struct world w;
    make(&w, ONE);
    w.in.sandbox_ready = false;
    yyjson_mut_val *s = build(&w);
    assert_string_equal(json_mut_str(s, "phase"), "Pending");
    assert_string_equal(json_mut_str(entry(s, 0), "state", "waiting", "reason"), "ContainerCreating");
    assert_string_equal(json_mut_str(entry(s, 0), "image"), "x:1");
    assert_string_equal(condition(s, "PodReadyToStartContainers", "status"), "False");
    assert_string_equal(condition(s, "Initialized", "status"), "True");
    assert_string_equal(condition(s, "Ready", "reason"), "ContainersNotReady");
    assert_string_equal(condition(s, "Ready", "message"), "containers with unready status: [c]");
    assert_string_equal(condition(s, "PodScheduled", "status"), "True");
    assert_string_equal(json_mut_str(s, "startTime"), "1970-01-01T00:16:40Z");
    drop(&w);
}

static void a_running_pod_is_ready(void **state) {
    struct world w;
    make(&w, ONE);
    w.views[0].current = instance(&w, "id1", RT_RUNNING, 0);
    yyjson_mut_val *s = build(&w);
    assert_string_equal(json_mut_str(s, "phase"), "Running");
    assert_string_equal(json_mut_str(entry(s, 0), "containerID"), "containerd://id1");
    assert_string_equal(json_mut_str(entry(s, 0), "state", "running", "startedAt"), "1970-01-01T00:25:00Z");
    assert_string_equal(condition(s, "Ready", "status"), "True");
    assert_null(condition(s, "Ready", "reason"));
    drop(&w);
}

static void times_of_conditions_move_only_with_their_status(void **state) {
    struct world w;
    make(&w, ONE);
    yyjson_doc *old = json_parse(
        BYTES_LIT(
            "{\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"True\",\"lastTransitionTime\":\"2020-01-01T00:"
            "00:00Z\"},{\"type\":\"Mine\",\"status\":\"True\"}],\"startTime\":\"2020-01-01T00:00:01Z\"}"),
        4096, NULL);
    w.in.old_status = yyjson_doc_get_root(old);
    w.views[0].current = instance(&w, "id1", RT_RUNNING, 0);
    yyjson_mut_val *s = build(&w);
    assert_string_equal(condition(s, "PodScheduled", "lastTransitionTime"), "2020-01-01T00:00:00Z");
    assert_string_equal(condition(s, "Ready", "lastTransitionTime"), "1970-01-01T00:33:20Z");
    assert_string_equal(condition(s, "Mine", "status"), "True"); /* somebody else's: kept */
    assert_string_equal(json_mut_str(s, "startTime"), "2020-01-01T00:00:01Z");
    yyjson_doc_free(old);
    drop(&w);
}

static void a_crash_shows_in_last_state_while_it_waits(void **state) {
    struct world w;
    make(&w, ONE);
    struct rt_container *c = instance(&w, "id1", RT_EXITED, 3);
    c->restarts = 4;
    c->message = xstrdup("bye");
    w.views[0].current = c;
    w.views[0].waiting_reason = "CrashLoopBackOff";
    yyjson_mut_val *s = build(&w);
    assert_string_equal(json_mut_str(s, "phase"), "Running");
    assert_string_equal(json_mut_str(entry(s, 0), "state", "waiting", "reason"), "CrashLoopBackOff");
    assert_string_equal(json_mut_str(entry(s, 0), "lastState", "terminated", "reason"), "Error");
    assert_string_equal(json_mut_str(entry(s, 0), "lastState", "terminated", "message"), "bye");
    assert_int_equal(yyjson_mut_get_int(json_mut_get(entry(s, 0), "restartCount")), 4);
    drop(&w);
}

static void ended_pods_succeed_only_if_all_containers_did(void **state) {
    struct world w;
    make(&w, "{\"restartPolicy\":\"Never\",\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}");
    w.views[0].current = instance(&w, "id1", RT_EXITED, 0);
    w.views[1].current = instance(&w, "id2", RT_EXITED, 0);
    assert_string_equal(json_mut_str(build(&w), "phase"), "Succeeded");
    assert_string_equal(condition(build(&w), "Ready", "reason"), "PodCompleted");
    rt_container_find(&w.rt, "id2")->exit_code = 1;
    assert_string_equal(json_mut_str(build(&w), "phase"), "Failed");
    assert_string_equal(condition(build(&w), "Ready", "reason"), "PodFailed");
    w.in.failed_reason = "DeadlineExceeded";
    w.in.failed_message = "too long";
    assert_string_equal(json_mut_str(build(&w), "reason"), "DeadlineExceeded");
    drop(&w);
}

static void a_deleted_pod_that_never_started_fails(void **state) {
    struct world w;
    make(&w, ONE);
    w.in.ended = true;
    assert_string_equal(json_mut_str(build(&w), "phase"), "Failed");
    drop(&w);
}

static void init_containers_keep_the_pod_pending(void **state) {
    struct world w;
    make(&w, "{\"initContainers\":[{\"name\":\"i\"}],\"containers\":[{\"name\":\"c\"}]}");
    w.views[0].current = instance(&w, "id1", RT_RUNNING, 0);
    yyjson_mut_val *s = build(&w);
    assert_string_equal(json_mut_str(s, "phase"), "Pending");
    assert_string_equal(condition(s, "Initialized", "reason"), "ContainersNotInitialized");
    assert_string_equal(condition(s, "Initialized", "message"), "containers with incomplete status: [i]");
    assert_string_equal(json_mut_str(entry(s, 0), "state", "waiting", "reason"), "PodInitializing");
    rt_container_find(&w.rt, "id1")->state = RT_EXITED;
    w.views[1].current = instance(&w, "id2", RT_RUNNING, 0);
    s = build(&w);
    assert_string_equal(json_mut_str(s, "phase"), "Running");
    assert_string_equal(condition(s, "Initialized", "status"), "True");
    drop(&w);
}

static void instances_are_ordered_by_their_restarts(void **state) {
    struct rt_pod rt = {0};
    const char *const ids[] = {"b", "a", "c"};
    for (int i = 0; i < 3; i++) {
        struct rt_container *c = rt_container_ensure(&rt, ids[i]);
        c->name = xstrdup("main");
        c->restarts = ids[i][0] - 'a';
    }
    struct rt_container *newest = rt_newest(&rt, "main", NULL);
    assert_string_equal(newest->id, "c");
    assert_string_equal(rt_newest(&rt, "main", newest)->id, "b");
    assert_null(rt_newest(&rt, "other", NULL));
    rt_container_drop(&rt, "c");
    assert_string_equal(rt_newest(&rt, "main", NULL)->id, "b");
    rt_pod_free(&rt);
}

static void dns_follows_the_policy(void **state) {
    struct world w;
    make(&w, "{\"dnsPolicy\":\"ClusterFirst\",\"dnsConfig\":{\"options\":[{\"name\":\"ndots\",\"value\":\"2\"}]},"
             "\"containers\":[{\"name\":\"c\"}]}");
    struct strlist cluster = {0};
    struct dns_settings dns = {.cluster_dns = &cluster, .cluster_domain = "cluster.local"};
    resolv_conf_parse(BYTES_LIT("# c\nnameserver 192.0.2.53\nsearch a.example b.example\noptions timeout:1\n"), &dns);
    struct resource_policy policy = {0};
    struct pod_config_context c = {.field = {.pod = w.pod, .node = &w.node, .pod_ips = &w.ips},
                                   .dns = &dns,
                                   .resources = &policy,
                                   .pod_dir = "/p",
                                   .logs_dir = "/l"};
    Cri__PodSandboxConfig *s = sandbox_config(&c, 1, NULL);
    assert_string_equal(s->dns_config->servers[0], "192.0.2.53"); /* no cluster DNS: the node's */
    assert_string_equal(s->log_directory, "/l/ns_p_u");
    assert_int_equal(s->metadata->attempt, 1);
    CRI_FREE(s);
    strlist_add(&cluster, "169.254.96.16");
    s = sandbox_config(&c, 0, NULL);
    assert_string_equal(s->dns_config->servers[0], "169.254.96.16");
    assert_string_equal(s->dns_config->searches[0], "ns.svc.cluster.local");
    assert_string_equal(s->dns_config->searches[3], "a.example");
    assert_string_equal(s->dns_config->options[0], "ndots:2");
    CRI_FREE(s);
    dns_settings_free(&dns);
    strlist_free(&cluster);
    drop(&w);
}

static void non_root_is_enforced_before_the_start(void **state) {
    struct world w;
    make(&w, "{\"securityContext\":{\"runAsNonRoot\":true},\"containers\":[{\"name\":\"c\"}]}");
    struct pod_config_context c = {.field = {.pod = w.pod}};
    yyjson_val *container = w.views[0].spec;
    struct error err = ERROR_INIT;
    struct image_facts root = {.uid = -1, .username = ""}, named = {.uid = -1, .username = "web"}, user = {.uid = 7};
    assert_null(container_security(&c, container, &root, &err));
    assert_string_equal(err.msg, "container has runAsNonRoot and image will run as root");
    assert_null(container_security(&c, container, &named, &err));
    Cri__LinuxContainerSecurityContext *s = container_security(&c, container, &user, &err);
    assert_non_null(s);
    assert_int_equal(s->run_as_user->value, 7);
    CRI_FREE(s);
    drop(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_that_nothing_is_known_of_is_pending),
        cmocka_unit_test(a_running_pod_is_ready),
        cmocka_unit_test(times_of_conditions_move_only_with_their_status),
        cmocka_unit_test(a_crash_shows_in_last_state_while_it_waits),
        cmocka_unit_test(ended_pods_succeed_only_if_all_containers_did),
        cmocka_unit_test(a_deleted_pod_that_never_started_fails),
        cmocka_unit_test(init_containers_keep_the_pod_pending),
        cmocka_unit_test(instances_are_ordered_by_their_restarts),
        cmocka_unit_test(dns_follows_the_policy),
        cmocka_unit_test(non_root_is_enforced_before_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
