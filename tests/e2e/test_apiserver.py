"""The embedded API server of cloudcore --standalone, by HTTP: metadata, discovery, patches, kinds, controllers, access.

The numbers are those of the conformance checklist that it is built against."""

import json

import pytest

from harness.api import Api
from harness.apitest import (CM, CRDS, JSON_PATCH, MERGE, NODES, PODS, STRATEGIC, TABLE, Watch, config_map, pod,
                             raw, refused, unique)
from harness.processes import wait_for


@pytest.fixture(scope="module")
def api(cloud_only):
    return Api(cloud_only.cloud.kubeconfig)


# ---- 10.2 metadata ----

def test_35_the_server_owns_its_metadata(api):
    c = config_map(unique())
    c["metadata"].update(uid="mine", creationTimestamp="2001-01-01T00:00:00Z", generation=7, selfLink="/x",
                         deletionTimestamp="2001-01-01T00:00:00Z")
    meta = api.ok("POST", CM, c)["metadata"]
    assert meta["uid"] != "mine" and meta["creationTimestamp"] > "2020"
    assert not {"generation", "selfLink", "deletionTimestamp"} & set(meta)


def test_36_generated_names(api):
    names = {api.ok("POST", CM, {"metadata": {"generateName": "a-"}})["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(n.startswith("a-") and len(n) == 7 and set(n[2:]) <= set("bcdfghjklmnpqrstvwxz2456789") for n in names)


@pytest.mark.parametrize("body, field", [
    (config_map("A_b"), "metadata.name"),
    ({"metadata": {"name": "x", "labels": {"k": "v" * 64}}}, "metadata.labels"),
    ({"metadata": {"name": "x", "ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": n, "uid": n, "controller": True} for n in "ab"]}},
     "metadata.ownerReferences"),
])
def test_37_39_46_bad_metadata_is_422(api, body, field):
    answer = refused(api.request("POST", CM, body), 422, "Invalid")
    assert answer["details"]["causes"][0]["field"].startswith(field)


def test_38_a_namespace_name_is_a_label(api):
    refused(api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "a.b"}}), 422, "Invalid")


def test_41_writing_the_same_changes_nothing(api):
    name = unique()
    made = api.ok("POST", CM, config_map(name, a="1"))
    rv = made["metadata"]["resourceVersion"]
    w = Watch(api, f"{CM}?fieldSelector=metadata.name={name}&resourceVersion={rv}")
    assert api.ok("PUT", f"{CM}/{name}", made)["metadata"]["resourceVersion"] == rv
    assert api.ok("PATCH", f"{CM}/{name}", {"data": {"a": "1"}}, MERGE)["metadata"]["resourceVersion"] == rv
    assert api.ok("PATCH", f"{CM}/{name}", {}, MERGE)["metadata"]["resourceVersion"] == rv
    api.ok("PATCH", f"{CM}/{name}", {"data": {"a": "2"}}, MERGE)
    assert w.wait(1)[0]["object"]["data"] == {"a": "2"}
    w.close()


def test_42_to_44_finalizers_hold_an_object(api):
    name = unique()
    c = config_map(name)
    c["metadata"]["finalizers"] = ["x.io/hold"]
    api.ok("POST", CM, c)
    deleting = api.ok("DELETE", f"{CM}/{name}")
    assert deleting["metadata"]["deletionTimestamp"]
    stays = api.ok("GET", f"{CM}/{name}")
    more = {**stays, "metadata": {**stays["metadata"], "finalizers": ["x.io/hold", "x.io/more"]}}
    refused(api.request("PUT", f"{CM}/{name}", more), 422, "Invalid")
    undo = {**stays, "metadata": {k: v for k, v in stays["metadata"].items() if not k.startswith("deletion")}}
    assert api.ok("PUT", f"{CM}/{name}", undo)["metadata"]["deletionTimestamp"]
    w = Watch(api, f"{CM}?fieldSelector=metadata.name={name}&resourceVersion={stays['metadata']['resourceVersion']}")
    assert api.request("PATCH", f"{CM}/{name}", {"metadata": {"finalizers": None}}, MERGE)[0] == 200
    assert w.wait(1)[0]["type"] == "DELETED"
    refused(api.request("GET", f"{CM}/{name}"), 404, "NotFound")


def test_45_create_with_a_resource_version_is_refused(api):
    c = config_map(unique())
    c["metadata"]["resourceVersion"] = "5"
    assert api.request("POST", CM, c)[0] >= 400
    refused(api.request("GET", f"{CM}/{c['metadata']['name']}"), 404, "NotFound")


# ---- 10.3 discovery, printing ----

def test_49_51_52_discovery(api):
    v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer,application/json"
    aggregated = {}
    for path in ("/api", "/apis"):
        status, headers, text = raw(api, "GET", path, headers={"Accept": v2})
        assert status == 200 and "as=APIGroupDiscoveryList" in headers["Content-Type"]
        for group in json.loads(text)["items"]:
            for version in group["versions"]:
                name = group["metadata"].get("name")
                aggregated[f"{name}/{version['version']}" if name else version["version"]] = {
                    r["resource"] for r in version["resources"]}
    assert api.ok("GET", "/api")["versions"] == ["v1"]
    groups = {v["groupVersion"] for g in api.ok("GET", "/apis")["groups"] for v in g["versions"]} | {"v1"}
    assert groups == set(aggregated)
    for gv in groups:
        listed = api.ok("GET", f"/apis/{gv}" if "/" in gv else "/api/v1")["resources"]
        assert {r["name"] for r in listed if "/" not in r["name"]} == aggregated[gv]


def test_every_listed_kind_lists_and_watches(api):
    for path in ["/api/v1"] + [f"/apis/{v['groupVersion']}" for g in api.ok("GET", "/apis")["groups"]
                               for v in g["versions"]]:
        for r in api.ok("GET", path)["resources"]:
            if "/" in r["name"] or "list" not in r["verbs"]:
                continue
            body = api.ok("GET", f"{path}/{r['name']}")
            assert body["kind"] == f"{r['kind']}List" and isinstance(body["items"], list)
            w = Watch(api, f"{path}/{r['name']}?timeoutSeconds=1&resourceVersion={body['metadata']['resourceVersion']}")
            assert w.response.status == 200
            w.close()


def test_65_partial_metadata(api):
    api.ok("POST", CM, config_map(unique(), a="1"))
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    body = json.loads(raw(api, "GET", CM, headers={"Accept": accept})[2])
    assert body["kind"] == "PartialObjectMetadataList" and body["apiVersion"] == "meta.k8s.io/v1"
    assert body["items"] and all("data" not in o and o["metadata"]["name"] for o in body["items"])


def test_tables_also_in_watches(api):
    name = unique()
    api.ok("POST", CM, config_map(name, a="1"))
    path = f"{CM}?fieldSelector=metadata.name={name}"
    table = json.loads(raw(api, "GET", path, headers={"Accept": TABLE})[2])
    assert table["kind"] == "Table" and table["rows"][0]["cells"][0] == name
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    c = api.connect()
    c.request("GET", path + "&watch=1&resourceVersion=0", headers={"Accept": TABLE})
    r = c.getresponse()
    first = json.loads(r.readline())
    api.ok("PATCH", f"{CM}/{name}", {"data": {"b": "2"}}, MERGE)
    second = json.loads(r.readline())
    assert first["object"]["columnDefinitions"] and not second["object"].get("columnDefinitions")
    assert (first["type"], second["type"]) == ("ADDED", "MODIFIED") and second["object"]["rows"][0]["cells"][1] == 2


def test_67_health(api):
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping", "/readyz?verbose"):
        status, _, text = raw(api, "GET", path)
        assert status == 200 and "ok" in text
    assert raw(api, "GET", "/healthz/nope")[0] == 404
    assert "apiserver_requests_total" in raw(api, "GET", "/metrics")[2]


def test_68_version(api):
    import re
    assert re.fullmatch(r"v1\.\d+\.\d+(\+[\w.]+)?", api.ok("GET", "/version")["gitVersion"])


# ---- 10.5 patch and subresources ----

def test_100_101_102_json_and_merge_patch(api):
    name = unique()
    api.ok("POST", CM, config_map(name, a="1", b="2"))
    patched = api.ok("PATCH", f"{CM}/{name}", [{"op": "test", "path": "/data/a", "value": "1"},
                                              {"op": "replace", "path": "/data/a", "value": "9"}], JSON_PATCH)
    assert patched["data"] == {"a": "9", "b": "2"}
    refused(api.request("PATCH", f"{CM}/{name}", [{"op": "remove", "path": "/data/b"},
                                                 {"op": "test", "path": "/data/a", "value": "1"}], JSON_PATCH),
            422, "Invalid")
    assert api.ok("PATCH", f"{CM}/{name}", {"data": {"a": None}}, MERGE)["data"] == {"b": "2"}
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"c": "3"}}
    refused(api.request("PATCH", f"{CM}/{name}", stale, MERGE), 409, "Conflict")
    refused(api.request("PATCH", f"{CM}/{name}", "[]", MERGE), 400, "BadRequest")


def test_106_116_strategic_patch_of_a_node_status(api):
    name = unique("n")
    api.ok("POST", NODES, {"metadata": {"name": name}})
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [
        {"type": "InternalIP", "address": "10.0.0.1"}]}}
    api.ok("PATCH", f"{NODES}/{name}/status", status, STRATEGIC)
    more = {"spec": {"unschedulable": True},
            "status": {"conditions": [{"type": "DiskPressure", "status": "False"}]}}
    node = api.ok("PATCH", f"{NODES}/{name}/status", more, STRATEGIC)
    assert {c["type"] for c in node["status"]["conditions"]} == {"Ready", "DiskPressure"}
    assert "unschedulable" not in node.get("spec", {})
    kept = api.ok("PUT", f"{NODES}/{name}", {"metadata": {"name": name, "labels": {"a": "b"}}, "status": {}})
    assert kept["status"]["addresses"][0]["address"] == "10.0.0.1" and kept["metadata"]["labels"] == {"a": "b"}
    api.ok("DELETE", f"{NODES}/{name}")


def device_crd(plural, group):
    schema = {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}, "kept": {
            "type": "string", "default": "yes"}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced",
                     "names": {"plural": plural, "kind": plural.capitalize()[:-1], "shortNames": [plural[:3]]},
                     "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                                   "schema": {"openAPIV3Schema": schema},
                                   "additionalPrinterColumns": [
                                       {"name": "N", "type": "integer", "jsonPath": ".spec.n"}]}]}}


def test_129_131_133_custom_resources(api):
    group = f"{unique('g')}.example.io"
    made = api.ok("POST", CRDS, device_crd("widgets", group))
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions["Established"] == "True"
    path = f"/apis/{group}/v1/namespaces/default/widgets"
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"},
              "spec": {"n": 1, "unknown": 2}, "status": {"x": 1}}
    stored = api.ok("POST", path, widget)
    assert stored["spec"] == {"n": 1, "kept": "yes"} and "status" not in stored
    assert stored["metadata"]["generation"] == 1
    status = api.ok("PUT", f"{path}/w/status", {**stored, "spec": {"n": 9}, "status": {"x": 2}})
    assert status["spec"]["n"] == 1 and status["status"] == {"x": 2} and status["metadata"]["generation"] == 1
    changed = api.ok("PATCH", f"{path}/w", {"spec": {"n": 5}}, MERGE)
    assert changed["metadata"]["generation"] == 2 and changed["status"] == {"x": 2}
    refused(api.request("PATCH", f"{path}/w", {"spec": {"n": 0}}, MERGE), 422, "Invalid")
    refused(api.request("PATCH", f"{path}/w", {"spec": {"n": 7}}, STRATEGIC), 415, "UnsupportedMediaType")  # 107
    no_rv = {**changed, "metadata": {"name": "w"}}
    refused(api.request("PUT", f"{path}/w", no_rv), 422, "Invalid")
    assert api.ok("GET", path)["items"][0]["kind"] == "Widget"
    table = json.loads(raw(api, "GET", path, headers={"Accept": TABLE})[2])
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "N"] and table["rows"][0]["cells"] == ["w", 5]
    w = Watch(api, path)
    w.wait(1)
    api.ok("DELETE", f"{CRDS}/widgets.{group}")
    wait_for("the definition to go", lambda: api.request("GET", f"{CRDS}/widgets.{group}")[0] == 404)
    assert w.ended.wait(60) and w.seen()[-1] == ("DELETED", "w")
    refused(api.request("GET", path), 404, "NotFound")
    assert group not in [g["name"] for g in api.ok("GET", "/apis")["groups"]]


def test_135_a_deleted_namespace_takes_everything_with_it(api):
    ns = unique("ns")
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": ns}})
    path = f"/api/v1/namespaces/{ns}"
    wait_for("its service account", lambda: api.request("GET", f"{path}/serviceaccounts/default")[0] == 200)
    held = config_map("held")
    held["metadata"]["finalizers"] = ["x.io/hold"]
    api.ok("POST", f"{path}/configmaps", held)
    for i in range(5):
        api.ok("POST", f"{path}/configmaps", config_map(f"c{i}"))
    deleting = api.ok("DELETE", path)
    assert deleting["status"]["phase"] == "Terminating"
    body = refused(api.request("POST", f"{path}/configmaps", config_map("late")), 403, "Forbidden")
    assert body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    wait_for("its objects to go", lambda: len(api.ok("GET", f"{path}/configmaps")["items"]) == 1)
    assert api.request("GET", path)[0] == 200
    api.ok("PATCH", f"{path}/configmaps/held", {"metadata": {"finalizers": None}}, MERGE)
    wait_for("the namespace to go", lambda: api.request("GET", path)[0] == 404)
    refused(api.request("DELETE", "/api/v1/namespaces/kube-system"), 403, "Forbidden")


def test_a_service_account_is_in_every_namespace(api):
    account = "/api/v1/namespaces/kube-public/serviceaccounts/default"
    api.ok("DELETE", account)
    wait_for("the service account to come back", lambda: api.request("GET", account)[0] == 200)


# ---- 10.7 controllers ----

def ready_node(api, name, **spec):
    api.ok("POST", NODES, {"metadata": {"name": name, "labels": {"who": name}}, "spec": spec})
    api.ok("PATCH", f"{NODES}/{name}/status", {"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}, STRATEGIC)


def test_pods_are_scheduled_to_fitting_ready_nodes(api):
    a, b = unique("a"), unique("b")
    ready_node(api, a)
    ready_node(api, b, taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    free, tolerant, lost = unique(), unique(), unique()
    api.ok("POST", PODS, pod(free, nodeSelector={"who": a}))
    api.ok("POST", PODS, pod(tolerant, nodeSelector={"who": b}, tolerations=[{"key": "k", "operator": "Exists"}]))
    api.ok("POST", PODS, pod(lost, nodeSelector={"who": b}))

    def node_of(name):
        return api.ok("GET", f"{PODS}/{name}")["spec"].get("nodeName")
    wait_for("the pods to be bound", lambda: node_of(free) == a and node_of(tolerant) == b)
    bound = api.ok("GET", f"{PODS}/{free}")
    assert {"PodScheduled": "True"} == {c["type"]: c["status"] for c in bound["status"]["conditions"]}

    def unschedulable():
        conditions = api.ok("GET", f"{PODS}/{lost}")["status"].get("conditions", [])
        return [c for c in conditions if c["type"] == "PodScheduled" and c["reason"] == "Unschedulable"]
    wait_for("the reason", unschedulable)
    assert "untolerated taint {k: v}" in unschedulable()[0]["message"]
    reasons = {e["reason"] for e in api.ok(
        "GET", f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={lost}")["items"]}
    assert reasons == {"FailedScheduling"}
    api.ok("PATCH", f"{NODES}/{b}", {"spec": {"taints": None}}, MERGE)
    wait_for("the pod to be bound after the change", lambda: node_of(lost) == b)
    for name in (free, tolerant, lost):
        api.ok("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
    for name in (a, b):
        api.ok("DELETE", f"{NODES}/{name}")


def test_pods_spread_over_nodes(api):
    nodes, mark = [unique("n") for _ in range(3)], unique()
    for n in nodes:
        ready_node(api, n)
        api.ok("PATCH", f"{NODES}/{n}", {"metadata": {"labels": {"mark": mark}}}, MERGE)
    pods = [unique() for _ in range(9)]
    for p in pods:
        api.ok("POST", PODS, pod(p, nodeSelector={"mark": mark}))

    def spread():
        where = [api.ok("GET", f"{PODS}/{p}")["spec"].get("nodeName") for p in pods]
        return sorted(where.count(n) for n in nodes) == [3, 3, 3]
    wait_for("three pods on each", spread)
    for p in pods:
        api.ok("DELETE", f"{PODS}/{p}", {"gracePeriodSeconds": 0})
    for n in nodes:
        api.ok("DELETE", f"{NODES}/{n}")


def test_a_cordoned_node_is_tainted(api):
    name = unique("n")
    ready_node(api, name)

    def taints():
        return [t["key"] for t in api.ok("GET", f"{NODES}/{name}").get("spec", {}).get("taints", [])]
    api.ok("PATCH", f"{NODES}/{name}", {"spec": {"unschedulable": True}}, STRATEGIC)
    wait_for("the taint", lambda: taints() == ["node.kubernetes.io/unschedulable"])
    api.ok("PATCH", f"{NODES}/{name}", {"spec": {"unschedulable": None}}, STRATEGIC)
    wait_for("the taint to go", lambda: taints() == [])
    api.ok("DELETE", f"{NODES}/{name}")


# ---- 10.8 access ----

def test_158_who_am_i_and_what_may_i(api):
    who = api.ok("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert "system:masters" in who["status"]["userInfo"]["groups"]
    may = api.ok("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                 {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}})
    assert may["status"]["allowed"] is True


def test_an_impersonated_stranger_is_forbidden(api):
    status, _, text = raw(api, "GET", PODS, headers={"Impersonate-User": "eve"})
    body = json.loads(text)
    assert status == 403 and body["reason"] == "Forbidden"
    assert body["message"] == ('pods is forbidden: User "eve" cannot list resource "pods" in API group "" '
                               'in the namespace "default"')


def test_an_impersonated_node_sees_its_own_only(api):
    def get(path):
        return raw(api, "GET", path, headers={"Impersonate-User": "system:node:n1", "Impersonate-Group": "system:nodes"})[0]
    assert get("/api/v1/pods?fieldSelector=spec.nodeName=n1") == 200
    assert get("/api/v1/pods?fieldSelector=spec.nodeName=n2") == 403
    assert get("/api/v1/pods") == 403 and get("/api/v1/secrets") == 403
    assert get(f"{NODES}/n1") == 404 and get(f"{NODES}/n2") == 403
