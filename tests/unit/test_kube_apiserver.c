/* The REST client and the reflector against the embedded API server: TLS, client certificate, list and watch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apiserver/apiserver.h"
#include "base/file.h"
#include "kube/object.h"
#include "kube/reflector.h"
#include "script_server.h"

#define WAIT 10000
#define PATH "/api/v1/namespaces/default/configmaps"

static struct loop *loop;
static bool synced, added, modified, deleted;

static void on_event(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    if (!str_eq(object_name(object), "ours"))
        return;
    assert_string_equal(object_kind(object), "ConfigMap");
    *(ev == REFLECTOR_ADDED ? &added : ev == REFLECTOR_MODIFIED ? &modified : &deleted) = true;
}
static void on_synced(void *arg) {
    synced = true;
}

struct outcome {
    bool done;
    int status;
    struct error error;
};
static void on_done(void *arg, struct kube_result *r) {
    *(struct outcome *)arg = (struct outcome){true, r->status, r->error};
}

static struct outcome ask(struct kube_client *k, struct kube_request r) {
    struct outcome o = {0};
    r.done = on_done;
    r.arg = &o;
    kube_call(k, &r);
    assert_true(run_until(loop, &o.done, WAIT));
    if (!o.status)
        fail_msg("%s", o.error.msg);
    return o;
}

static void what_is_written_is_watched(void **state) {
    char folder[64], admin[96];
    struct apiserver *server;
    struct kube_config c;
    struct error err = ERROR_INIT;
    const struct bytes object =
        BYTES_LIT("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"ours\"}}");
    snprintf(folder, sizeof folder, "/tmp/selvage-api-%d", (int)getpid());
    snprintf(admin, sizeof admin, "%s/admin.kubeconfig", folder);
    if (apiserver_start(&server, &(struct apiserver_options){.data_dir = folder}, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(kube_config_load(admin, &c, &err), 0);
    loop = loop_new();
    struct kube_client *k = kube_client_new(loop, &c, "test", &err);
    assert_non_null(k);
    struct reflector *r = reflector_new(
        k, &(struct reflector_options){
               .version = "v1", .plural = "configmaps", .keep_objects = true, .event = on_event, .synced = on_synced});
    assert_true(run_until(loop, &synced, WAIT));
    assert_int_equal(ask(k, (struct kube_request){.verb = "POST", .path = PATH, .body = object}).status, 201);
    assert_true(run_until(loop, &added, WAIT));
    assert_int_equal(ask(k, (struct kube_request){.verb = "POST", .path = PATH, .body = object}).error.code,
                     ERR_EXISTS);
    struct kube_request patch = {.verb = "PATCH",
                                 .path = PATH "/ours",
                                 .content_type = KUBE_STRATEGIC_MERGE,
                                 .body = BYTES_LIT("{\"data\":{\"k\":\"v\"}}")};
    assert_int_equal(ask(k, patch).status, 200);
    assert_true(run_until(loop, &modified, WAIT));
    assert_string_equal(json_str(reflector_get(r, "default", "ours"), "data", "k"), "v");
    assert_int_equal(ask(k, (struct kube_request){.verb = "DELETE", .path = PATH "/ours"}).status, 200);
    assert_true(run_until(loop, &deleted, WAIT));
    assert_null(reflector_get(r, "default", "ours"));
    reflector_free(r);
    kube_client_free(k);
    loop_free(loop);
    kube_config_free(&c);
    apiserver_stop(server);
    assert_int_equal(dir_remove(folder, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_written_is_watched)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
