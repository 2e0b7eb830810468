/* Server-side apply as sequences of writes: what the object becomes, who owns what, who is in whose way. */
#include "kube/apply.h"

#include "base/str.h"

#include "json_testing.h"

struct world {
    struct topology topology;
    char *object; /* its text; NULL before the first write */
    struct buf stored;
    int64_t now;
    char conflicts[2048];
};

static struct topology pod_topology(void) {
    return topology_builtin(schema_find("", "v1", "Pod"));
}

static void world_init(struct world *w, struct topology t) {
    *w = (struct world){.topology = t, .stored = BUF_INIT(65536), .now = 1000};
}

static void world_free(struct world *w) {
    free(w->object);
    buf_free(&w->stored);
}

static struct manager manager_of(struct world *w, const char *name, bool apply) {
    bool status = str_ends_with(name, "/status");
    return (struct manager){.name = status ? "agent" : name,
                            .api_version = "v1",
                            .subresource = status ? "status" : "",
                            .apply = apply,
                            .time = w->now++};
}

/* The object becomes text; how it is owned is computed by fn. */
static void replace(struct world *w, yyjson_val *after, yyjson_val *config, const struct manager *who) {
    _cleanup_(free_p) char *text = json_write(after, NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *now = test_json(text), *was = test_json(w->object ? w->object : "{}");
    struct field_tree tree, before, said;
    struct ownership o, owned;
    struct error err = ERROR_INIT;
    field_tree_init(&tree, yyjson_doc_get_root(now), w->topology);
    field_tree_init(&before, yyjson_doc_get_root(was), w->topology);
    field_tree_init(&said, config, w->topology);
    ownership_load(&owned, buf_bytes(&w->stored), &before);
    if (config)
        assert_int_equal(ownership_apply(&o, &tree, &owned, &before, &said, who, &err), 0);
    else
        ownership_update(&o, &tree, &owned, &before, who);
    buf_clear(&w->stored);
    ownership_store(&o, &tree, &w->stored);
    ownership_free(&o);
    ownership_free(&owned);
    field_tree_free(&said);
    field_tree_free(&before);
    field_tree_free(&tree);
    free(w->object);
    w->object = TAKE(text);
}

static void update(struct world *w, const char *name, const char *object) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *after = test_json(object);
    struct manager who = manager_of(w, name, false);
    replace(w, yyjson_doc_get_root(after), NULL, &who);
}

static void note_conflicts(struct world *w, const struct apply *a) {
    size_t n;
    struct apply_conflict *found = apply_conflicts(a, &n);
    struct buf out = BUF_INIT(2000);
    for (size_t i = 0; i < n; i++)
        for (size_t m = 0; m < a->owned->count; m++)
            if (found[i].owners >> m & 1) {
                buf_addf(&out, "%s%s ", out.len ? "; " : "", a->owned->managers[m].name);
                field_tree_path(a->live, found[i].node, &out);
            }
    snprintf(w->conflicts, sizeof(w->conflicts), "%s", out.ptr ? out.ptr : "");
    buf_free(&out);
    free(found);
}

/* false: conflicts, which w tells. */
static bool apply(struct world *w, const char *name, const char *config, bool force) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *said = test_json(config), *was = test_json(w->object ? w->object : "{}");
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct field_tree live, tree;
    struct ownership owned;
    struct manager who = manager_of(w, name, true);
    field_tree_init(&live, yyjson_doc_get_root(was), w->topology);
    field_tree_init(&tree, yyjson_doc_get_root(said), w->topology);
    ownership_load(&owned, buf_bytes(&w->stored), &live);
    const struct apply a = {.live = &live, .owned = &owned, .config = &tree, .applier = ownership_find(&owned, &who)};
    note_conflicts(w, &a);
    bool done = force || !*w->conflicts;
    if (done) {
        yyjson_doc *merged = yyjson_mut_val_imut_copy(apply_merge(&a, d), NULL);
        replace(w, yyjson_doc_get_root(merged), yyjson_doc_get_root(said), &who);
        yyjson_doc_free(merged);
    }
    ownership_free(&owned);
    field_tree_free(&tree);
    field_tree_free(&live);
    return done;
}

static void object_is(struct world *w, const char *expected) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *a = test_json(w->object), *b = test_json(expected);
    if (!json_equal(yyjson_doc_get_root(a), yyjson_doc_get_root(b)))
        fail_msg("got      %s\nexpected %s", w->object, expected);
}

/* The fieldsV1 of one manager; "" if it owns nothing. */
static void owns(struct world *w, const char *name, const char *expected) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(w->object), *want = NULL, *list = NULL;
    struct field_tree tree;
    struct ownership o;
    struct buf out = BUF_INIT(65536);
    field_tree_init(&tree, yyjson_doc_get_root(doc), w->topology);
    ownership_load(&o, buf_bytes(&w->stored), &tree);
    ownership_write(&o, &tree, &out);
    list = test_json(out.ptr ? out.ptr : "[]");
    yyjson_val *fields = NULL;
    yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_doc_get_root(list));
    for (yyjson_val *e; (e = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(e, "manager"), name))
            fields = yyjson_obj_get(e, "fieldsV1");
    if (*expected)
        want = test_json(expected);
    if (!!fields != !!want || (fields && !json_equal(fields, yyjson_doc_get_root(want))))
        fail_msg("%s\nexpected for %s: %s", out.ptr ? out.ptr : "", name, expected);
    buf_free(&out);
    ownership_free(&o);
    field_tree_free(&tree);
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void an_apply_owns_exactly_the_leaves_it_names(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    assert_true(apply(&w, "a",
                      "{'apiVersion':'v1','kind':'Pod','metadata':{'name':'p','labels':{'x':'1'},'finalizers':['f/1']},"
                      "'spec':{'nodeSelector':{'zone':'a'},'containers':[{'name':'c','image':'i','args':['x','y'],"
                      "'ports':[{'containerPort':80}]}]}}",
                      false));
    owns(&w, "a",
         "{'f:metadata':{'f:labels':{'f:x':{}},'f:finalizers':{'v:\\\"f/1\\\"':{}}},'f:spec':{'f:nodeSelector':{},"
         "'f:containers':{'k:{\\\"name\\\":\\\"c\\\"}':{'.':{},'f:name':{},'f:image':{},'f:args':{},'f:ports':{"
         "'k:{\\\"containerPort\\\":80,\\\"protocol\\\":\\\"TCP\\\"}':{'.':{},'f:containerPort':{}}}}}}}");
    world_free(&w);
}

static void what_is_given_up_goes_and_what_others_set_stays(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    assert_true(apply(&w, "a",
                      "{'metadata':{'labels':{'x':'1','y':'2'}},'spec':{'containers':[{'name':'c','image':'i',"
                      "'env':[{'name':'A','value':'1'},{'name':'B','value':'2'}]}],'priority':5}}",
                      false));
    update(&w, "other",
           "{'metadata':{'labels':{'x':'1','y':'2','z':'3'}},'spec':{'containers':[{'name':'c','image':'i',"
           "'env':[{'name':'A','value':'1'},{'name':'B','value':'2'},{'name':'C','value':'3'}]}],'priority':5}}");
    assert_true(apply(&w, "a",
                      "{'metadata':{'labels':{'y':'2'}},'spec':{'containers':[{'name':'c','image':'i2',"
                      "'env':[{'name':'B','value':'2'}]}]}}",
                      false));
    object_is(&w, "{'metadata':{'labels':{'y':'2','z':'3'}},'spec':{'containers':[{'name':'c','image':'i2',"
                  "'env':[{'name':'B','value':'2'},{'name':'C','value':'3'}]}]}}");
    owns(&w, "other",
         "{'f:metadata':{'f:labels':{'f:z':{}}},'f:spec':{'f:containers':{'k:{\\\"name\\\":\\\"c\\\"}':{"
         "'f:env':{'k:{\\\"name\\\":\\\"C\\\"}':{'.':{},'f:name':{},'f:value':{}}}}}}}");
    world_free(&w);
}

static void a_list_element_goes_with_the_defaults_in_it(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    assert_true(apply(&w, "a", "{'spec':{'containers':[{'name':'c','image':'i'},{'name':'d','image':'j'}]}}", false));
    free(w.object); /* a server's default that nobody owns, of the same place in the text */
    w.object = xstrdup("{'spec':{'containers':[{'name':'c','image':'i'},{'name':'d','image':'j','tty':true}]}}");
    for (char *p = w.object; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    assert_true(apply(&w, "a", "{'spec':{'containers':[{'name':'c','image':'i'}]}}", false));
    object_is(&w, "{'spec':{'containers':[{'name':'c','image':'i'}]}}");
    world_free(&w);
}

static void another_owner_of_a_value_is_in_the_way_until_forced(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    assert_true(apply(&w, "a", "{'spec':{'priority':1,'containers':[{'name':'c','image':'i'}]}}", false));
    assert_false(apply(&w, "b", "{'spec':{'priority':2,'containers':[{'name':'c','image':'j'}]}}", false));
    assert_string_equal(w.conflicts, "a .spec.priority; a .spec.containers[name=\"c\"].image");
    object_is(&w, "{'spec':{'priority':1,'containers':[{'name':'c','image':'i'}]}}");
    assert_true(apply(&w, "b", "{'spec':{'priority':2}}", true));
    object_is(&w, "{'spec':{'priority':2,'containers':[{'name':'c','image':'i'}]}}");
    owns(&w, "a", "{'f:spec':{'f:containers':{'k:{\\\"name\\\":\\\"c\\\"}':{'.':{},'f:name':{},'f:image':{}}}}}");
    owns(&w, "b", "{'f:spec':{'f:priority':{}}}");
    world_free(&w);
}

static void the_same_value_is_shared(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    assert_true(apply(&w, "a", "{'spec':{'priority':1,'hostNetwork':true}}", false));
    assert_true(apply(&w, "b", "{'spec':{'priority':1}}", false));
    assert_true(apply(&w, "a", "{'spec':{'hostNetwork':true}}", false)); /* gives up its share only */
    object_is(&w, "{'spec':{'priority':1,'hostNetwork':true}}");
    assert_true(apply(&w, "b", "{}", false));
    object_is(&w, "{'spec':{'hostNetwork':true}}");
    owns(&w, "b", "");
    world_free(&w);
}

static void writing_takes_ownership_and_never_conflicts(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    assert_true(apply(&w, "a", "{'metadata':{'labels':{'x':'1'}},'spec':{'priority':1}}", false));
    update(&w, "b", "{'metadata':{'labels':{'x':'1'}},'spec':{'priority':2}}");
    owns(&w, "a", "{'f:metadata':{'f:labels':{'f:x':{}}}}");
    owns(&w, "b", "{'f:spec':{'f:priority':{}}}");
    assert_false(apply(&w, "a", "{'metadata':{'labels':{'x':'1'}},'spec':{'priority':1}}", false));
    assert_string_equal(w.conflicts, "b .spec.priority");
    world_free(&w);
}

static void status_has_an_entry_of_its_own(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    update(&w, "agent", "{'spec':{'priority':1}}");
    update(&w, "agent/status",
           "{'spec':{'priority':1},'status':{'phase':'Running','conditions':[{'type':'Ready',"
           "'status':'True'}]}}");
    struct buf out = BUF_INIT(4096);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(w.object);
    struct field_tree tree;
    struct ownership o;
    field_tree_init(&tree, yyjson_doc_get_root(doc), w.topology);
    ownership_load(&o, buf_bytes(&w.stored), &tree);
    assert_true(ownership_write(&o, &tree, &out));
    assert_string_equal(
        out.ptr,
        "[{\"manager\":\"agent\",\"operation\":\"Update\",\"apiVersion\":\"v1\",\"time\":\"1970-01-01T00:16:40Z\","
        "\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:spec\":{\"f:priority\":{}}}},"
        "{\"manager\":\"agent\",\"operation\":\"Update\",\"apiVersion\":\"v1\",\"time\":\"1970-01-01T00:16:41Z\","
        "\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:status\":{\"f:phase\":{},\"f:conditions\":{"
        "\"k:{\\\"type\\\":\\\"Ready\\\"}\":{\".\":{},\"f:type\":{},\"f:status\":{}}}}},\"subresource\":\"status\"}]");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *sent = test_json(out.ptr);
    struct ownership again;
    struct error err = ERROR_INIT;
    assert_int_equal(ownership_read(&again, yyjson_doc_get_root(sent), &tree, &err), 0);
    assert_true(ownership_same(&o, &again, &tree));
    ownership_free(&again);
    ownership_free(&o);
    field_tree_free(&tree);
    buf_free(&out);
    world_free(&w);
}

static void appliers_order_their_elements_and_others_keep_their_place(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    update(&w, "u", "{'spec':{'containers':[{'name':'x'},{'name':'b'},{'name':'y'}]}}");
    assert_true(apply(&w, "a", "{'spec':{'containers':[{'name':'a'},{'name':'b'},{'name':'c'}]}}", false));
    object_is(&w, "{'spec':{'containers':[{'name':'x'},{'name':'a'},{'name':'b'},{'name':'y'},{'name':'c'}]}}");
    world_free(&w);
}

static void custom_schemas_say_what_is_merged(void **state) {
    struct world w;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *schema =
        test_json("{'type':'object','properties':{'spec':{'type':'object','properties':{"
                  "'rules':{'type':'array','x-kubernetes-list-type':'map','x-kubernetes-list-map-keys':['id'],"
                  "'items':{'type':'object','properties':{'id':{'type':'string'},'n':{'type':'integer'}}}},"
                  "'tags':{'type':'array','x-kubernetes-list-type':'set','items':{'type':'string'}},"
                  "'plain':{'type':'array','items':{'type':'string'}},"
                  "'whole':{'type':'object','x-kubernetes-map-type':'atomic'},"
                  "'free':{'type':'object','x-kubernetes-preserve-unknown-fields':true}}}}}");
    world_init(&w, topology_custom(yyjson_doc_get_root(schema)));
    assert_true(apply(&w, "a",
                      "{'spec':{'rules':[{'id':'1','n':1}],'tags':['s'],'whole':{'k':1},'plain':['p'],"
                      "'free':{'m':{'k':1},'l':[1]}}}",
                      false));
    assert_true(apply(&w, "b", "{'spec':{'rules':[{'id':'2','n':2}],'tags':['t'],'free':{'m':{'j':2}}}}", false));
    object_is(&w, "{'spec':{'rules':[{'id':'1','n':1},{'id':'2','n':2}],'tags':['s','t'],'whole':{'k':1},"
                  "'plain':['p'],'free':{'m':{'k':1,'j':2},'l':[1]}}}");
    assert_false(apply(&w, "b", "{'spec':{'whole':{'j':1},'plain':['q'],'free':{'l':[2]}}}", false));
    assert_string_equal(w.conflicts, "a .spec.whole; a .spec.plain; a .spec.free.l");
    assert_true(apply(&w, "a", "{'spec':{'rules':[{'id':'1','n':3}]}}", false));
    object_is(&w, "{'spec':{'rules':[{'id':'1','n':3},{'id':'2','n':2}],'tags':['t'],'free':{'m':{'j':2}}}}");
    world_free(&w);
}

static void one_writer_costs_no_bitmap(void **state) {
    struct buf sole = BUF_INIT(256);
    struct world w;
    world_init(&w, pod_topology());
    update(&w, "u", "{'spec':{'containers':[{'name':'x','image':'y'}]}}");
    struct manager who = {.name = "u", .api_version = "v1", .subresource = "", .time = 1000};
    ownership_store_sole(&who, &sole);
    assert_int_equal(w.stored.len, sole.len);
    assert_memory_equal(w.stored.ptr, sole.ptr, sole.len);
    assert_true(ownership_stored_sole(buf_bytes(&sole), &who));
    who.apply = true;
    assert_false(ownership_stored_sole(buf_bytes(&sole), &who));
    buf_free(&sole);
    world_free(&w);
}

static void many_updaters_become_ancient_changes(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    char object[512] = "{'metadata':{'labels':{";
    for (int i = 0; i < 14; i++) {
        char name[8], whole[600];
        snprintf(name, sizeof(name), "m%02d", i);
        snprintf(object + strlen(object), sizeof(object) - strlen(object), "%s'l%02d':'x'", i ? "," : "", i);
        snprintf(whole, sizeof(whole), "%s}}}", object);
        update(&w, name, whole);
    }
    owns(&w, "m00", "");
    owns(&w, "m13", "{'f:metadata':{'f:labels':{'f:l13':{}}}}");
    owns(&w, "ancient-changes",
         "{'f:metadata':{'f:labels':{'.':{},'f:l00':{},'f:l01':{},'f:l02':{},'f:l03':{},'f:l04':{}}}}");
    world_free(&w);
}

static void two_elements_with_one_key_are_found(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc =
        test_json("{'spec':{'containers':[{'name':'a'},{'name':'b'},{'name':'a'}]}}");
    struct field_tree tree;
    struct buf path = BUF_INIT(256);
    field_tree_init(&tree, yyjson_doc_get_root(doc), pod_topology());
    uint32_t n = field_tree_duplicate(&tree);
    assert_int_not_equal(n, FIELD_NONE);
    field_tree_path(&tree, n, &path);
    assert_string_equal(path.ptr, ".spec.containers[name=\"a\"]");
    buf_free(&path);
    field_tree_free(&tree);
}

static void an_applier_stays_itself_in_another_version(void **state) {
    struct world w;
    world_init(&w, pod_topology());
    struct manager who = {.name = "a", .api_version = "v1", .subresource = "", .apply = true, .time = 1};
    assert_true(apply(&w, "a", "{'spec':{'priority':1}}", false));
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(w.object);
    struct field_tree tree;
    struct ownership o;
    field_tree_init(&tree, yyjson_doc_get_root(doc), w.topology);
    ownership_load(&o, buf_bytes(&w.stored), &tree);
    who.api_version = "v2";
    assert_int_equal(ownership_find(&o, &who), 0);
    who.apply = false;
    assert_int_equal(ownership_find(&o, &who), -1);
    ownership_free(&o);
    field_tree_free(&tree);
    world_free(&w);
}

static void damaged_bytes_are_owned_by_nobody(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json("{'spec':{'priority':1}}");
    static const struct bytes damaged[] = {
        {"", 0},
        {"\x02", 1},
        {"\x01\x7f", 2},
        {"\x01\x01\x00", 3},
        {"\x01\x01\x00\x01\xff", 5},
        {"\x01\x01\x00\x01\x01u\x01v\x01s\x00\x7f", 12},
        {"\x01\x02\x02\x01\x01u\x01v\x01s\x02\x01\x01u\x01v\x01s", 18}, /* one manager twice */
    };
    struct field_tree tree;
    field_tree_init(&tree, yyjson_doc_get_root(doc), pod_topology());
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
        struct ownership o;
        ownership_load(&o, damaged[i], &tree);
        assert_true(o.count <= 1);
        ownership_free(&o);
    }
    field_tree_free(&tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_apply_owns_exactly_the_leaves_it_names),
        cmocka_unit_test(what_is_given_up_goes_and_what_others_set_stays),
        cmocka_unit_test(a_list_element_goes_with_the_defaults_in_it),
        cmocka_unit_test(another_owner_of_a_value_is_in_the_way_until_forced),
        cmocka_unit_test(the_same_value_is_shared),
        cmocka_unit_test(writing_takes_ownership_and_never_conflicts),
        cmocka_unit_test(status_has_an_entry_of_its_own),
        cmocka_unit_test(appliers_order_their_elements_and_others_keep_their_place),
        cmocka_unit_test(custom_schemas_say_what_is_merged),
        cmocka_unit_test(one_writer_costs_no_bitmap),
        cmocka_unit_test(many_updaters_become_ancient_changes),
        cmocka_unit_test(two_elements_with_one_key_are_found),
        cmocka_unit_test(an_applier_stays_itself_in_another_version),
        cmocka_unit_test(damaged_bytes_are_owned_by_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
