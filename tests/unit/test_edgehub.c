#include "base/clock.h"
#include "base/mem.h"
#include "edge/edgehub/certificates.h"
#include "edge/edgehub/dispatch.h"
#include "edge/edgehub/upstream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- the upward queue ---- */

static void add(struct upstream *u, enum upstream_kind kind, const char *text) {
    (void)upstream_add(u, kind, xstrdup(text), strlen(text));
}

static void assert_sends(struct upstream *u, const char *text) {
    struct bytes b;
    assert_true(upstream_next(u, &b));
    assert_true(bytes_eq_str(b, text));
    upstream_sent(u);
}

static void assert_nothing_to_send(struct upstream *u) {
    struct bytes b;
    assert_false(upstream_next(u, &b));
}

static void messages_go_up_in_order(void **state) {
    struct upstream *u = upstream_new(1000, 10);
    add(u, UPSTREAM_KEPT, "a");
    add(u, UPSTREAM_ACK, "b");
    add(u, UPSTREAM_REQUEST, "c");
    assert_sends(u, "a");
    assert_sends(u, "b");
    assert_sends(u, "c");
    assert_nothing_to_send(u);
    upstream_free(u);
}

static void a_message_that_was_not_confirmed_is_sent_again(void **state) {
    struct upstream *u = upstream_new(1000, 10);
    add(u, UPSTREAM_KEPT, "a");
    add(u, UPSTREAM_KEPT, "b");
    assert_sends(u, "a");
    upstream_mark(u);
    assert_sends(u, "b");
    upstream_confirmed(u); /* reaches a only */
    assert_true(upstream_unconfirmed(u));
    add(u, UPSTREAM_KEPT, "c");
    upstream_disconnected(u);
    assert_sends(u, "b");
    assert_sends(u, "c");
    assert_nothing_to_send(u);
    upstream_free(u);
}

static void acknowledgements_and_requests_do_not_outlive_the_connection(void **state) {
    struct upstream *u = upstream_new(1000, 10);
    add(u, UPSTREAM_ACK, "a");
    add(u, UPSTREAM_REQUEST, "b");
    add(u, UPSTREAM_KEPT, "c");
    upstream_disconnected(u);
    assert_sends(u, "c");
    assert_nothing_to_send(u);
    upstream_free(u);
}

static void over_the_maximum_the_oldest_kept_message_gives_way(void **state) {
    struct upstream *u = upstream_new(1000, 2);
    add(u, UPSTREAM_KEPT, "a");
    add(u, UPSTREAM_KEPT, "b");
    assert_int_equal(upstream_add(u, UPSTREAM_KEPT, xstrdup("c"), 1), 1);
    assert_sends(u, "b");
    assert_sends(u, "c");
    upstream_free(u);

    u = upstream_new(10, 100);
    add(u, UPSTREAM_KEPT, "123456");
    add(u, UPSTREAM_ACK, "ack");
    assert_int_equal(upstream_add(u, UPSTREAM_KEPT, xstrdup("7890"), 4), 1);
    assert_int_equal(upstream_count(u), 2);
    assert_sends(u, "ack");
    upstream_free(u);
}

/* ---- who gets a message ---- */

static void assert_target(const char *group, const char *source, const char *operation, const char *parent,
                          enum downstream_target target, const char *component) {
    struct message *m = message_new(&(struct message_fields){
        .group = group, .source = source, .operation = operation, .parent_id = parent, .resource = "ns/pod/p"});
    const char *got;
    assert_int_equal(downstream_target(m, &got), target);
    if (component)
        assert_string_equal(got, component);
    else
        assert_null(got);
    message_free(m);
}

static void every_group_of_the_specification_finds_its_component(void **state) {
    assert_target("resource", "edgecontroller", "insert", "", DOWN_COMPONENT, "metamanager");
    assert_target("resource", "edgecontroller", "response", "id", DOWN_ANSWER, "metamanager");
    assert_target("func", "x", "update", "", DOWN_COMPONENT, "metamanager");
    assert_target("twin", "devicecontroller", "response", "id", DOWN_COMPONENT, "twin");
    assert_target("user", "router_eventbus", "publish", "", DOWN_COMPONENT, "eventbus");
    assert_target("user", "router_servicebus", "GET", "", DOWN_COMPONENT, "servicebus");
    assert_target("user", "somebody", "GET", "", DOWN_DROP, NULL);
    assert_target("user", "servicebus", "response", "id", DOWN_ANSWER, NULL);
    assert_target("taskmanager", "taskmanager", "upgrade", "", DOWN_COMPONENT, "taskmanager");
    assert_target("nodeupgradejobcontroller", "x", "upgrade", "", DOWN_DROP, NULL);
    assert_target("resource", "x", "ping", "", DOWN_CONTROL, NULL);
}

/* ---- certificates ---- */

struct pki {
    struct buf ca_key, ca, key, cert;
};

static void make_certificate(struct pki *p, const char *node, int64_t not_before, int64_t lifetime) {
    struct error err = ERROR_INIT;
    struct x509_subject subject = {.organization = "system:nodes"};
    *p = (struct pki){BUF_INIT(65536), BUF_INIT(65536), BUF_INIT(65536), BUF_INIT(65536)};
    (void)snprintf(subject.common_name, sizeof(subject.common_name), "system:node:%s", node);
    assert_int_equal(x509_new_key(&p->ca_key, &err), 0);
    assert_int_equal(x509_new_ca("KubeEdge", buf_bytes(&p->ca_key), &p->ca, &err), 0);
    assert_int_equal(x509_new_key(&p->key, &err), 0);
    struct x509_sign s = {.ca_cert_pem = buf_bytes(&p->ca),
                          .ca_key_pem = buf_bytes(&p->ca_key),
                          .not_before = not_before,
                          .lifetime_s = lifetime,
                          .client_auth = true};
    assert_int_equal(x509_sign_key(&s, buf_bytes(&p->key), &subject, &p->cert, &err), 0);
}

static void pki_free(struct pki *p) {
    buf_free(&p->ca_key);
    buf_free(&p->ca);
    buf_free(&p->key);
    buf_free(&p->cert);
}

static void a_certificate_is_judged_by_name_date_and_key(void **state) {
    struct pki p, other;
    struct error why = ERROR_INIT;
    int64_t now = 1800000000;
    make_certificate(&p, "edge-1", now - 1000, 2000);
    make_certificate(&other, "edge-1", now - 1000, 2000);
    struct bytes cert = buf_bytes(&p.cert), key = buf_bytes(&p.key);
    assert_int_equal(certificate_judge(cert, key, "edge-1", now, &why), CERTIFICATE_VALID);
    assert_int_equal(certificate_judge(cert, key, "edge-2", now, &why), CERTIFICATE_FOREIGN);
    assert_non_null(strstr(why.msg, "edge-2"));
    assert_int_equal(certificate_judge(cert, key, "edge-1", now + 5000, &why), CERTIFICATE_EXPIRED);
    assert_int_equal(certificate_judge(cert, buf_bytes(&other.key), "edge-1", now, &why), CERTIFICATE_MISSING);
    assert_int_equal(certificate_judge(BYTES_LIT("no certificate"), key, "edge-1", now, &why), CERTIFICATE_MISSING);
    pki_free(&p);
    pki_free(&other);
}

static void a_slow_clock_does_not_make_a_certificate_useless(void **state) {
    struct pki p;
    struct error why = ERROR_INIT;
    make_certificate(&p, "edge-1", 1800000000, 2000);
    assert_int_equal(certificate_judge(buf_bytes(&p.cert), buf_bytes(&p.key), "edge-1", 0, &why), CERTIFICATE_VALID);
    pki_free(&p);
}

static void renewal_falls_between_70_and_80_percent_of_the_life(void **state) {
    assert_int_equal(certificate_renewal_time(1000, 2000, 0), 1700);
    assert_int_equal(certificate_renewal_time(1000, 2000, 1), 1800);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_up_in_order),
        cmocka_unit_test(a_message_that_was_not_confirmed_is_sent_again),
        cmocka_unit_test(acknowledgements_and_requests_do_not_outlive_the_connection),
        cmocka_unit_test(over_the_maximum_the_oldest_kept_message_gives_way),
        cmocka_unit_test(every_group_of_the_specification_finds_its_component),
        cmocka_unit_test(a_certificate_is_judged_by_name_date_and_key),
        cmocka_unit_test(a_slow_clock_does_not_make_a_certificate_useless),
        cmocka_unit_test(renewal_falls_between_70_and_80_percent_of_the_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
