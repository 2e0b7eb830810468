"""The embedded API server of cloudcore --standalone, by HTTP: requests, answers, errors.

The numbers are those of the conformance checklist that it is built against."""

import json
import ssl

import pytest

from harness.api import Api
from harness.apitest import CM, LEASES, MERGE, PODS, config_map, pod, raw, refused, unique


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
