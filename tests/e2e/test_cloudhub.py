"""CloudHub and EdgeController, seen by an edge that says exactly what it wants to."""

import hashlib
import json
import socket
import time
import uuid

import pytest
import websocket
from cryptography import x509

from fake_edge import DAY, Edge, fleet_ca, https, message, new_key, sign, subject
from harness.api import Api
from harness.processes import wait_for

CORE = "/api/v1"


@pytest.fixture(scope="module")
def cloud(cloud_only):
    return cloud_only.cloud


@pytest.fixture(scope="module")
def api(cloud):
    return Api(cloud.kubeconfig)


@pytest.fixture
def edges(cloud):
    """Makes edges that are closed in the end. Names are new, so that tests do not meet."""
    made = []

    def make(register=True, connect=True):
        e = Edge(cloud, f"e-{uuid.uuid4().hex[:8]}").join()
        made.append(e)
        if connect:
            e.connect()
            if register:
                e.register()
        return e
    yield make
    for e in made:
        e.close()


def pod(name, node, volumes=(), **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}], "volumes": list(volumes), **spec}}


def config_volume(name):
    return {"name": "v", "configMap": {"name": name}}


def put_object(api, plural, obj, ns="default"):
    return api.ok("POST", f"{CORE}/namespaces/{ns}/{plural}", obj)


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def secret(name, **data):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "stringData": data}


def is_forbidden(content):
    status = (content.get("Err") or content)["ErrStatus"]
    return status["code"] == 403 and status["reason"] == "Forbidden"


# ---- joining ----

def test_the_ca_is_der_and_is_the_one_in_the_token(cloud):
    status, der = https(cloud, "GET", "/ca.crt")
    assert status == 200
    assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == "CN=KubeEdge"
    assert cloud.join_token().split(".")[0] == hashlib.sha256(der).hexdigest()


def test_a_token_gives_a_certificate_of_the_node(cloud):
    e = Edge(cloud, "joiner").join()
    cert = x509.load_pem_x509_certificate(e.cert)
    assert cert.subject.rfc4514_string() == "CN=system:node:joiner,O=system:nodes"
    assert cert.public_key().public_numbers() == e.key.public_key().public_numbers()


def test_a_wrong_token_is_refused(cloud):
    e = Edge(cloud, "joiner")
    jwt = cloud.join_token().split(".", 1)[1]
    status, text = e.ask_certificate(jwt[:-4] + ("AAAA" if jwt[-4:] != "AAAA" else "BBBB"))
    assert status == 401
    assert text == b"token validation failure, err: token signature is invalid: signature is invalid"
    assert e.ask_certificate()[0] == 401
    assert e.ask_certificate(cloud.join_token())[0] == 401  # the whole token, CA hash included


def test_a_csr_for_another_node_is_refused(cloud, edges):
    jwt = cloud.join_token().split(".", 1)[1]
    e = edges(connect=False)
    assert e.ask_certificate(jwt, csr_name="system:node:other")[0] == 403
    assert e.ask_certificate(jwt, csr_name="admin")[0] == 403
    # With a certificate of its own: neither for another name in the header, nor in the request.
    assert e.ask_certificate(name="other", cert=e.cert, key=e.key)[0] == 401
    assert e.ask_certificate(csr_name="system:node:other", cert=e.cert, key=e.key)[0] == 403


def test_a_certificate_renews_itself(edges):
    e = edges(connect=False)
    old, old_key = e.cert, e.key
    e.key = new_key()
    status, body = e.ask_certificate(cert=old, key=old_key)
    assert status == 200
    assert x509.load_der_x509_certificate(body).subject.rfc4514_string() == f"CN=system:node:{e.name},O=system:nodes"


def test_the_https_api_refuses_what_it_does_not_offer(cloud):
    assert https(cloud, "GET", "/nothing") == (404, b"404: Page Not Found")
    assert https(cloud, "POST", "/ca.crt")[0] == 405
    assert https(cloud, "GET", "/edge.crt", b"x" * (1 << 20 | 1), {"NodeName": "n"})[0] in (413, 500)
    assert https(cloud, "GET", "/edge.crt", b"not a request",
                 {"NodeName": "n", "Authorization": "Bearer " + cloud.join_token().split(".", 1)[1]})[0] == 500
    assert https(cloud, "GET", "/node/no-such-node") == (404, b"Node not found")
    assert https(cloud, "GET", "/healthz")[0] == 200
    assert https(cloud, "GET", "/readyz")[0] == 200


# ---- connecting ----

def refusal(edge, **kwargs):
    with pytest.raises((websocket.WebSocketException, OSError)) as e:
        edge.connect(wait=False, **kwargs)
        edge.closed()  # TLS 1.3 tells the client about its certificate after the handshake
        raise OSError("closed")
    return e.value


def test_a_connection_without_a_certificate_of_ours_is_refused(cloud, edges):
    foreign_key, key = new_key(), new_key()
    ca, ca_key = fleet_ca(cloud)
    e = edges(connect=False)
    e.cert = None
    refusal(e)
    e.key = key
    e.cert = sign(ca, foreign_key, key, subject(f"system:node:{e.name}"))  # not signed by that CA's key
    refusal(e)
    e.cert = sign(ca, ca_key, key, subject(f"system:node:{e.name}"), start=-2 * DAY, end=-DAY)  # expired
    refusal(e)
    e.cert = sign(ca, ca_key, key, subject("admin", "system:masters"))
    assert getattr(refusal(e), "status_code", None) == 403


def test_another_nodes_name_in_header_or_path_is_refused(edges):
    e, victim = edges(), edges()
    e.close()
    assert refusal(e, node_id=victim.name).status_code == 403
    assert refusal(e, path=f"/project/{victim.name}/events").status_code == 403
    victim.settle()  # and nothing happened to the other
    e.connect()


def test_a_connection_that_is_no_message_channel_is_refused_at_once(edges):
    e = edges(connect=False)
    assert refusal(e, headers={"ConnectionUse": None}).status_code == 400
    assert refusal(e, headers={"ConnectionUse": "str"}).status_code == 400


def test_control_messages_are_answered(edges):
    e = edges(register=False)
    for operation in ("ping", "pong", "config"):
        m = e.send(message(operation, "node"))
        a = e.answer(m)
        assert a["content"] == "ack" and a["route"]["operation"] == "response"


def test_a_message_that_cannot_be_read_is_skipped_counted_and_told_once(cloud_only, edges):
    e, other = edges(), edges()
    texts = ("{", "[]", '{"header":{"msg_id":1}}', '{"header":{"timestamp":1.5}}', "\x00" * 10, "[" * 100000)
    before = e.cloud.metrics()["cloudhub_messages_malformed_total"]
    for text in texts:
        e.ws.send(text)
        e.settle()  # what can be read is still answered
    assert e.cloud.metrics()["cloudhub_messages_malformed_total"] == before + len(texts)
    lines = [line for line in cloud_only.cloud.process.log().splitlines() if "message skipped" in line and e.name in line]
    assert len(lines) == 1
    other.settle()


def test_a_broken_frame_ends_the_session_of_its_sender_alone(edges):
    e, other = edges(), edges()
    e.ws.sock.sendall(b"\xf3\x00")  # reserved bits, a reserved opcode, and not masked
    e.closed()
    other.settle()
    e.connect()


def test_a_second_connection_replaces_the_first(edges):
    e = edges()
    for _ in range(10):
        first = e.ws
        e.ws = None
        e.connect()
        e.settle()
        second, e.ws = e.ws, first
        assert "replaced" in e.closed()
        e.ws = second
        time.sleep(0.05)
        e.settle()


# ---- down ----

def test_a_pod_goes_down_and_changes_and_goes(edges, api):
    e, other = edges(), edges()
    p = put_object(api, "pods", pod("web-" + e.name, e.name))
    resource = f"default/pod/web-{e.name}"
    m = e.object(resource, "insert")
    assert m["content"]["spec"]["nodeName"] == e.name
    assert m["content"]["kind"] == "Pod" and m["content"]["apiVersion"] == "v1"
    assert m["header"]["resourceversion"] == p["metadata"]["resourceVersion"]
    assert (m["route"]["source"], m["route"]["group"]) == ("edgecontroller", "resource")
    path = f"{CORE}/namespaces/default/pods/web-{e.name}"
    api.ok("PATCH", path + "/status", {"status": {"phase": "Pending", "message": "x"}}, "application/merge-patch+json")
    e.nothing(resource)  # a status that the edge itself has told
    api.ok("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, "application/merge-patch+json")
    assert e.object(resource, "update")["content"]["metadata"]["labels"] == {"a": "b"}
    api.ok("DELETE", path, {"gracePeriodSeconds": 0})
    assert e.object(resource, "delete")["content"]["metadata"]["uid"] == p["metadata"]["uid"]
    other.nothing(resource, 0.3)


def test_config_maps_and_secrets_follow_the_pods_that_use_them(edges, api):
    e, other = edges(), edges()
    n = e.name
    put_object(api, "pods", pod("p-" + n, n, [config_volume("cm-" + n)],
                                initContainers=[{"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "s-" + n}}]}]))
    e.object(f"default/pod/p-{n}", "insert")
    put_object(api, "configmaps", config_map("cm-" + n, a="1"))
    assert e.object(f"default/configmap/cm-{n}", "insert")["content"]["data"] == {"a": "1"}
    put_object(api, "secrets", secret("s-" + n, k="v"))
    e.object(f"default/secret/s-{n}", "update")
    path = f"{CORE}/namespaces/default/configmaps/cm-{n}"
    api.ok("PATCH", path, {"data": {"a": "2"}}, "application/merge-patch+json")
    assert e.object(f"default/configmap/cm-{n}", "update")["content"]["data"] == {"a": "2"}
    api.ok("DELETE", path)
    e.object(f"default/configmap/cm-{n}", "delete")
    put_object(api, "configmaps", config_map("cm-" + n, a="3"))  # made anew: it still reaches the node
    assert e.object(f"default/configmap/cm-{n}", "insert")["content"]["data"] == {"a": "3"}
    api.ok("DELETE", f"{CORE}/namespaces/default/pods/p-{n}", {"gracePeriodSeconds": 0})
    e.object(f"default/pod/p-{n}", "delete")
    api.ok("PATCH", path, {"data": {"a": "4"}}, "application/merge-patch+json")  # nobody uses it any more
    e.nothing(f"default/configmap/cm-{n}", 0.5)
    other.nothing(f"default/configmap/cm-{n}", 0.2)


def test_an_unacknowledged_object_is_sent_again_unchanged(edges, api):
    e = edges()
    e.ack = False
    put_object(api, "pods", pod("slow-" + e.name, e.name))
    put_object(api, "pods", pod("other-" + e.name, e.name))
    first = e.object(f"default/pod/slow-{e.name}", "insert")
    e.object(f"default/pod/other-{e.name}", "insert")  # not held up by the other
    again = e.object(f"default/pod/slow-{e.name}", "insert")
    assert again == first
    assert not [m for m in e.seen if m["content"] == "ack"]  # answers to control messages are not repeated
    e.object(f"default/pod/other-{e.name}", "insert")
    e.send_ack(again)
    e.settle()
    e.seen.clear()  # copies that were sent before the acknowledgement came
    e.object(f"default/pod/other-{e.name}", "insert")
    e.nothing(f"default/pod/slow-{e.name}", 1)


def test_an_edge_that_comes_back_is_told_everything(edges, api):
    e = edges()
    n = e.name
    put_object(api, "configmaps", config_map("back-" + n, a="1"))
    put_object(api, "pods", pod("stays-" + n, n, [config_volume("back-" + n)]))
    gone = put_object(api, "pods", pod("goes-" + n, n))
    e.object(f"default/pod/stays-{n}")
    e.object(f"default/pod/goes-{n}")
    e.cut()
    time.sleep(0.3)
    api.ok("PATCH", f"{CORE}/namespaces/default/configmaps/back-{n}", {"data": {"a": "2"}}, "application/merge-patch+json")
    api.ok("DELETE", f"{CORE}/namespaces/default/pods/goes-{n}", {"gracePeriodSeconds": 0})
    put_object(api, "pods", pod("comes-" + n, n))
    e.seen.clear()
    e.connect()
    assert e.object(f"default/pod/goes-{n}", "delete")["content"]["metadata"]["uid"] == gone["metadata"]["uid"]
    e.object(f"default/pod/stays-{n}")
    e.object(f"default/pod/comes-{n}")
    assert e.object(f"default/configmap/back-{n}")["content"]["data"] == {"a": "2"}
    e.object(f"null/node/{n}")


def test_what_was_not_acknowledged_survives_a_broken_link(edges, api):
    e = edges()
    e.ack = False
    put_object(api, "pods", pod("q-" + e.name, e.name))
    e.object(f"default/pod/q-{e.name}", "insert")
    e.cut()
    e.seen.clear()
    e.connect()
    e.object(f"default/pod/q-{e.name}")


def test_many_updates_of_one_object_arrive_in_order_and_the_newest_does(edges, api):
    e = edges()
    n = e.name
    put_object(api, "configmaps", config_map("many-" + n, i="0"))
    put_object(api, "pods", pod("many-" + n, n, [config_volume("many-" + n)]))
    e.object(f"default/pod/many-{n}")
    for i in range(1, 201):
        api.ok("PATCH", f"{CORE}/namespaces/default/configmaps/many-{n}", {"data": {"i": str(i)}},
               "application/merge-patch+json")
    last = 0
    while last < 200:
        m = e.object(f"default/configmap/many-{n}")
        value = int(m["content"]["data"]["i"])
        assert value >= last, "an older version came after a newer one"
        last = value


def test_deleting_the_node_object_ends_the_session(edges, api):
    e = edges()
    api.ok("DELETE", f"{CORE}/nodes/{e.name}")
    assert "deleted" in e.closed()
    e.connect()
    e.register()


# ---- up ----

def test_registration_sets_labels_and_the_cloudcore(edges, api):
    e = edges(register=False)
    e.register({"room": "3", "node-restriction.kubernetes.io/x": "y"})
    node = api.ok("GET", f"{CORE}/nodes/{e.name}")
    labels = node["metadata"]["labels"]
    assert labels["node-role.kubernetes.io/edge"] == "" and labels["room"] == "3"
    assert "node-restriction.kubernetes.io/x" not in labels
    assert node["metadata"]["annotations"]["cloudcore"] == "127.0.0.1"
    again = e.request(message("insert", f"null/node/{e.name}", {"metadata": {"name": e.name}, "spec": {}}))
    assert again["Err"]["ErrStatus"]["reason"] == "AlreadyExists"
    assert https(e.cloud, "GET", f"/node/{e.name}") == (200, b"Node found")


def test_node_status_labels_and_query(edges, api):
    e = edges()
    patch = json.dumps({"metadata": {"labels": {"sneaked": "in"}}, "spec": {"unschedulable": True},
                        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    a = e.send(message("patch", f"null/nodepatch/{e.name}", patch))
    answer = e.answer(a)
    assert answer["content"]["Err"] is None
    assert answer["header"]["resourceversion"] == answer["content"]["Object"]["metadata"]["resourceVersion"]
    node = api.ok("GET", f"{CORE}/nodes/{e.name}")
    assert node["status"]["conditions"][0]["type"] == "Ready"
    assert "sneaked" not in node["metadata"]["labels"] and not node["spec"].get("unschedulable")
    assert e.request(message("update", f"null/node/{e.name}",
                             {"metadata": {"name": e.name, "labels": {"shelf": "4"}, "annotations": {"k": "v"}}})) == "OK"
    asked = e.request(message("query", f"null/node/{e.name}"))
    assert asked["kind"] == "Node" and asked["metadata"]["labels"]["shelf"] == "4"


def test_leases(edges):
    e = edges()
    r = f"kube-node-lease/lease/{e.name}"
    lease = {"metadata": {"name": e.name, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": e.name,
                                                                                  "leaseDurationSeconds": 40}}
    missing = e.request(message("query", r))
    assert missing["Err"]["ErrStatus"]["reason"] == "NotFound"
    made = e.request(message("insert", r, lease))
    assert made["Err"] is None
    made["Object"]["spec"]["leaseDurationSeconds"] = 50
    renewed = e.request(message("update", r, made["Object"]))
    assert renewed["Object"]["spec"]["leaseDurationSeconds"] == 50
    stale = e.request(message("update", r, made["Object"]))
    assert stale["Err"]["ErrStatus"]["reason"] == "Conflict"


def test_pod_status_and_the_confirmed_deletion(edges, api):
    e = edges()
    name = "life-" + e.name
    p = put_object(api, "pods", pod(name, e.name))
    e.object(f"default/pod/{name}", "insert")
    patch = json.dumps({"metadata": {"uid": p["metadata"]["uid"]}, "status": {"phase": "Running"}})
    answer = e.request(message("patch", f"default/podpatch/{name}", patch))
    assert answer["Err"] is None and answer["Object"]["status"]["phase"] == "Running"
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": p["metadata"]["uid"]}}
    assert e.request(message("delete", f"default/pod/{name}", options)) == "OK"
    e.object(f"default/pod/{name}", "delete")
    assert e.request(message("delete", f"default/pod/{name}", options)) == "OK"  # gone is gone
    assert api.request("GET", f"{CORE}/namespaces/default/pods/{name}")[0] == 404


def test_a_request_without_uid_does_not_hit_a_pod_made_anew(edges, api):
    """Neither does one with the uid of the pod before. What is being deleted anyway needs no uid."""
    e = edges()
    name = "anew-" + e.name
    path = f"{CORE}/namespaces/default/pods/{name}"
    old = put_object(api, "pods", pod(name, e.name))
    api.ok("DELETE", path, {"gracePeriodSeconds": 0})
    new = put_object(api, "pods", pod(name, e.name))
    e.wait(lambda m: m["route"]["resource"] == f"default/pod/{name}" and m["route"]["operation"] == "insert"
           and m["content"]["metadata"]["uid"] == new["metadata"]["uid"])
    for content in ({"gracePeriodSeconds": 0}, "", None):
        answer = e.request(message("delete", f"default/pod/{name}", content))
        assert answer["ErrStatus"]["reason"] == "Conflict"
    assert e.request(message("delete", f"default/pod/{name}", old["metadata"]["uid"])) == "OK"
    assert api.ok("GET", path)["metadata"]["uid"] == new["metadata"]["uid"]
    patch = json.dumps({"status": {"phase": "Running"}})
    assert e.request(message("patch", f"default/podpatch/{name}", patch))["Object"]["status"]["phase"] == "Running"
    api.ok("DELETE", path)
    e.wait(lambda m: m["route"]["resource"] == f"default/pod/{name}"
           and "deletionTimestamp" in (m["content"] or {}).get("metadata", {}))
    assert e.request(message("delete", f"default/pod/{name}", {"gracePeriodSeconds": 0})) == "OK"
    assert api.request("GET", path)[0] == 404


def test_a_pod_that_is_gone_is_deleted_at_the_edge_when_it_reports_it(edges, api):
    e = edges()
    patch = json.dumps({"metadata": {"uid": "old-uid"}, "status": {"phase": "Running"}})
    answer = e.request(message("patch", "default/podpatch/ghost", patch))
    assert answer["Err"]["ErrStatus"]["code"] == 404
    assert e.object("default/pod/ghost", "delete")["content"]["metadata"]["uid"] == "old-uid"
    name = "again-" + e.name
    put_object(api, "pods", pod(name, e.name))
    e.object(f"default/pod/{name}", "insert")
    answer = e.request(message("patch", f"default/podpatch/{name}", patch))
    assert answer["Err"]["ErrStatus"]["code"] == 409
    assert e.object(f"default/pod/{name}", "delete")["content"]["metadata"]["uid"] == "old-uid"
    assert e.request(message("update", "default/podstatus/ghost2", {"UID": "u", "Name": "ghost2", "Status": {}})) == "OK"
    e.object("default/pod/ghost2", "delete")


def test_the_older_forms_still_work(edges, api):
    e = edges(register=False)
    node = {"metadata": {"name": e.name, "labels": {"node-role.kubernetes.io/edge": ""}}, "spec": {}, "status": {}}
    m = e.send(message("insert", f"default/nodestatus/{e.name}", node))
    a = e.answer(m)
    assert a["content"] == "OK" and a["route"]["resource"] == f"default/node/{e.name}"
    e.object(f"null/node/{e.name}")
    status = {"UID": "", "Status": {"conditions": [{"type": "Ready", "status": "True"}]},
              "ExtendResources": {"nvidia.com/gpu": [{"name": "g", "type": "t", "capacity": "1"}]}}
    assert e.request(message("update", f"default/nodestatus/{e.name}", status)) == "OK"
    stored = api.ok("GET", f"{CORE}/nodes/{e.name}")
    assert stored["status"]["conditions"][0]["type"] == "Ready"
    name = "legacy-" + e.name
    p = put_object(api, "pods", pod(name, e.name))
    e.object(f"default/pod/{name}", "insert")
    report = {"UID": p["metadata"]["uid"], "Name": name, "Status": {"phase": "Running"}}
    assert e.request(message("update", f"default/podstatus/{name}", report)) == "OK"
    assert e.request(message("update", "default/podstatus", [report])) == "OK"
    assert api.ok("GET", f"{CORE}/namespaces/default/pods/{name}")["status"]["phase"] == "Running"
    assert e.request(message("delete", f"default/pod/{name}", p["metadata"]["uid"])) == "OK"


def test_queries_give_objects_or_a_status(edges, api):
    e = edges()
    n = e.name
    put_object(api, "configmaps", config_map("asked-" + n, a="1"))
    put_object(api, "secrets", secret("asked-" + n, k="v"))
    put_object(api, "pods", pod("asks-" + n, n, [config_volume("asked-" + n), {"name": "s", "secret": {
        "secretName": "asked-" + n}}, {"name": "m", "configMap": {"name": "missing-" + n}}]))
    e.object(f"default/pod/asks-{n}")
    m = e.send(message("query", f"default/configmap/asked-{n}"))
    a = e.answer(m)
    assert a["content"]["kind"] == "ConfigMap" and a["content"]["data"] == {"a": "1"}
    assert a["header"]["resourceversion"] and a["route"]["operation"] == "response"
    e.send_ack(a)
    assert e.request(message("query", f"default/secret/asked-{n}"))["kind"] == "Secret"
    missing = e.request(message("query", f"default/configmap/missing-{n}"))
    assert missing["ErrStatus"]["code"] == 404 and missing["ErrStatus"]["metadata"] == {}
    pem = e.request(message("query", "k8s/ca.crt", source="metamanager"))
    assert pem.startswith("-----BEGIN CERTIFICATE-----")


def test_events_of_the_node_are_stored(edges, api):
    e = edges()
    name = f"event-{e.name}"
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
             "involvedObject": {"kind": "Node", "name": e.name}, "source": {"component": "kubelet", "host": e.name},
             "reason": "Test", "message": "one", "type": "Normal", "count": 1}
    e.send(message("insert", f"default/event/{name}", event))
    path = f"{CORE}/namespaces/default/events/{name}"
    wait_for("the event", lambda: api.request("GET", path)[0] == 200)
    e.send(message("patch", f"default/event/{name}", {"event": event, "patchData": json.dumps({"count": 2})}))
    wait_for("its count", lambda: api.ok("GET", path)["count"] == 2)


# ---- what is not the node's ----

def test_nothing_of_another_node_can_be_read_or_changed(edges, api):
    e, victim = edges(), edges()
    n = victim.name
    put_object(api, "secrets", secret("theirs-" + n, k="v"))
    p = put_object(api, "pods", pod("theirs-" + n, n, [{"name": "s", "secret": {"secretName": "theirs-" + n}}]))
    victim.object(f"default/pod/theirs-{n}")
    before = api.ok("GET", f"{CORE}/nodes/{n}")
    status = json.dumps({"status": {"phase": "Failed"}})
    lease = {"metadata": {"name": n, "namespace": "kube-node-lease"}, "spec": {}}
    attempts = [
        message("insert", f"null/node/{n}", {"metadata": {"name": n}}),
        message("update", f"null/node/{n}", {"metadata": {"labels": {"taken": "over"}}}),
        message("query", f"null/node/{n}"),
        message("patch", f"null/nodepatch/{n}", status),
        message("patch", f"default/podpatch/theirs-{n}", status),
        message("delete", f"default/pod/theirs-{n}", {"gracePeriodSeconds": 0}),
        message("delete", f"default/pod/theirs-{n}", p["metadata"]["uid"]),
        message("query", f"default/secret/theirs-{n}"),
        message("query", "kubeedge/secret/casecret"),
        message("query", f"default/configmap/anything"),
        message("insert", f"kube-node-lease/lease/{n}", lease),
        message("query", f"kube-node-lease/lease/{n}"),
        message("insert", "default/pod/rogue", pod("rogue", n)),
        message("insert", "default/pod/rogue", pod("rogue", e.name)),
        message("query", "default/serviceaccounttoken/default", {"spec": {"audiences": []}}),
        message("query", f"default/serviceaccounttoken/default",
                {"spec": {"boundObjectRef": {"kind": "Pod", "name": f"theirs-{n}", "uid": p["metadata"]["uid"]}}}),
        message("query", "default/secret/theirs-" + n, source="edgecontroller"),
        message("query", "default/secret/theirs-" + n, source="cloudhub"),
    ]
    denied = e.cloud.metrics()["edgecontroller_requests_denied_total"]
    for m in attempts:
        answer = e.request(m)
        assert is_forbidden(answer), (m["route"], answer)
    assert e.cloud.metrics()["edgecontroller_requests_denied_total"] == denied + len(attempts)
    status_report = {"UID": p["metadata"]["uid"], "Name": f"theirs-{n}", "Status": {"phase": "Failed"}}
    assert is_forbidden(e.request(message("update", f"default/podstatus/theirs-{n}", status_report)))
    assert is_forbidden(e.request(message("update", "default/podstatus", [status_report])))
    assert api.ok("GET", f"{CORE}/nodes/{n}") == before
    assert api.ok("GET", f"{CORE}/namespaces/default/pods/theirs-{n}")["metadata"]["uid"] == p["metadata"]["uid"]
    assert api.request("GET", f"{CORE}/namespaces/default/pods/rogue")[0] == 404
    victim.settle()


def test_an_acknowledgement_counts_for_the_own_queue_only(edges, api):
    e, other = edges(), edges()
    e.ack = False
    put_object(api, "pods", pod("mine-" + e.name, e.name))
    m = e.object(f"default/pod/mine-{e.name}")
    other.send_ack(m)
    other.settle()
    assert e.object(f"default/pod/mine-{e.name}")["header"]["msg_id"] == m["header"]["msg_id"]


def test_every_malformed_request_is_answered(edges):
    e = edges()
    for m in (message("query", ""), message("query", "a"), message("query", "a/b/c/d"), message("query", "null/configmap/x"),
              message("query", "default/configmap"), message("frobnicate", "default/pod/x"), message("query", "default/wombat/x"),
              message("insert", f"null/node/{e.name}", "text"), message("patch", f"null/nodepatch/{e.name}", "[1"),
              message("update", f"kube-node-lease/lease/{e.name}", None), message("update", "default/podstatus", "x"),
              message("update", "default/podstatus", [{}]), message("list", "x/Application/y", source="metaserver")):
        answer = e.request(m)
        assert "ErrStatus" in answer or "ErrStatus" in answer.get("Err", {}), (m["route"], answer)


# ---- the process ----

def test_a_message_that_says_nothing_is_not_answered(edges):
    """What KubeEdge's edgecore sends when it stops: nothing of it is filled in."""
    e = edges()
    e.ack = False
    e.send({"header": {"msg_id": "", "timestamp": 0}, "route": {}, "content": None})
    assert e.request(message("query", f"null/node/{e.name}"))["metadata"]["name"] == e.name
    assert not [m for m in e.seen if not m["route"].get("resource")]


def test_a_burst_of_requests_is_answered_in_full(edges):
    e = edges()
    sent = [e.send(message("query", f"null/node/{e.name}")) for _ in range(500)]
    left = {m["header"]["msg_id"] for m in sent}
    while left:
        m = e.wait(lambda a: a["header"].get("parent_msg_id") in left, 10, f"{len(left)} answers")
        left.remove(m["header"]["parent_msg_id"])


def test_half_open_connections_and_noise_hurt_nobody(cloud, edges):
    e = edges()
    noise = []
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\x00" * 1000):
        for port in (cloud.port, cloud.https_port):
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(data)
            noise.append(s)
    e.settle()
    for s in noise:
        s.close()
    e.settle()


def test_metrics_are_told(cloud, edges):
    edges()
    m = cloud.metrics()
    assert m["cloudhub_connected_nodes"] >= 1
    assert m["cloudhub_messages_received_total"] > 0
    assert "process_resident_memory_bytes" in m


def test_a_restart_keeps_ca_certificates_and_token(cloud_only, edges):
    """Last in this file: it restarts the cloud."""
    cloud = cloud_only.cloud
    e = edges()
    ca, token = https(cloud, "GET", "/ca.crt")[1], cloud.join_token()
    assert cloud.stop() == 0
    assert "stopping" in e.closed()
    cloud.start()
    assert https(cloud, "GET", "/ca.crt")[1] == ca
    assert cloud.join_token() == token
    e.connect()
    e.object(f"null/node/{e.name}")
