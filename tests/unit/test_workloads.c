/* What controllers decide: rollouts, daemons, Jobs, amounts. */
#include "apiserver/controllers/daemonset.h"
#include "apiserver/controllers/job.h"
#include "apiserver/controllers/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct rollout rolling(int64_t replicas, int64_t surge, int64_t unavailable) {
    return (struct rollout){.replicas = replicas, .surge = surge, .unavailable = unavailable};
}

static struct rollout_set set(int64_t want, int64_t available, bool is_new) {
    return (struct rollout_set){.want = want, .available = available, .is_new = is_new};
}

static void a_rollout_keeps_its_limits_until_it_is_done(void **state) {
    struct rollout r = rolling(4, 1, 1);
    struct rollout_set sets[] = {set(4, 4, false), set(rollout_first(&r, sets, 1), 0, true)};
    assert_int_equal(sets[1].want, 1);
    for (unsigned step = 0; step < 20; step++) {
        rollout_divide(&r, sets, 2);
        int64_t total = sets[0].next + sets[1].next, working = sets[0].next + sets[1].available;
        assert_true(total <= 5);
        assert_true(working >= 3);
        for (size_t i = 0; i < 2; i++)
            sets[i].want = sets[i].available = sets[i].next; /* the pods follow, and work */
    }
    assert_int_equal(sets[0].want, 0);
    assert_int_equal(sets[1].want, 4);
}

static void a_new_template_that_never_works_stops_the_rollout(void **state) {
    struct rollout r = rolling(4, 1, 1);
    struct rollout_set sets[] = {set(4, 4, false), set(1, 0, true)};
    for (unsigned step = 0; step < 20; step++) {
        rollout_divide(&r, sets, 2);
        sets[0].want = sets[0].available = sets[0].next;
        sets[1].want = sets[1].next;
    }
    assert_int_equal(sets[0].want, 3);
    assert_int_equal(sets[1].want, 2);
}

static void scaling_midway_is_shared_out(void **state) {
    struct rollout r = rolling(20, 0, 5);
    struct rollout_set sets[] = {set(5, 5, false), set(5, 5, true)};
    sets[0].desired = sets[1].desired = sets[0].max_replicas = sets[1].max_replicas = 10;
    rollout_divide(&r, sets, 2);
    assert_int_equal(sets[0].next + sets[1].next, 20);
    assert_int_equal(sets[0].next, 10);
}

static void recreate_waits_for_the_last_old_pod(void **state) {
    struct rollout r = {.replicas = 2, .recreate = true, .old_pods = true};
    struct rollout_set sets[] = {set(2, 2, false), set(0, 0, true)};
    rollout_divide(&r, sets, 2);
    assert_int_equal(sets[0].next, 0);
    assert_int_equal(sets[1].next, 0);
    sets[0].want = 0;
    rollout_divide(&r, sets, 2);
    assert_int_equal(sets[1].next, 0);
    r.old_pods = false;
    rollout_divide(&r, sets, 2);
    assert_int_equal(sets[1].next, 2);
}

static void a_silent_node_neither_counts_nor_is_touched(void **state) {
    struct pod_view *p = NEW(struct pod_view);
    struct daemon_node nodes[] = {
        {.name = "a", .fits = true, .stays = true, .online = true, .pod = p, .available = true},
        {.name = "b", .fits = true, .stays = true, .online = false, .pod = p},
        {.name = "c", .fits = true, .stays = true, .online = false},
        {.name = "d", .fits = true, .stays = true, .online = true},
        {.name = "e", .fits = false, .stays = false, .online = true, .pod = p},
    };
    daemonset_decide(nodes, 5, true, 2);
    assert_true(nodes[0].remove && !nodes[0].create);
    assert_false(nodes[1].remove || nodes[1].create);
    assert_false(nodes[2].create);
    assert_true(nodes[3].create);
    assert_true(nodes[4].remove && !nodes[4].create);
    free(p);
}

static void only_so_many_daemons_are_down_at_once(void **state) {
    struct pod_view *p = NEW(struct pod_view);
    struct daemon_node nodes[4];
    for (size_t i = 0; i < 4; i++)
        nodes[i] = (struct daemon_node){
            .name = "n", .fits = true, .stays = true, .online = true, .pod = p, .available = i > 0};
    daemonset_decide(nodes, 4, true, 2);
    assert_true(nodes[0].remove); /* it does not work anyway */
    assert_int_equal(nodes[1].remove + nodes[2].remove + nodes[3].remove, 1);
    daemonset_decide(nodes, 4, false, 2);
    free(p);
}

static void a_job_ends_when_it_has_what_it_wants(void **state) {
    struct job_numbers n = {.parallelism = 2, .completions = 5, .backoff_limit = 1, .now_s = 1000};
    assert_int_equal(job_decide(&n).create, 2);
    n.succeeded = 4;
    assert_int_equal(job_decide(&n).create, 1);
    n.active = 2;
    assert_int_equal(job_decide(&n).remove, 1);
    n.succeeded = 5, n.active = 0;
    assert_true(job_decide(&n).complete);
}

static void a_job_waits_after_failures_and_gives_up(void **state) {
    struct job_numbers n = {
        .parallelism = 1, .completions = 1, .backoff_limit = 2, .failed = 2, .last_failure_s = 995, .now_s = 1000};
    struct job_decision d = job_decide(&n);
    assert_int_equal(d.create, 0);
    assert_int_equal(d.again_s, 15);
    n.now_s = 1015;
    assert_int_equal(job_decide(&n).create, 1);
    n.failed = 3;
    assert_string_equal(job_decide(&n).failed, "BackoffLimitExceeded");
    n.failed = 0, n.late = true;
    assert_string_equal(job_decide(&n).failed, "DeadlineExceeded");
}

static void a_pod_asks_for_the_larger_of_its_phases(void **state) {
    static const char spec[] =
        "{\"initContainers\":[{\"resources\":{\"requests\":{\"cpu\":\"2\"}}},"
        "{\"restartPolicy\":\"Always\",\"resources\":{\"requests\":{\"cpu\":\"100m\",\"example.com/x\":\"1\"}}}],"
        "\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"500m\",\"memory\":\"1Ki\"}}},{}],"
        "\"overhead\":{\"memory\":\"1Ki\"}}";
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(bytes_str(spec), 4096, NULL);
    struct amounts a = {0};
    amounts_of_pod(&a, yyjson_doc_get_root(doc));
    assert_int_equal(amounts_get(&a, "cpu", 0), 2000);
    assert_int_equal(amounts_get(&a, "memory", 0), 2048);
    assert_int_equal(amounts_get(&a, "example.com/x", 0), 1);
    assert_int_equal(amounts_get(&a, "pods", 0), 1);
    amounts_free(&a);
}

static void a_template_hash_does_not_depend_on_order(void **state) {
    char a[TEMPLATE_HASH_SIZE], b[TEMPLATE_HASH_SIZE], c[TEMPLATE_HASH_SIZE];
    _cleanup_(yyjson_doc_free_p) yyjson_doc *x = json_parse(BYTES_LIT("{\"a\":1,\"b\":[1,2]}"), 100, NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *y = json_parse(BYTES_LIT("{\"b\":[1,2],\"a\":1}"), 100, NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *z = json_parse(BYTES_LIT("{\"b\":[2,1],\"a\":1}"), 100, NULL);
    template_hash(yyjson_doc_get_root(x), 0, a);
    assert_string_equal(a, template_hash(yyjson_doc_get_root(y), 0, b));
    assert_string_not_equal(a, template_hash(yyjson_doc_get_root(z), 0, c));
    assert_string_not_equal(a, template_hash(yyjson_doc_get_root(x), 1, c));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rollout_keeps_its_limits_until_it_is_done),
        cmocka_unit_test(a_new_template_that_never_works_stops_the_rollout),
        cmocka_unit_test(scaling_midway_is_shared_out),
        cmocka_unit_test(recreate_waits_for_the_last_old_pod),
        cmocka_unit_test(a_silent_node_neither_counts_nor_is_touched),
        cmocka_unit_test(only_so_many_daemons_are_down_at_once),
        cmocka_unit_test(a_job_ends_when_it_has_what_it_wants),
        cmocka_unit_test(a_job_waits_after_failures_and_gives_up),
        cmocka_unit_test(a_pod_asks_for_the_larger_of_its_phases),
        cmocka_unit_test(a_template_hash_does_not_depend_on_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
