#include "base/json.h"
#include "edge/edged/stats_collect.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct container_stats container = {.name = (char *)"main",
                                           .id = (char *)"c1",
                                           .started_s = 1700000000,
                                           .use = {1500000000, 250000000, 9000, 8000, 7000},
                                           .layer = 4096,
                                           .logs = 512};
static struct pod_stats pod = {.uid = (char *)"u1",
                               .ns = (char *)"default",
                               .name = (char *)"web",
                               .started_s = 1700000000,
                               .use = {2000000000, -1, -1, 8500, -1},
                               .disk = 4608,
                               .pids = 3,
                               .containers = &container,
                               .n_containers = 1};
static const struct node_stats node = {.name = "edge-1",
                                       .now_ns = 1700000100LL * 1000000000,
                                       .booted_s = 1690000000,
                                       .use = {90000000000, 1000000000, 5000, 4000, 3000},
                                       .memory_available = 6000,
                                       .interface = "eth0",
                                       .rx_bytes = 11,
                                       .tx_bytes = 22,
                                       .fs = {100, 40, 10, 5, 60},
                                       .image_fs = {200, 80, 20, 9, 120},
                                       .pods = &pod,
                                       .n_pods = 1};

static void the_summary_has_the_kubelets_shape(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    stats_write_summary(&node, false, &out);
    yyjson_doc *d = json_parse(buf_bytes(&out), 1 << 20, NULL);
    yyjson_val *n = json_get(yyjson_doc_get_root(d), "node"),
               *p = yyjson_arr_get(json_get(yyjson_doc_get_root(d), "pods"), 0);
    assert_string_equal(json_str(n, "nodeName"), "edge-1");
    assert_int_equal(yyjson_get_sint(json_get(n, "cpu", "usageNanoCores")), 1000000000);
    assert_int_equal(yyjson_get_sint(json_get(n, "memory", "availableBytes")), 6000);
    assert_int_equal(yyjson_get_sint(json_get(n, "runtime", "imageFs", "usedBytes")), 120);
    assert_string_equal(json_str(p, "podRef", "uid"), "u1");
    assert_null(json_get(p, "cpu", "usageNanoCores")); /* not known is absent, not -1 */
    assert_int_equal(yyjson_get_sint(json_get(p, "ephemeral-storage", "usedBytes")), 4608);
    yyjson_val *c = yyjson_arr_get(json_get(p, "containers"), 0);
    assert_int_equal(yyjson_get_sint(json_get(c, "memory", "workingSetBytes")), 8000);
    assert_int_equal(yyjson_get_sint(json_get(c, "logs", "usedBytes")), 512);
    yyjson_doc_free(d);
}

static void cpu_and_memory_only_leaves_the_disks_out(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    stats_write_summary(&node, true, &out);
    assert_non_null(strstr(out.ptr, "workingSetBytes"));
    assert_null(strstr(out.ptr, "capacityBytes"));
    assert_null(strstr(out.ptr, "rxBytes"));
}

static void resource_metrics_are_what_metrics_server_reads(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    stats_write_resource(&node, &out);
    static const char *const lines[] = {
        "\ncontainer_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"web\"} 1.500000000 "
        "1700000100000\n",
        "\ncontainer_memory_working_set_bytes{container=\"main\",namespace=\"default\",pod=\"web\"} 8000 "
        "1700000100000\n",
        "\ncontainer_start_time_seconds{container=\"main\",namespace=\"default\",pod=\"web\"} 1700000000\n",
        "\nnode_cpu_usage_seconds_total 90.000000000 1700000100000\n",
        "\nnode_memory_working_set_bytes 4000 1700000100000\n",
        "\npod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 8500 1700000100000\n",
        "\nresource_scrape_error 0\n"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (!strstr(out.ptr, lines[i]))
            fail_msg("lacks %s in\n%s", lines[i], out.ptr);
}

static void the_kernels_texts_are_read(void **state) {
    static const char stat[] = "cpu  100 5 50 9000 700 1 2 3 40 0\ncpu0 1 2 3\nbtime 1690000000\n";
    assert_int_equal(proc_stat_busy_ticks(bytes_str(stat)), 100 + 5 + 50 + 1 + 2 + 3);
    assert_int_equal(proc_stat_busy_ticks(bytes_str("intr 1\n")), -1);
    assert_int_equal(proc_stat_busy_ticks(bytes_str("cpu  1 x\n")), -1);
    static const char dev[] =
        "Inter-|   Receive\n face |bytes    packets\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n"
        "  eth0:    1234  10    0    0    0     0          0         0     5678      20 0 0 0 0 0 0\n";
    int64_t rx = 0, tx = 0;
    assert_true(net_dev_bytes(bytes_str(dev), "eth0", &rx, &tx));
    assert_int_equal(rx, 1234);
    assert_int_equal(tx, 5678);
    assert_false(net_dev_bytes(bytes_str(dev), "eth1", &rx, &tx));
    assert_false(net_dev_bytes(bytes_str("eth0: 1 2\n"), "eth0", &rx, &tx));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_summary_has_the_kubelets_shape),
        cmocka_unit_test(cpu_and_memory_only_leaves_the_disks_out),
        cmocka_unit_test(resource_metrics_are_what_metrics_server_reads),
        cmocka_unit_test(the_kernels_texts_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
