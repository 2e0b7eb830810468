#include "kube/schema.h"

#include "json_testing.h"

/* A protobuf message is written here as a buf: field numbers with their values. */
static void varint(struct buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        buf_add_char(b, (char)(v | 0x80));
    buf_add_char(b, (char)v);
}
static void number(struct buf *b, uint32_t field, uint64_t v) {
    varint(b, (uint64_t)field << 3);
    varint(b, v);
}
static void bytes_field(struct buf *b, uint32_t field, struct bytes v) {
    varint(b, (uint64_t)field << 3 | 2);
    varint(b, v.len);
    buf_add_bytes(b, v);
}
static void text(struct buf *b, uint32_t field, const char *v) {
    bytes_field(b, field, bytes_str(v));
}
static void message(struct buf *b, uint32_t field, struct buf *inner) {
    bytes_field(b, field, buf_bytes(inner));
    buf_free(inner);
}
#define MESSAGE BUF_INIT(1 << 20)

static struct buf envelope(const char *api_version, const char *kind, struct buf *object) {
    struct buf type = MESSAGE, out = MESSAGE;
    text(&type, 1, api_version);
    text(&type, 2, kind);
    buf_add(&out, "k8s\0", 4);
    message(&out, 1, &type);
    message(&out, 2, object);
    text(&out, 3, "");
    text(&out, 4, "");
    return out;
}

static void decodes_to(struct buf *body, const char *expected) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *doc = NULL;
    struct error err = ERROR_INIT;
    if (schema_decode_protobuf(buf_bytes(body), &doc, &err) < 0)
        fail_msg("%s", err.msg);
    assert_json(yyjson_mut_doc_get_root(doc), expected);
    buf_free(body);
}

static struct buf map_entry(const char *key, const char *value) {
    struct buf e = MESSAGE;
    text(&e, 1, key);
    text(&e, 2, value);
    return e;
}

/* As Go writes them: every non-pointer scalar is on the wire, even when it is zero. */
static struct buf metadata(const char *name) {
    struct buf meta = MESSAGE, time = MESSAGE;
    text(&meta, 1, name);
    text(&meta, 2, "");
    text(&meta, 3, "default");
    text(&meta, 4, "");
    text(&meta, 5, "");
    text(&meta, 6, "");
    number(&meta, 7, 0);
    message(&meta, 8, &time);
    return meta;
}

static void zero_scalars_and_empty_messages_are_left_out(void **state) {
    struct buf cm = MESSAGE, meta = metadata("c"), entry = map_entry("k", "v"), empty = map_entry("e", "");
    message(&cm, 1, &meta);
    message(&cm, 2, &entry);
    message(&cm, 2, &empty);
    struct buf body = envelope("v1", "ConfigMap", &cm);
    decodes_to(&body, "{'apiVersion':'v1','kind':'ConfigMap','metadata':{'name':'c','namespace':'default'},"
                      "'data':{'k':'v','e':''}}");
    struct buf pod = MESSAGE, meta2 = metadata("p"), status = MESSAGE;
    text(&status, 1, "");
    message(&pod, 1, &meta2);
    message(&pod, 3, &status);
    body = envelope("v1", "Pod", &pod);
    decodes_to(&body, "{'apiVersion':'v1','kind':'Pod','metadata':{'name':'p','namespace':'default'}}");
}

static void pods_decode_with_inlined_messages_pointers_and_special_types(void **state) {
    struct buf spec = MESSAGE, container = MESSAGE, port = MESSAGE, resources = MESSAGE, limit = MESSAGE,
               quantity = MESSAGE, probe = MESSAGE, handler = MESSAGE, get = MESSAGE, int_or_string = MESSAGE,
               volume = MESSAGE, source = MESSAGE, empty_dir = MESSAGE, pod = MESSAGE, env = MESSAGE, from = MESSAGE,
               key_ref = MESSAGE, ref = MESSAGE;
    text(&container, 1, "web");
    text(&container, 2, "nginx:1");
    text(&port, 1, "");
    number(&port, 2, 0);
    number(&port, 3, 80);
    text(&port, 4, "TCP");
    message(&container, 6, &port);
    text(&quantity, 1, "100m");
    text(&limit, 1, "cpu");
    message(&limit, 2, &quantity);
    message(&resources, 1, &limit);
    message(&container, 8, &resources);
    number(&int_or_string, 1, 1);
    number(&int_or_string, 2, 0);
    text(&int_or_string, 3, "http");
    text(&get, 1, "/");
    message(&get, 2, &int_or_string);
    message(&handler, 2, &get);
    message(&probe, 1, &handler);
    number(&probe, 2, 0);
    message(&container, 10, &probe);
    text(&ref, 1, "cm");
    message(&key_ref, 1, &ref);
    text(&key_ref, 2, "key");
    message(&from, 3, &key_ref);
    text(&env, 1, "E");
    message(&env, 3, &from);
    message(&container, 7, &env);
    message(&source, 2, &empty_dir);
    text(&volume, 1, "tmp");
    message(&volume, 2, &source);
    message(&spec, 1, &volume);
    message(&spec, 2, &container);
    number(&spec, 4, 0);             /* terminationGracePeriodSeconds, a pointer: set to 0 */
    number(&spec, 21, 0);            /* automountServiceAccountToken, a pointer: false */
    number(&spec, 25, (uint64_t)-5); /* priority: negative numbers take ten bytes */
    number(&spec, 9999, 1);          /* from a newer client */
    message(&pod, 2, &spec);
    struct buf body = envelope("v1", "Pod", &pod);
    decodes_to(&body, "{'apiVersion':'v1','kind':'Pod','spec':{'volumes':[{'name':'tmp','emptyDir':{}}],'containers':[{"
                      "'name':'web','image':'nginx:1','ports':[{'containerPort':80,'protocol':'TCP'}],"
                      "'resources':{'limits':{'cpu':'100m'}},'livenessProbe':{'httpGet':{'path':'/','port':'http'}},"
                      "'env':[{'name':'E','valueFrom':{'configMapKeyRef':{'name':'cm','key':'key'}}}]}],"
                      "'terminationGracePeriodSeconds':0,'automountServiceAccountToken':false,'priority':-5}}");
}

static void times_micro_times_and_bytes_become_text(void **state) {
    struct buf lease = MESSAGE, spec = MESSAGE, time = MESSAGE, secret = MESSAGE, entry = MESSAGE;
    text(&spec, 1, "me");
    number(&time, 1, 1767323045);
    number(&time, 2, 678901000);
    message(&spec, 4, &time);
    message(&lease, 2, &spec);
    struct buf body = envelope("coordination.k8s.io/v1", "Lease", &lease);
    decodes_to(&body, "{'apiVersion':'coordination.k8s.io/v1','kind':'Lease','spec':{'holderIdentity':'me',"
                      "'renewTime':'2026-01-02T03:04:05.678901Z'}}");
    text(&entry, 1, "p");
    bytes_field(&entry, 2, bytes_of("\0\xff", 2));
    message(&secret, 2, &entry);
    text(&secret, 3, "Opaque");
    body = envelope("v1", "Secret", &secret);
    decodes_to(&body, "{'apiVersion':'v1','kind':'Secret','data':{'p':'AP8='},'type':'Opaque'}");
}

static void delete_options_come_under_any_group_version(void **state) {
    struct buf options = MESSAGE;
    number(&options, 1, 0);
    text(&options, 4, "Background");
    struct buf body = envelope("coordination.k8s.io/v1", "DeleteOptions", &options);
    decodes_to(&body, "{'apiVersion':'coordination.k8s.io/v1','kind':'DeleteOptions','gracePeriodSeconds':0,"
                      "'propagationPolicy':'Background'}");
}

static void a_crd_decodes_with_its_schema(void **state) {
    struct buf crd = MESSAGE, spec = MESSAGE, version = MESSAGE, validation = MESSAGE, schema = MESSAGE,
               entry = MESSAGE, prop = MESSAGE, items = MESSAGE, item = MESSAGE, json = MESSAGE, extra = MESSAGE;
    text(&item, 5, "string");
    message(&items, 1, &item);
    text(&prop, 5, "array");
    message(&prop, 24, &items);
    bytes_field(&json, 1, BYTES_LIT("[\"a\"]"));
    message(&prop, 8, &json);
    number(&extra, 1, 1);
    message(&prop, 30, &extra);
    text(&entry, 1, "list");
    message(&entry, 2, &prop);
    text(&schema, 5, "object");
    message(&schema, 29, &entry);
    message(&validation, 1, &schema);
    text(&version, 1, "v1");
    number(&version, 2, 1);
    number(&version, 3, 0);
    message(&version, 4, &validation);
    text(&spec, 1, "x.io");
    message(&spec, 7, &version);
    message(&crd, 2, &spec);
    struct buf body = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &crd);
    decodes_to(&body,
               "{'apiVersion':'apiextensions.k8s.io/v1','kind':'CustomResourceDefinition','spec':{'group':'x.io',"
               "'versions':[{'name':'v1','served':true,'storage':false,'schema':{'openAPIV3Schema':{"
               "'type':'object','properties':{'list':{'type':'array','items':{'type':'string'},"
               "'default':['a'],'additionalProperties':true}}}}}]}}");
}

static void damaged_bodies_are_refused(void **state) {
    struct buf cm = MESSAGE, meta = metadata("c"), entry = map_entry("key", "value");
    message(&cm, 1, &meta);
    message(&cm, 2, &entry);
    _cleanup_(buf_free) struct buf inner = MESSAGE;
    buf_add_bytes(&inner, buf_bytes(&cm));
    /* Cut anywhere, the object is refused or is a shorter one: never a crash. */
    for (size_t cut = 0; cut < inner.len; cut++) {
        struct buf part = MESSAGE;
        buf_add(&part, inner.ptr, cut);
        _cleanup_(buf_free) struct buf body = envelope("v1", "ConfigMap", &part);
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *doc = NULL;
        if (schema_decode_protobuf(buf_bytes(&body), &doc, NULL) == 0)
            assert_true(yyjson_mut_is_obj(yyjson_mut_doc_get_root(doc)));
    }
    buf_free(&cm);
    yyjson_mut_doc *doc = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(schema_decode_protobuf(BYTES_LIT("{}"), &doc, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    struct buf none = MESSAGE, bad = MESSAGE;
    _cleanup_(buf_free) struct buf unknown = envelope("example.io/v1", "Thing", &none);
    assert_int_equal(schema_decode_protobuf(buf_bytes(&unknown), &doc, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    text(&bad, 2, "a string where a message with a key and a value should stand \xff");
    _cleanup_(buf_free) struct buf wrong = envelope("v1", "ConfigMap", &bad);
    assert_int_equal(schema_decode_protobuf(buf_bytes(&wrong), &doc, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void deep_nesting_is_refused(void **state) {
    struct buf schema = MESSAGE;
    text(&schema, 5, "object");
    for (int i = 0; i < 100; i++) { /* not: {not: {...}} */
        struct buf outer = MESSAGE;
        message(&outer, 28, &schema);
        schema = outer;
    }
    struct buf validation = MESSAGE, version = MESSAGE, spec = MESSAGE, crd = MESSAGE;
    message(&validation, 1, &schema);
    message(&version, 4, &validation);
    message(&spec, 7, &version);
    message(&crd, 2, &spec);
    _cleanup_(buf_free) struct buf body = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &crd);
    yyjson_mut_doc *doc = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(schema_decode_protobuf(buf_bytes(&body), &doc, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_scalars_and_empty_messages_are_left_out),
        cmocka_unit_test(pods_decode_with_inlined_messages_pointers_and_special_types),
        cmocka_unit_test(times_micro_times_and_bytes_become_text),
        cmocka_unit_test(delete_options_come_under_any_group_version),
        cmocka_unit_test(a_crd_decodes_with_its_schema),
        cmocka_unit_test(damaged_bodies_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
