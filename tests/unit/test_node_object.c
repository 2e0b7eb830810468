#include "base/mem.h"
#include "edge/edged/node_lease.h"
#include "edge/edged/node_object.h"
#include "kube/object.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW "2026-01-02T03:04:05Z"
#define LATER "2026-01-02T03:04:15Z"

struct machine {
    struct edged_config config;
    struct node_view view;
};

static int setup(void **state) {
    struct machine *m = NEW(struct machine);
    m->config.node_name = xstrdup("edge-1");
    m->config.max_pods = 110;
    m->config.register_schedulable = true;
    m->config.read_only_port = 10350;
    m->config.lease_duration_s = 40;
    strlist_add(&m->config.eviction_hard, "memory.available=100Mi");
    strlist_add(&m->config.eviction_hard, "nodefs.available=10%");
    m->view.config = &m->config;
    m->view.runtime_version = xstrdup("containerd://1.7.24");
    struct node_facts *f = &m->view.facts;
    f->architecture = "arm64";
    f->cpus = 4;
    f->memory = 1024LL << 20;
    f->memory_available = 512LL << 20;
    f->disk = 1000LL << 30;
    f->disk_available = 500LL << 30;
    (void)snprintf(f->ip, sizeof(f->ip), "192.0.2.5");
    *state = m;
    return 0;
}

static int teardown(void **state) {
    struct machine *m = *state;
    node_view_free(&m->view);
    strlist_free(&m->config.eviction_hard);
    strlist_free(&m->config.labels);
    free(m->config.node_name);
    free(m->config.register_taints);
    free(m);
    return 0;
}

static const char *condition(yyjson_val *node, const char *type, const char *member) {
    yyjson_val *c;
    size_t i, n;
    yyjson_arr_foreach (json_get(node, "status", "conditions"), i, n, c) {
        if (strcmp(json_str(c, "type"), type) == 0)
            return json_str(c, member);
    }
    return NULL;
}

static void registration_carries_what_the_cloud_needs(void **state) {
    struct machine *m = *state;
    strlist_add(&m->config.labels, "site=north");
    m->config.register_taints = xstrdup("[{\"key\":\"edge\",\"effect\":\"NoSchedule\"}]");
    yyjson_doc *d = node_object(&m->view, NOW);
    yyjson_val *node = yyjson_doc_get_root(d);
    assert_string_equal(object_label(node, "node-role.kubernetes.io/edge"), "");
    assert_string_equal(object_label(node, "kubernetes.io/hostname"), "edge-1");
    assert_string_equal(object_label(node, "kubernetes.io/arch"), "arm64");
    assert_string_equal(object_label(node, "site"), "north");
    assert_string_equal(json_str(yyjson_arr_get(json_get(node, "spec", "taints"), 0), "key"), "edge");
    assert_string_equal(json_str(node, "status", "capacity", "cpu"), "4");
    assert_string_equal(json_str(node, "status", "capacity", "memory"), "1Gi");
    assert_string_equal(json_str(node, "status", "capacity", "pods"), "110");
    assert_string_equal(json_str(node, "status", "allocatable", "memory"), "924Mi");
    assert_string_equal(json_str(node, "status", "allocatable", "ephemeral-storage"), "900Gi");
    assert_string_equal(json_str(yyjson_arr_get(json_get(node, "status", "addresses"), 0), "address"), "192.0.2.5");
    assert_int_equal(json_int_or(json_get(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port"), 0), 10350);
    assert_string_equal(condition(node, "Ready", "status"), "True");
    assert_string_equal(condition(node, "Ready", "reason"), "EdgeReady");
    assert_string_equal(condition(node, "MemoryPressure", "status"), "False");
    yyjson_doc_free(d);
}

static void a_node_that_takes_no_pods_says_so_twice(void **state) {
    struct machine *m = *state;
    m->config.register_schedulable = false;
    yyjson_doc *d = node_object(&m->view, NOW);
    yyjson_val *node = yyjson_doc_get_root(d);
    assert_true(yyjson_get_bool(json_get(node, "spec", "unschedulable")));
    assert_string_equal(json_str(yyjson_arr_get(json_get(node, "spec", "taints"), 0), "key"),
                        "node.kubernetes.io/unschedulable");
    yyjson_doc_free(d);
}

static void shortages_and_a_missing_runtime_become_conditions(void **state) {
    struct machine *m = *state;
    m->view.pressure[PRESSURE_MEMORY] = m->view.pressure[PRESSURE_DISK] = true;
    m->view.not_ready = xstrdup("container runtime is down");
    yyjson_doc *d = node_object(&m->view, NOW);
    yyjson_val *node = yyjson_doc_get_root(d);
    assert_string_equal(condition(node, "MemoryPressure", "status"), "True");
    assert_string_equal(condition(node, "DiskPressure", "status"), "True");
    assert_string_equal(condition(node, "Ready", "status"), "False");
    assert_string_equal(condition(node, "Ready", "message"), "container runtime is down");
    yyjson_doc_free(d);
}

static void nothing_but_the_heartbeat_is_no_change(void **state) {
    struct machine *m = *state;
    bool changed = true;
    yyjson_doc *d = node_object(&m->view, NOW);
    char *patch = node_status_patch(&m->view, yyjson_doc_get_root(d), LATER, false, &changed, NULL);
    assert_non_null(patch);
    assert_false(changed);
    assert_non_null(strstr(patch, LATER));
    assert_null(strstr(patch, "capacity"));
    assert_null(strstr(patch, "daemonEndpoints"));
    free(patch);
    yyjson_doc_free(d);
}

static void only_what_changed_is_sent_and_its_time_with_it(void **state) {
    struct machine *m = *state;
    bool changed = false;
    yyjson_doc *d = node_object(&m->view, NOW);
    m->view.pressure[PRESSURE_MEMORY] = true;
    char *patch = node_status_patch(&m->view, yyjson_doc_get_root(d), LATER, false, &changed, NULL);
    assert_true(changed);
    yyjson_doc *p = yyjson_read(patch, strlen(patch), 0);
    assert_string_equal(condition(yyjson_doc_get_root(p), "MemoryPressure", "status"), "True");
    assert_string_equal(condition(yyjson_doc_get_root(p), "MemoryPressure", "lastTransitionTime"), LATER);
    assert_null(condition(yyjson_doc_get_root(p), "Ready", "lastTransitionTime"));
    yyjson_doc_free(p);
    free(patch);
    yyjson_doc_free(d);
}

static void after_an_outage_every_condition_is_sent_whole(void **state) {
    struct machine *m = *state;
    bool changed = false;
    yyjson_doc *d = node_object(&m->view, NOW);
    char *patch = node_status_patch(&m->view, yyjson_doc_get_root(d), LATER, true, &changed, NULL);
    assert_true(changed);
    yyjson_doc *p = yyjson_read(patch, strlen(patch), 0);
    assert_string_equal(condition(yyjson_doc_get_root(p), "Ready", "status"), "True");
    assert_string_equal(condition(yyjson_doc_get_root(p), "Ready", "reason"), "EdgeReady");
    yyjson_doc_free(p);
    free(patch);
    yyjson_doc_free(d);
}

static void members_of_others_are_not_taken_away(void **state) {
    struct machine *m = *state;
    bool changed = false;
    yyjson_doc *d = node_object(&m->view, NOW);
    yyjson_mut_doc *edit = yyjson_doc_mut_copy(d, NULL);
    yyjson_mut_val *status = json_ensure_obj(edit, yyjson_mut_doc_get_root(edit), "status");
    yyjson_mut_val *other = yyjson_mut_arr_add_obj(edit, json_ensure_arr(edit, status, "conditions"));
    json_set_str(edit, other, "type", "NetworkUnavailable");
    json_set_str(edit, other, "status", "False");
    json_set_str(edit, yyjson_mut_arr_add_obj(edit, json_ensure_arr(edit, status, "volumesAttached")), "name", "v");
    yyjson_doc *stored = yyjson_mut_doc_imut_copy(edit, NULL);
    char *patch = node_status_patch(&m->view, yyjson_doc_get_root(stored), LATER, false, &changed, NULL);
    assert_false(changed);
    assert_null(strstr(patch, "NetworkUnavailable"));
    assert_null(strstr(patch, "volumesAttached"));
    free(patch);
    yyjson_doc_free(stored);
    yyjson_mut_doc_free(edit);
    yyjson_doc_free(d);
}

static void missing_labels_are_noticed(void **state) {
    struct machine *m = *state;
    yyjson_doc *d = node_object(&m->view, NOW);
    assert_null(node_label_update(&m->view, yyjson_doc_get_root(d)));
    strlist_add(&m->config.labels, "site=north");
    char *update = node_label_update(&m->view, yyjson_doc_get_root(d));
    assert_non_null(strstr(update, "\"site\":\"north\""));
    free(update);
    yyjson_doc_free(d);
}

static void a_lease_keeps_its_resource_version_when_renewed(void **state) {
    struct machine *m = *state;
    static const char stored[] =
        "{\"metadata\":{\"name\":\"edge-1\",\"resourceVersion\":\"77\"},\"spec\":{\"renewTime\":"
        "\"2026-01-01T00:00:00.000000Z\"}}";
    yyjson_doc *d = yyjson_read(stored, strlen(stored), 0);
    char *text = node_lease_text(&m->config, "nu", yyjson_doc_get_root(d), "2026-01-02T03:04:05.678901Z");
    yyjson_doc *lease = yyjson_read(text, strlen(text), 0);
    yyjson_val *l = yyjson_doc_get_root(lease);
    assert_string_equal(object_rv(l), "77");
    assert_string_equal(json_str(l, "spec", "renewTime"), "2026-01-02T03:04:05.678901Z");
    assert_string_equal(json_str(l, "spec", "holderIdentity"), "edge-1");
    assert_int_equal(json_int_or(json_get(l, "spec", "leaseDurationSeconds"), 0), 40);
    assert_string_equal(json_str(yyjson_arr_get(json_get(l, "metadata", "ownerReferences"), 0), "uid"), "nu");
    yyjson_doc_free(lease);
    yyjson_doc_free(d);
    free(text);
}

static void the_machine_is_read_from_the_kernels_texts(void **state) {
    char out[64];
    assert_int_equal(meminfo_field(BYTES_LIT("MemTotal:       2048 kB\nMemFree: 1 kB\n"), "MemTotal"), 2048 * 1024);
    assert_int_equal(meminfo_field(BYTES_LIT("MemFree: 1 kB"), "MemTotal"), 0);
    os_release_name(BYTES_LIT("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"), out, sizeof(out));
    assert_string_equal(out, "Debian GNU/Linux 12");
    os_release_name(BYTES_LIT("PRETTY_NAME=\""), out, sizeof(out));
    assert_true(default_route_interface(
        BYTES_LIT("Iface\tDestination\tGateway\neth1\t0000A8C0\t0\neth0\t00000000\t0100A8C0\n"), out, sizeof(out)));
    assert_string_equal(out, "eth0");
    assert_false(default_route_interface(BYTES_LIT("Iface\tDestination\n"), out, sizeof(out)));
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(registration_carries_what_the_cloud_needs),
        T(a_node_that_takes_no_pods_says_so_twice),
        T(shortages_and_a_missing_runtime_become_conditions),
        T(nothing_but_the_heartbeat_is_no_change),
        T(only_what_changed_is_sent_and_its_time_with_it),
        T(after_an_outage_every_condition_is_sent_whole),
        T(members_of_others_are_not_taken_away),
        T(missing_labels_are_noticed),
        T(a_lease_keeps_its_resource_version_when_renewed),
        T(the_machine_is_read_from_the_kernels_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
