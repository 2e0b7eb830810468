"""The embedded API server of cloudcore --standalone, by HTTP: requests, answers, errors.

The numbers are those of the conformance checklist that it is built against."""

import json
import os
import re
import resource
import socket
import ssl

import pytest

from harness.api import Api
from harness.apitest import CM, LEASES, MERGE, PODS, config_map, pod, raw, refused, unique
from harness.processes import wait_for


@pytest.fixture(scope="module")
def api(cloud_only):
    return Api(cloud_only.cloud.kubeconfig)


def test_1_no_credentials_no_answer(api):
    anonymous = ssl.create_default_context()
    anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
    import http.client
    c = http.client.HTTPSConnection(api.host, api.port, context=anonymous)
    c.request("GET", "/api/v1/pods")
    r = c.getresponse()
    assert r.status == 401 and json.loads(r.read())["reason"] == "Unauthorized"
    c.request("GET", "/healthz")
    r = c.getresponse()
    assert (r.status, r.read()) == (200, b"ok")


def test_3_an_unknown_path_is_404(api):
    refused(api.request("GET", "/apis/nope.io/v1/foos"), 404, "NotFound")
    refused(api.request("GET", "/nope"), 404, "NotFound")


def test_4_5_missing_and_existing(api):
    name = unique()
    body = refused(api.request("GET", f"{PODS}/missing"), 404, "NotFound")
    assert body["message"] == 'pods "missing" not found'
    assert body["details"] == {"name": "missing", "kind": "pods"}
    api.ok("POST", CM, config_map(name))
    refused(api.request("POST", CM, config_map(name)), 409, "AlreadyExists")


def test_6_7_updates_and_the_resource_version(api):
    name = unique()
    first = api.ok("POST", CM, config_map(name, a="1"))
    second = api.ok("PUT", f"{CM}/{name}", {**first, "data": {"a": "2"}})
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    stale = refused(api.request("PUT", f"{CM}/{name}", {**first, "data": {"a": "3"}}), 409, "Conflict")
    assert stale["details"]["kind"] == "configmaps"
    assert api.ok("PUT", f"{CM}/{name}", config_map(name, a="4"))["data"] == {"a": "4"}


def test_8_9_leases_need_a_resource_version_and_are_made_by_put(api):
    name = unique()
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
             "spec": {"holderIdentity": "x", "leaseDurationSeconds": 40}}
    assert api.request("PUT", f"{LEASES}/{name}", lease)[0] == 201
    body = refused(api.request("PUT", f"{LEASES}/{name}", lease), 422, "Invalid")
    assert body["details"]["causes"][0]["field"] == "metadata.resourceVersion"
    missing = unique()
    refused(api.request("PUT", f"{CM}/{missing}", config_map(missing)), 404, "NotFound")


def test_10_to_14_wrong_bodies(api):
    name = unique()
    api.ok("POST", CM, config_map(name))
    refused(api.request("PUT", f"{CM}/{name}", config_map("other")), 400, "BadRequest")
    elsewhere = config_map(name)
    elsewhere["metadata"]["namespace"] = "kube-system"
    refused(api.request("POST", CM, elsewhere), 400, "BadRequest")
    refused(api.request("POST", CM, {**config_map(name), "kind": "Secret"}), 400, "BadRequest")
    refused(api.request("POST", CM, '{"a":'), 400, "BadRequest")
    refused(api.request("POST", CM, "[]"), 400, "BadRequest")
    refused(api.request("POST", CM, "[" * 5000), 400, "BadRequest")
    body = refused(api.request("POST", CM.replace("default", "nowhere"), config_map("x")), 404, "NotFound")
    assert body["message"] == 'namespaces "nowhere" not found'


def test_15_16_negotiation(api):
    def accept(value, path=CM):
        return raw(api, "GET", path, headers={"Accept": value})[0]
    assert accept("application/vnd.kubernetes.protobuf") == 406
    assert accept("application/vnd.kubernetes.protobuf, */*") == 200
    assert accept("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1") == 406
    status, _, _ = raw(api, "POST", CM, config_map(unique()), {"Content-Type": "application/json; charset=utf-8"})
    assert status == 201
    status, _, text = raw(api, "POST", CM, "x: y", {"Content-Type": "application/yaml"})
    assert status == 415 and json.loads(text)["reason"] == "UnsupportedMediaType"


def test_21_22_sizes(api):
    big = config_map(unique(), a="x" * (4 << 20))
    refused(api.request("POST", CM, big), 413, "RequestEntityTooLarge")
    refused(api.request("POST", CM, config_map(unique(), a="x" * ((1 << 20) + 1))), 422, "Invalid")


def test_23_empty_lists(api):
    body = api.ok("GET", "/api/v1/namespaces/kube-public/secrets")
    assert body["items"] == [] and body["kind"] == "SecretList" and int(body["metadata"]["resourceVersion"]) > 0


def test_24_25_deletions(api):
    name = unique()
    made = api.ok("POST", CM, config_map(name))
    refused(api.request("DELETE", f"{CM}/{name}", {"preconditions": {"uid": "other"}}), 409, "Conflict")
    gone = api.ok("DELETE", f"{CM}/{name}", {"propagationPolicy": "Background"})
    assert gone["status"] == "Success" and gone["details"]["uid"] == made["metadata"]["uid"]
    api.ok("POST", PODS, pod(name, schedulerName="nobody"))
    assert api.ok("DELETE", f"{PODS}/{name}")["kind"] == "Pod"  # 124: not scheduled, so at once
    refused(api.request("GET", f"{PODS}/{name}"), 404, "NotFound")


def test_26_deletecollection(api):
    mark = unique()
    for i in range(3):
        c = config_map(f"{mark}-{i}")
        c["metadata"]["labels"] = {"mark": mark, "i": str(i)}
        api.ok("POST", CM, c)
    api.ok("DELETE", f"{CM}?labelSelector=mark={mark},i!=1")
    left = api.ok("GET", f"{CM}?labelSelector=mark={mark}")["items"]
    assert [o["metadata"]["name"] for o in left] == [f"{mark}-1"]


def test_27_28_field_validation(api):
    def create(mode):
        p = pod(unique(), nonsense=1, schedulerName="nobody")
        return raw(api, "POST", f"{PODS}?fieldValidation={mode}", p)
    status, _, text = create("Strict")
    assert status == 400 and 'unknown field "spec.nonsense"' in json.loads(text)["message"]
    status, headers, text = create("Warn")
    assert status == 201 and 'unknown field \\"spec.nonsense\\"' in headers["Warning"]
    assert "nonsense" not in json.loads(text)["spec"]
    status, headers, _ = create("Ignore")
    assert status == 201 and headers["Warning"] is None
    assert create("Perhaps")[0] == 422
    refused(api.request("POST", f"{PODS}?fieldValidation=Ignore", pod(unique(), terminationGracePeriodSeconds="x")),
            400, "BadRequest")


def test_29_30_dry_run(api):
    name = unique()
    before = api.ok("GET", CM)["metadata"]["resourceVersion"]
    status, body = api.request("POST", f"{CM}?dryRun=All", config_map(name))
    assert status == 201 and body["metadata"]["uid"] and "resourceVersion" not in body["metadata"]
    refused(api.request("GET", f"{CM}/{name}"), 404, "NotFound")
    assert api.ok("GET", CM)["metadata"]["resourceVersion"] == before
    refused(api.request("POST", f"{CM}?dryRun=foo", config_map(name)), 422, "Invalid")


def test_31_one_cause_per_wrong_field(api):
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "A_b"}, "spec": {"containers": []}}
    body = refused(api.request("POST", PODS, bad), 422, "Invalid")
    fields = [c["field"] for c in body["details"]["causes"]]
    assert "metadata.name" in fields and "spec.containers" in fields


def test_32_people_get_indented_json(api):
    assert "\n  " in raw(api, "GET", f"{CM}", headers={"User-Agent": "curl/7.88"})[2]
    assert "\n" not in raw(api, "GET", f"{CM}", headers={"User-Agent": "kubectl/v1.32"})[2]


def test_33_one_connection_serves_many_requests(api):
    c = api.connect()
    for _ in range(1000):
        c.request("GET", "/api/v1/namespaces/default")
        assert c.getresponse().read()


def test_wrong_methods_are_405(api):
    refused(api.request("PATCH", CM, {}, MERGE), 405, "MethodNotAllowed")
    refused(api.request("POST", "/api/v1/configmaps", config_map("x")), 405, "MethodNotAllowed")
    refused(api.request("DELETE", "/api/v1/namespaces"), 405, "MethodNotAllowed")


def test_2_4_20_kubectl_works_with_the_generated_kubeconfig(cloud_only):
    name = unique()
    assert "default" in cloud_only.cloud.kubectl("get", "ns")
    missing = cloud_only.cloud.kubectl("get", "pod", "missing", check=False)
    assert missing.returncode == 1 and 'Error from server (NotFound): pods "missing" not found' in missing.stderr
    for args in (["configmap", name, "--from-literal=a=1"], ["secret", "generic", name, "--from-literal=a=1"], ["ns", name],
                 ["sa", name]):
        assert "created" in cloud_only.cloud.kubectl("create", *args)
    assert cloud_only.cloud.get("configmap", name)["data"] == {"a": "1"}
    assert cloud_only.cloud.get("secret", name)["data"] == {"a": "MQ=="}


# ---- protobuf, as client-go 0.32 and newer send it ----

def field(number, value):
    """One field: bytes and text with their length, numbers as varints."""
    def varint(n):
        out = b""
        while n > 0x7f:
            out, n = out + bytes([n & 0x7f | 0x80]), n >> 7
        return out + bytes([n])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def protobuf(api_version, kind, message):
    return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, message)


def test_17_18_19_protobuf_bodies_store_what_json_would(api):
    name, headers = unique(), {"Content-Type": "application/vnd.kubernetes.protobuf"}
    meta = field(1, name) + field(3, "default") + field(11, field(1, "app") + field(2, "x"))
    container = field(1, "c") + field(2, "img:1") + field(6, field(1, "http") + field(3, 8080))
    spec = field(2, container) + field(10, "node-1")
    status, _, text = raw(api, "POST", PODS, protobuf("v1", "Pod", field(1, meta) + field(2, spec) + field(3, b"")), headers)
    made = json.loads(text)
    assert status == 201, made
    api.ok("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
    same = pod(name, nodeName="node-1")
    same["metadata"]["labels"] = {"app": "x"}
    same["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
    by_json = api.ok("POST", PODS, same)
    assert made["spec"] == by_json["spec"] and made.get("status") == by_json.get("status")
    assert set(made["metadata"]) == set(by_json["metadata"]) and made["metadata"]["labels"] == {"app": "x"}
    update = protobuf("v1", "Pod", field(1, meta) + field(2, spec) + field(3, field(1, "Running")))
    status, _, text = raw(api, "PUT", f"{PODS}/{name}/status", update, headers)
    assert status == 200 and json.loads(text)["status"]["phase"] == "Running"
    api.ok("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})


# ---- bad input ----

@pytest.mark.parametrize("body, says", [
    ('{"metadata":{"name":"a"},"data":' + "[" * 5000 + "]" * 5000 + "}", "nested deeper than 128"),
    (b'{"metadata":{"name":"a"},"data":{"a":"\xff\xfe"}}', "invalid UTF-8"),
    ('{"metadata":', "unexpected end of data"),
    ("{} {}", "unexpected content after document"),
    ("[]", "not an object"), ("null", "not an object"), ("", "no body"),
    ('{"metadata":{"name":"a"},"data":{"a":1}}', "data.a: expected a string"),
])
def test_13_a_bad_body_is_400_and_says_what_is_wrong(api, body, says):
    status, _, text = raw(api, "POST", CM, body, {"Content-Type": "application/json"})
    answer = json.loads(text)
    assert (status, answer["reason"]) == (400, "BadRequest") and says in answer["message"]


def test_27_a_member_named_twice_is_told_or_refused(api):
    body, headers = '{"metadata":{"generateName":"dup-"},"data":{"a":"1"},"data":{"a":"2"}}', {"Content-Type": "application/json"}
    status, head, _ = raw(api, "POST", CM, body, headers)
    assert status == 201 and head["Warning"] == '299 - "duplicate field \\"data\\""'
    status, _, text = raw(api, "POST", f"{CM}?fieldValidation=Strict", body, headers)
    assert status == 400 and 'duplicate field "data"' in json.loads(text)["message"]


@pytest.mark.parametrize("path, status", [
    (CM + "?x=" + "a" * 70_000, 431), (CM + "/a%2Fb", 400), (CM + "/..", 400), (CM + "/%zz", 400), ("/api/v1/x/y/z/a/b/c", 404),
    ("/api/v1/namespaces/default/nodes", 404), (CM + "/", 200),
])
def test_strange_paths_have_plain_answers(api, path, status):
    got, _, text = raw(api, "GET", path)
    assert got == status and json.loads(text)["kind"] == ("Status" if status != 200 else "ConfigMapList")


@pytest.mark.parametrize("headers", [{"X-Long": "a" * 70_000}, {f"X-{i}": "a" for i in range(300)}])
def test_too_many_headers_are_431(api, headers):
    assert raw(api, "GET", CM, headers=headers)[0] == 431


def tls(api):
    return api.context.wrap_socket(socket.create_connection((api.host, api.port)), server_hostname=api.host)


def test_pipelined_requests_are_answered_in_order(api):
    names = [unique() for _ in range(20)]
    for name in names:
        api.ok("POST", CM, config_map(name))
    s = tls(api)
    s.sendall(b"".join(f"GET {CM}/{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for n in names))
    got = b""
    while got.count(b"HTTP/1.1 200 OK") < len(names) or not got.endswith(b"}"):
        got += s.recv(1 << 16)
    assert re.findall(rb'"metadata":{"name":"([^"]*)"', got) == [n.encode() for n in names]
    s.close()


def test_half_sent_requests_hold_nobody_up(api):
    slow = [tls(api) for _ in range(50)]
    for i, s in enumerate(slow):
        s.sendall(f"POST {CM} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n".encode() + (b"\r\n{" if i % 2 else b"X-"))
    name = unique()
    api.ok("POST", CM, config_map(name))
    assert api.ok("GET", f"{CM}/{name}")
    for s in slow:
        s.close()


def test_more_connections_than_descriptors_leave_the_others_served(cluster):
    cloud = cluster.start_cloud()
    api = Api(cloud.kubeconfig)
    api.ok("GET", CM)  # connected
    pid = cloud.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 30, limits[1]))
    crowd = [socket.create_connection((api.host, api.port)) for _ in range(100)]
    name = unique()
    assert api.ok("POST", CM, config_map(name)) and api.ok("GET", f"{CM}/{name}")
    for s in crowd:
        s.close()
    assert wait_for("a new connection", lambda: Api(cloud.kubeconfig).ok("GET", f"{CM}/{name}"), 60)
