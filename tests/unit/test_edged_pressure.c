#include "edge/edged/eviction.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MI (1LL << 20)

struct node {
    struct edged_config config;
    struct pressure pressure;
    struct signal_reading r[N_SIGNALS];
};

static void make(struct node *n, const char *const *hard, const char *const *soft) {
    memset(n, 0, sizeof(*n));
    for (; hard && *hard; hard++)
        strlist_add(&n->config.eviction_hard, *hard);
    for (; soft && *soft; soft++)
        strlist_add(&n->config.eviction_soft, *soft);
    n->r[SIGNAL_MEMORY] = (struct signal_reading){500 * MI, 1000 * MI};
    n->r[SIGNAL_NODEFS] = (struct signal_reading){500 * MI, 1000 * MI};
}

static void drop(struct node *n) {
    strlist_free(&n->config.eviction_hard);
    strlist_free(&n->config.eviction_soft);
    strlist_free(&n->config.eviction_soft_grace);
    strlist_free(&n->config.eviction_min_reclaim);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void thresholds_are_amounts_or_percentages(void **state) {
    struct node n;
    make(&n, LIST("memory.available=100Mi", "nodefs.available=10%"), NULL);
    assert_int_equal(pressure_init(&n.pressure, &n.config, NULL), 0);
    assert_null(pressure_observe(&n.pressure, n.r, 1000));
    n.r[SIGNAL_MEMORY].available = 99 * MI;
    n.r[SIGNAL_NODEFS].available = 101 * MI;
    const struct pressure_threshold *t = pressure_observe(&n.pressure, n.r, 2000);
    assert_non_null(t);
    assert_int_equal(t->signal, SIGNAL_MEMORY);
    assert_true(n.pressure.under[PRESSURE_MEMORY]);
    assert_false(n.pressure.under[PRESSURE_DISK]);
    n.r[SIGNAL_MEMORY].available = 100 * MI;
    n.r[SIGNAL_NODEFS].available = 99 * MI;
    t = pressure_observe(&n.pressure, n.r, 3000);
    assert_non_null(t);
    assert_int_equal(t->signal, SIGNAL_NODEFS);
    drop(&n);
}

static void what_cannot_be_measured_is_not_short(void **state) {
    struct node n;
    make(&n, LIST("imagefs.available=15%", "pid.available=1k"), NULL);
    assert_int_equal(pressure_init(&n.pressure, &n.config, NULL), 0);
    assert_null(pressure_observe(&n.pressure, n.r, 1000));
    drop(&n);
}

static void a_condition_outlasts_its_cause_by_the_transition_period(void **state) {
    struct node n;
    make(&n, LIST("memory.available=100Mi"), NULL);
    n.config.eviction_transition_ms = 5000;
    assert_int_equal(pressure_init(&n.pressure, &n.config, NULL), 0);
    n.r[SIGNAL_MEMORY].available = 1 * MI;
    assert_non_null(pressure_observe(&n.pressure, n.r, 1000));
    n.r[SIGNAL_MEMORY].available = 500 * MI;
    assert_null(pressure_observe(&n.pressure, n.r, 6000));
    assert_true(n.pressure.under[PRESSURE_MEMORY]);
    assert_null(pressure_observe(&n.pressure, n.r, 6001));
    assert_false(n.pressure.under[PRESSURE_MEMORY]);
    drop(&n);
}

static void a_soft_threshold_has_patience(void **state) {
    struct node n;
    make(&n, NULL, LIST("memory.available=300Mi"));
    strlist_add(&n.config.eviction_soft_grace, "memory.available=1m30s");
    assert_int_equal(pressure_init(&n.pressure, &n.config, NULL), 0);
    n.r[SIGNAL_MEMORY].available = 200 * MI;
    assert_null(pressure_observe(&n.pressure, n.r, 1000));
    assert_null(pressure_observe(&n.pressure, n.r, 90999));
    const struct pressure_threshold *t = pressure_observe(&n.pressure, n.r, 91000);
    assert_non_null(t);
    assert_false(t->hard);
    n.r[SIGNAL_MEMORY].available = 300 * MI; /* over for a moment: the patience begins anew */
    assert_null(pressure_observe(&n.pressure, n.r, 92000));
    n.r[SIGNAL_MEMORY].available = 200 * MI;
    assert_null(pressure_observe(&n.pressure, n.r, 93000));
    drop(&n);
}

static void a_minimum_reclaim_keeps_the_threshold_passed(void **state) {
    struct node n;
    make(&n, LIST("nodefs.available=100Mi"), NULL);
    strlist_add(&n.config.eviction_min_reclaim, "nodefs.available=50Mi");
    assert_int_equal(pressure_init(&n.pressure, &n.config, NULL), 0);
    n.r[SIGNAL_NODEFS].available = 120 * MI;
    assert_null(pressure_observe(&n.pressure, n.r, 1000));
    n.r[SIGNAL_NODEFS].available = 90 * MI;
    assert_non_null(pressure_observe(&n.pressure, n.r, 2000));
    n.r[SIGNAL_NODEFS].available = 149 * MI;
    assert_non_null(pressure_observe(&n.pressure, n.r, 3000));
    n.r[SIGNAL_NODEFS].available = 150 * MI;
    assert_null(pressure_observe(&n.pressure, n.r, 4000));
    drop(&n);
}

static void bad_thresholds_are_refused_by_name(void **state) {
    static const struct {
        const char *hard, *soft, *says;
    } cases[] = {{"memory.free=1Gi", NULL, "evictionHard: unknown signal memory.free"},
                 {"memory.available=lots", NULL, "evictionHard[memory.available]"},
                 {"memory.available=101%", NULL, "101% is no percentage"},
                 {"memory.available=-1", NULL, "-1 is negative"},
                 {NULL, "nodefs.available=10%", "evictionSoftGracePeriod[nodefs.available]"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct node n;
        struct error err = ERROR_INIT;
        make(&n, LIST(cases[i].hard), LIST(cases[i].soft));
        assert_int_equal(pressure_init(&n.pressure, &n.config, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        if (!strstr(err.msg, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, cases[i].says);
        drop(&n);
    }
}

static void whoever_is_over_its_request_goes_first_then_the_less_important(void **state) {
    struct eviction_candidate list[] = {
        {"modest", -10, 50, 100}, {"greedy", 100, 300, 100}, {"greedier", 100, 900, 100}};
    assert_string_equal(eviction_first(list, 3)->uid, "greedier");
    assert_string_equal(eviction_first(list, 2)->uid, "greedy");
    assert_string_equal(eviction_first(list, 1)->uid, "modest");
    assert_null(eviction_first(list, 0));
    struct eviction_candidate equals[] = {{"important", 100, 900, 0}, {"unimportant", 0, 10, 0}};
    assert_string_equal(eviction_first(equals, 2)->uid, "unimportant");
}

static struct pod *pod_of(const char *spec) {
    _cleanup_(free_p) char *text =
        xasprintf("{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":%s}", spec);
    yyjson_doc *doc = json_parse(bytes_str(text), 1 << 20, NULL);
    struct pod *p = pod_new(yyjson_doc_get_root(doc), NULL);
    yyjson_doc_free(doc);
    assert_non_null(p);
    return p;
}

static void a_pod_over_a_storage_limit_is_told_which(void **state) {
    struct pod *p = pod_of(
        "{\"volumes\":[{\"name\":\"tmp\",\"emptyDir\":{\"sizeLimit\":\"1Mi\"}},{\"name\":\"free\",\"emptyDir\":{}}],"
        "\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"ephemeral-storage\":\"2Mi\"}}}]}");
    assert_true(pod_has_local_limits(p));
    struct pod_usage *u = pod_usage_new(p, QOS_BEST_EFFORT, "/d", "/l");
    assert_int_equal(u->n_empty_dirs, 2);
    assert_null(pod_local_limit_exceeded(p, u));
    u->empty_dirs[0].used = MI + 1;
    char *why = pod_local_limit_exceeded(p, u);
    assert_string_equal(why, "Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Mi\". ");
    free(why);
    u->empty_dirs[0].used = 0;
    u->containers[0].logs = MI;
    u->containers[0].layer = MI + 1;
    why = pod_local_limit_exceeded(p, u);
    assert_string_equal(why, "Container c exceeded its local ephemeral storage limit \"2Mi\". ");
    free(why);
    u->containers[0].layer = 0;
    u->empty_dirs[1].used = 2 * MI; /* each within its own, the sum is not */
    why = pod_local_limit_exceeded(p, u);
    assert_non_null(why);
    assert_non_null(strstr(why, "exceeds the total limit"));
    free(why);
    pod_usage_free(u);
    pod_free(p);
}

static void images_go_least_recently_used_first_until_enough_is_free(void **state) {
    struct image_candidate list[] = {{.id = "recent", .size = 10, .last_used_ms = 900},
                                     {.id = "old", .size = 10, .last_used_ms = 100},
                                     {.id = "never", .size = 10},
                                     {.id = "busy", .size = 10, .in_use = true},
                                     {.id = "pause", .size = 10, .pinned = true},
                                     {.id = "new", .size = 10, .first_seen_ms = 950}};
    size_t n = ARRAY_LEN(list);
    assert_int_equal(image_gc_choose(list, n, 1000, 100, 0, 15), 20);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(list[i].chosen, str_eq(list[i].id, "never") || str_eq(list[i].id, "old"));
}

static void images_unused_for_too_long_go_without_need(void **state) {
    struct image_candidate list[] = {{.id = "idle", .size = 10, .last_used_ms = 100},
                                     {.id = "fresh", .size = 10, .last_used_ms = 900}};
    assert_int_equal(image_gc_choose(list, 2, 1000, 0, 500, 0), 10);
    assert_true(list[0].chosen);
    assert_false(list[1].chosen);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thresholds_are_amounts_or_percentages),
        cmocka_unit_test(what_cannot_be_measured_is_not_short),
        cmocka_unit_test(a_condition_outlasts_its_cause_by_the_transition_period),
        cmocka_unit_test(a_soft_threshold_has_patience),
        cmocka_unit_test(a_minimum_reclaim_keeps_the_threshold_passed),
        cmocka_unit_test(bad_thresholds_are_refused_by_name),
        cmocka_unit_test(whoever_is_over_its_request_goes_first_then_the_less_important),
        cmocka_unit_test(a_pod_over_a_storage_limit_is_told_which),
        cmocka_unit_test(images_go_least_recently_used_first_until_enough_is_free),
        cmocka_unit_test(images_unused_for_too_long_go_without_need),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
