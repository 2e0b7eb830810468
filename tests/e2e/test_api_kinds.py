"""What the kinds are like: patches by their schemas, defaults, rules, immutable fields, custom kinds. The numbers are those of
the conformance checklist."""

import base64
import glob
import json
import os
import threading
import uuid

import pytest
import yaml

from harness.api import Api
from harness.processes import wait_for

CM = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
SECRETS = "/api/v1/namespaces/default/secrets"
NODES = "/api/v1/nodes"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
JSON_PATCH = "application/json-patch+json"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
MANIFESTS = os.path.join(os.path.dirname(__file__), "../../manifests/crds/*.yaml")


@pytest.fixture(scope="module")
def api(cloud_only):
    return Api(cloud_only.cloud.kubeconfig)


@pytest.fixture(scope="module")
def kubectl(cloud_only):
    return cloud_only.cloud.kubectl


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def pod(name, *containers, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": list(containers) or [{"name": "c", "image": "img:1"}], "nodeName": "nowhere", **spec}}


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def refused(answer, code, reason, *fields):
    status, body = answer
    assert (status, body["kind"], body["reason"], body["code"]) == (code, "Status", reason, code), body
    got = {c.get("field") for c in body.get("details", {}).get("causes", [])}
    assert set(fields) <= got, body
    return body


def crd(group, versions, plural="things", kind="Thing"):
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": versions}}


def version(name="v1", spec=None, storage=True, **more):
    schema = {"type": "object", "properties": {"spec": spec or {"type": "object"}}}
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}, **more}


def make_crd(api, *versions):
    group = f"{unique('g')}.test"
    api.ok("POST", CRDS, crd(group, list(versions)))
    wait_for("the CRD to be established",
             lambda: api.request("GET", f"/apis/{group}/{versions[0]['name']}/namespaces/default/things")[0] == 200)
    return group


# ---- 10.5 ----


def test_103_strategic_patches_merge_by_keys(api):
    name = unique()
    api.ok("POST", PODS, pod(name, {"name": "a", "image": "i:1", "env": [{"name": "X", "value": "1"}],
                                    "ports": [{"containerPort": 80, "name": "w"}],
                                    "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, {"name": "b", "image": "i:1"},
                             volumes=[{"name": "v", "emptyDir": {}}]))
    patch = {"spec": {"containers": [{"name": "a", "image": "i:2"}]}}
    now = api.ok("PATCH", f"{PODS}/{name}", patch, STRATEGIC)
    assert [(c["name"], c["image"]) for c in now["spec"]["containers"]] == [("a", "i:2"), ("b", "i:1")]
    assert now["spec"]["containers"][0]["env"] == [{"name": "X", "value": "1"}]
    template = api.ok("PATCH", f"{PODS}/{name}?dryRun=All", {"metadata": {"labels": {"x": "y"}}}, STRATEGIC)
    assert template["metadata"]["labels"] == {"x": "y"}


def test_104_directives_of_strategic_patches(api):
    name = unique()
    body = pod(name)
    body["metadata"]["finalizers"] = ["a/1", "b/2", "c/3"]
    body["metadata"]["labels"] = {"x": "1", "y": "2"}
    api.ok("POST", PODS, body)
    path = f"{PODS}/{name}"
    now = api.ok("PATCH", path, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b/2"]}}, STRATEGIC)
    assert now["metadata"]["finalizers"] == ["a/1", "c/3"]
    now = api.ok("PATCH", path, {"metadata": {"labels": {"$patch": "replace", "z": "3"}}}, STRATEGIC)
    assert now["metadata"]["labels"] == {"z": "3"}
    now = api.ok("PATCH", path, {"metadata": {"finalizers": ["d/4"], "$setElementOrder/finalizers": ["d/4", "a/1", "c/3"]}},
                 STRATEGIC)
    assert now["metadata"]["finalizers"] == ["d/4", "a/1", "c/3"]
    refused(api.request("PATCH", path, {"metadata": {"labels": {"$patch": "nonsense"}}}, STRATEGIC), 422, "Invalid")
    api.ok("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)


def test_105_taints_are_replaced_as_a_whole(api):
    name = unique("n")
    api.ok("POST", NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                           "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}})
    now = api.ok("PATCH", f"{NODES}/{name}", {"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}, STRATEGIC)
    assert [t["key"] for t in now["spec"]["taints"] if not t["key"].startswith("node.kubernetes.io/")] == ["b"]


def test_108_client_side_apply_of_built_in_and_custom_kinds(api, kubectl):
    group, name = make_crd(api, version(spec={"type": "object", "x-kubernetes-preserve-unknown-fields": True})), unique()
    custom = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": name}}
    for before, after, what in (
            (config_map(name, a="1", b="2"), config_map(name, a="2"), "data"),
            ({**custom, "spec": {"a": "1", "b": "2"}}, {**custom, "spec": {"a": "2"}}, "spec")):
        assert "created" in kubectl("apply", "-f", "-", stdin=before)
        assert "unchanged" in kubectl("apply", "-f", "-", stdin=before)
        assert "configured" in kubectl("apply", "-f", "-", stdin=after)
        got = json.loads(kubectl("get", f"{before['kind'].lower()}{'s.' + group if what == 'spec' else ''}", name, "-o", "json"))
        assert got[what] == {"a": "2"}


def test_119_fields_that_cannot_change(api):
    name = unique()
    path = f"{PODS}/{name}"
    api.ok("POST", PODS, pod(name, nodeSelector={"a": "b"}))
    api.ok("PATCH", path, {"spec": {"containers": [{"name": "c", "image": "img:2"}]}}, STRATEGIC)
    refused(api.request("PATCH", path, {"spec": {"nodeSelector": {"a": "c"}}}, STRATEGIC), 422, "Invalid", "spec")
    refused(api.request("PATCH", path, {"spec": {"containers": [{"name": "c", "command": ["x"]}]}}, STRATEGIC), 422, "Invalid")
    api.ok("POST", SECRETS, {"metadata": {"name": name}, "type": "Opaque"})
    refused(api.request("PATCH", f"{SECRETS}/{name}", {"type": "kubernetes.io/tls"}, MERGE), 422, "Invalid", "type")
    refused(api.request("PATCH", path, {"metadata": {"name": "other"}}, MERGE), 400, "BadRequest")


# ---- 10.6 ----


def test_120_a_minimal_pod_gets_the_defaults(api):
    name = unique()
    body = pod(name, {"name": "c", "image": "nginx", "livenessProbe": {"httpGet": {"port": 80}}, "ports": [{"containerPort": 80}],
                      "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "env": [
                          {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
               volumes=[{"name": "v"}, {"name": "h", "hostPath": {"path": "/x"}}, {"name": "s", "secret": {"secretName": "x"}}])
    got = api.ok("POST", PODS, body)
    spec, container = got["spec"], got["spec"]["containers"][0]
    assert {k: spec[k] for k in ("restartPolicy", "dnsPolicy", "terminationGracePeriodSeconds", "schedulerName", "securityContext",
                                 "enableServiceLinks", "serviceAccountName", "serviceAccount", "priority", "preemptionPolicy")} == {
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": True,
        "serviceAccountName": "default", "serviceAccount": "default", "priority": 0, "preemptionPolicy": "PreemptLowerPriority"}
    assert (container["imagePullPolicy"], container["terminationMessagePath"], container["terminationMessagePolicy"]) == (
        "Always", "/dev/termination-log", "File")
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"} and got["status"]["qosClass"] == "Guaranteed"
    assert container["ports"][0]["protocol"] == "TCP" and container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert container["livenessProbe"] == {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                                          "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["v"]["emptyDir"] == {} and volumes["h"]["hostPath"]["type"] == ""
    assert volumes["s"]["secret"]["defaultMode"] == 420 and got["status"]["phase"] == "Pending"


@pytest.mark.parametrize("change,field", [
    ({"containers": []}, "spec.containers"),
    ({"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "no", "mountPath": "/x"}]}]},
     "spec.containers[0].volumeMounts[0].name"),
    ({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}]},
     "spec.containers[0].resources.requests"),
    ({"containers": [{"name": "c", "image": ""}]}, "spec.containers[0].image"),
    ({"containers": [{"name": "C_", "image": "i"}]}, "spec.containers[0].name"),
    ({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}, "spec.containers[1].name"),
    ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
    ({"containers": [{"name": "c", "image": "i", "imagePullPolicy": "x"}]}, "spec.containers[0].imagePullPolicy"),
    ({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 0}]}]}, "spec.containers[0].ports[0].containerPort"),
    ({"securityContext": {"seccompProfile": {"type": "x"}}}, "spec.securityContext.seccompProfile.type"),
    ({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "x"}]},
     "spec.topologySpreadConstraints[0].whenUnsatisfiable"),
])
def test_121_a_wrong_pod_is_refused_with_its_path(api, change, field):
    name = unique()
    body = pod(name)
    body["spec"].update(change)
    refused(api.request("POST", PODS, body), 422, "Invalid", field)
    assert api.request("GET", f"{PODS}/{name}")[0] == 404


def test_121_quantities_that_overflow_or_are_none(api):
    for wrong in ("1x", "", "9" * 400, {"a": 1}, "--1"):
        body = pod(unique(), {"name": "c", "image": "i", "resources": {"limits": {"cpu": wrong}}})
        status, answer = api.request("POST", PODS, body)
        assert status in (400, 422) and "limits" in answer["message"], (wrong, answer)


def test_125_secrets(api):
    name = unique()
    got = api.ok("POST", SECRETS, {"metadata": {"name": name}, "stringData": {"a": "text"}, "data": {"b": "Yg=="}})
    assert got["data"] == {"a": base64.b64encode(b"text").decode(), "b": "Yg=="} and "stringData" not in got
    refused(api.request("POST", SECRETS, {"metadata": {"name": unique()}, "type": "kubernetes.io/tls",
                                          "data": {"tls.crt": "Yg=="}}), 422, "Invalid")
    status, body = api.request("POST", SECRETS, {"metadata": {"name": unique()}, "data": {"a": "no base64!"}})
    assert status == 400 and "data.a" in body["message"]


def test_126_an_immutable_config_map(api):
    name = unique()
    path = f"{CM}/{name}"
    api.ok("POST", CM, {**config_map(name, a="1"), "immutable": True})
    refused(api.request("PATCH", path, {"data": {"a": "2"}}, MERGE), 422, "Invalid", "data")
    refused(api.request("PATCH", path, {"immutable": False}, MERGE), 422, "Invalid", "immutable")
    assert api.ok("PATCH", path, {"metadata": {"labels": {"x": "y"}}}, MERGE)["metadata"]["labels"] == {"x": "y"}


def test_127_one_of_many_gets_the_lease(api, cloud_only):
    """Leader election as client-go does it: create, or update with the version that was read."""
    path, name, won = "/apis/coordination.k8s.io/v1/namespaces/default/leases", unique(), []
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}

    def compete(who):
        mine = Api(cloud_only.cloud.kubeconfig)
        body = {**lease, "spec": {"holderIdentity": who, "leaseDurationSeconds": 15}}
        if mine.request("POST", path, body)[0] == 201:
            won.append(who)
    threads = [threading.Thread(target=compete, args=(f"c{i}",)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(won) == 1
    held = api.ok("GET", f"{path}/{name}")
    assert held["spec"]["holderIdentity"] == won[0]
    held["spec"]["holderIdentity"] = "next"
    api.ok("PUT", f"{path}/{name}", held)
    refused(api.request("PUT", f"{path}/{name}", held), 409, "Conflict")


def test_128_events_are_counted_by_patch(api, kubectl):
    name = unique()
    uid = api.ok("POST", PODS, pod(name))["metadata"]["uid"]
    ref = {"kind": "Pod", "apiVersion": "v1", "name": name, "namespace": "default", "uid": uid}
    events = "/api/v1/namespaces/default/events"
    api.ok("POST", events, {"metadata": {"name": name, "namespace": "default"}, "involvedObject": ref, "reason": "Tested",
                            "message": "again and again", "type": "Warning", "count": 1,
                            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"})
    api.ok("PATCH", f"{events}/{name}", {"count": 7, "lastTimestamp": "2026-01-01T00:01:00Z"}, STRATEGIC)
    assert "x7" in kubectl("describe", "pod", name).replace(" ", "")


@pytest.mark.parametrize("schema", [
    {"type": "object", "properties": {"spec": {}}},
    {"type": "object", "properties": {"spec": {"type": "object", "additionalProperties": False}}},
    {"type": "object", "properties": {"spec": {"$ref": "#/x"}}},
    {"type": "object", "properties": {"spec": {"type": "array"}}},
    {"type": "object", "properties": {"spec": {"type": "array", "uniqueItems": True, "items": {"type": "string"}}}},
    {"type": "object", "properties": {"spec": {"type": "string", "pattern": "(a"}}},
    {"type": "object", "properties": {"spec": {"type": "integer", "default": "x"}}},
    {"type": "string"},
])
def test_130_a_schema_that_is_not_structural_is_refused(api, schema):
    v = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    refused(api.request("POST", CRDS, crd(f"{unique('g')}.test", [v])), 422, "Invalid")


def test_130_definitions_that_contradict_themselves_are_refused(api):
    group = f"{unique('g')}.test"
    for broken in (crd(group, []), crd(group, [version(), version("v2")]), crd(group, [version(storage=False)]),
                   {**crd(group, [version()]), "metadata": {"name": "other.name"}},
                   crd(group, [version(), version(storage=False)])):
        refused(api.request("POST", CRDS, broken), 422, "Invalid")
    broken = crd(group, [version()])
    broken["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}
    refused(api.request("POST", CRDS, broken), 422, "Invalid", "spec.conversion.strategy")


def test_130_rules_that_are_not_enforced_are_told(api):
    group = f"{unique('g')}.test"
    spec = {"type": "object", "x-kubernetes-validations": [{"rule": "self.a > 1"}], "properties": {"a": {"type": "integer"}}}
    c = api.connect()
    c.request("POST", CRDS, json.dumps(crd(group, [version(spec=spec)])), {"Content-Type": "application/json"})
    r = c.getresponse()
    assert r.status == 201 and "not enforced" in r.headers["Warning"], r.read()


def test_131_values_are_pruned_defaulted_and_checked(api):
    spec = {"type": "object", "required": ["need"], "properties": {
        "need": {"type": "string", "pattern": "^[a-z]+(?:-\\d{1,3})?$", "maxLength": 10},
        "mode": {"type": "string", "enum": ["on", "off"], "default": "on"},
        "n": {"type": "integer", "minimum": 1, "maximum": 9, "format": "int32"},
        "port": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "inner": {"type": "object", "default": {}, "properties": {"deep": {"type": "integer", "default": 5}}},
        "list": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                 "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
        "day": {"type": "string", "format": "date"}, "ip": {"type": "string", "format": "ipv4"},
        "id": {"type": "string", "format": "uuid"}, "mail": {"type": "string", "format": "email"},
        "net": {"type": "string", "format": "cidr"}, "six": {"type": "string", "format": "ipv6"},
        "mac": {"type": "string", "format": "mac"}, "host": {"type": "string", "format": "hostname"},
        "maybe": {"type": "string", "nullable": True},
        "template": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}}}
    group = make_crd(api, version(spec=spec))
    path = f"/apis/{group}/v1/namespaces/default/things"

    def thing(**values):
        return {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": unique()}, "spec": values}

    good = {"need": "abc-12", "n": 3, "port": "http", "free": {"x": [1]}, "list": [{"k": "a"}, {"k": "b"}], "day": "2026-01-31",
            "ip": "10.0.0.1", "id": "123e4567-e89b-12d3-a456-426614174000", "mail": "a@b.c", "net": "10.0.0.0/8", "six": "fe80::1",
            "mac": "00:11:22:33:44:55", "host": "a.b-c", "maybe": None, "template": {"apiVersion": "v1", "kind": "Pod", "spec": {}}}
    got = api.ok("POST", path, thing(**good, unknown=1))
    assert got["spec"] == {**good, "mode": "on", "inner": {"deep": 5}}
    assert api.ok("POST", path, thing(need="a", port=80))["spec"]["port"] == 80
    for wrong, field in (({"need": "A"}, "spec.need"), ({"need": "a" * 11}, "spec.need"), ({}, "spec.need"),
                         ({"need": "a", "mode": "x"}, "spec.mode"), ({"need": "a", "n": 0}, "spec.n"),
                         ({"need": "a", "n": "1"}, "spec.n"), ({"need": "a", "port": 1.5}, "spec.port"),
                         ({"need": "a", "list": [{"k": "a"}, {"k": "a"}]}, "spec.list[1]"),
                         ({"need": "a", "list": [{}]}, "spec.list[0].k"), ({"need": "a", "day": "2026-02-30"}, "spec.day"),
                         ({"need": "a", "ip": "10.0.0.256"}, "spec.ip"), ({"need": "a", "id": "x"}, "spec.id"),
                         ({"need": "a", "mail": "x"}, "spec.mail"), ({"need": "a", "net": "10.0.0.0/33"}, "spec.net"),
                         ({"need": "a", "six": "10.0.0.1"}, "spec.six"), ({"need": "a", "mac": "00:11"}, "spec.mac"),
                         ({"need": "a", "host": "-a"}, "spec.host")):
        refused(api.request("POST", path, thing(**wrong)), 422, "Invalid", field)


def test_132_two_versions_differ_in_their_name_only(api):
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    group = make_crd(api, version("v1", spec=free), version("v1beta1", spec=free, storage=False))
    name = unique()
    api.ok("POST", f"/apis/{group}/v1beta1/namespaces/default/things",
           {"apiVersion": f"{group}/v1beta1", "kind": "Thing", "metadata": {"name": name}, "spec": {"a": 1}})
    new = api.ok("GET", f"/apis/{group}/v1/namespaces/default/things/{name}")
    old = api.ok("GET", f"/apis/{group}/v1beta1/namespaces/default/things/{name}")
    assert (new["apiVersion"], old["apiVersion"]) == (f"{group}/v1", f"{group}/v1beta1")
    assert new["spec"] == old["spec"] and new["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]
    assert [m["apiVersion"] for m in new["metadata"]["managedFields"]] == [f"{group}/v1beta1"]
    assert old["metadata"]["managedFields"] == new["metadata"]["managedFields"]
    status, now = api.request("PATCH", f"/apis/{group}/v1beta1/namespaces/default/things/{name}?fieldManager=m&force=true",
                              {"apiVersion": f"{group}/v1beta1", "kind": "Thing", "spec": {"a": 2, "b": 1}},
                              "application/apply-patch+yaml")
    assert status == 200 and now["spec"] == {"a": 2, "b": 1}


def test_134_kubeedges_own_definitions_are_accepted(api, kubectl):
    files = sorted(glob.glob(MANIFESTS))
    assert files
    for path in files:
        with open(path) as f:
            for body in yaml.safe_load_all(f):
                if body:
                    kubectl("apply", "-f", "-", stdin=body)
                    kubectl("wait", "--for=condition=Established", f"crd/{body['metadata']['name']}", "--timeout=60s")
    kubectl("apply", "-f", "-", stdin={
        "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": {"name": "m", "namespace": "default"},
        "spec": {"protocol": "modbus", "properties": [{"name": "t", "type": "INT", "accessMode": "ReadOnly"}]}})
