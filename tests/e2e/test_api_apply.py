"""Server-side apply, who owns which field, and what kubectl makes of it. The numbers are those of the conformance checklist."""

import json
import subprocess
import uuid

import pytest

from harness.api import Api

CM = "/api/v1/namespaces/default/configmaps"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NODES = "/api/v1/nodes"
PODS = "/api/v1/namespaces/default/pods"
APPLY, JSON_PATCH = "application/apply-patch+yaml", "application/json-patch+json"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


@pytest.fixture(scope="module")
def api(cloud_only):
    return Api(cloud_only.cloud.kubeconfig)


@pytest.fixture(scope="module")
def kubectl(cloud_only):
    return cloud_only.cloud.kubectl


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def config_map(name, labels=None, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, **({"labels": labels} if labels else {})}}


def pod(name, *containers, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": list(containers), **spec}}


def apply(api, path, body, manager, force=False, query=""):
    return api.request("PATCH", f"{path}?fieldManager={manager}&force={str(force).lower()}{query}", body, APPLY)


def entry(obj, manager, operation="Apply", subresource=""):
    found = [e for e in obj["metadata"].get("managedFields", [])
             if (e["manager"], e["operation"], e.get("subresource", "")) == (manager, operation, subresource)]
    assert len(found) <= 1, found
    return found[0] if found else None


def refused(answer, code, reason):
    status, body = answer
    assert (status, body["kind"], body["reason"], body["code"]) == (code, "Status", reason, code), body
    return body


def test_112_apply_creates_changes_nothing_twice_and_removes_what_was_dropped(api):
    name = unique()
    path = f"{CM}/{name}"
    status, first = apply(api, path, config_map(name, {"l": "1"}, a="1", b="2"), "m")
    assert (status, first["data"]) == (201, {"a": "1", "b": "2"})
    status, again = apply(api, path, config_map(name, {"l": "1"}, a="1", b="2"), "m")
    assert (status, again["metadata"]["resourceVersion"]) == (200, first["metadata"]["resourceVersion"])
    assert entry(again, "m")["time"] == entry(first, "m")["time"]
    api.ok("PATCH", path, {"data": {"c": "3"}}, MERGE)
    _, now = apply(api, path, config_map(name, a="1"), "m")
    assert now["data"] == {"a": "1", "c": "3"} and not now["metadata"].get("labels")
    assert api.ok("GET", path)["data"] == now["data"]


def test_112_an_apply_in_yaml_is_read(api):
    name = unique()
    status, made = apply(api, f"{CM}/{name}", "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: 'x'\n", "m")
    assert (status, made["data"], made["metadata"]["name"]) == (201, {"a": "x"}, name)


def test_112_kubectl_applies_server_side(kubectl):
    name = unique()
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", stdin=config_map(name, a="1", b="2"))
    rv = kubectl("get", "cm", name, "-o", "jsonpath={.metadata.resourceVersion}")
    kubectl("apply", "--server-side", "-f", "-", stdin=config_map(name, a="1", b="2"))
    assert kubectl("get", "cm", name, "-o", "jsonpath={.metadata.resourceVersion}") == rv
    kubectl("apply", "--server-side", "-f", "-", stdin=config_map(name, a="1"))
    assert json.loads(kubectl("get", "cm", name, "-o", "json"))["data"] == {"a": "1"}


def test_112_a_dry_run_of_an_apply_stores_nothing(api, kubectl):
    name = unique()
    status, would = apply(api, f"{CM}/{name}", config_map(name, a="1"), "m", query="&dryRun=All")
    assert status == 201 and would["data"] == {"a": "1"}
    assert api.request("GET", f"{CM}/{name}")[0] == 404
    kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=config_map(name, a="1"))
    assert api.request("GET", f"{CM}/{name}")[0] == 404


def test_113_a_second_manager_is_refused_until_it_forces(api):
    name = unique()
    path = f"{CM}/{name}"
    apply(api, path, config_map(name, a="1", b="1"), "one")
    body = refused(apply(api, path, config_map(name, a="2"), "two"), 409, "Conflict")
    assert body["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    assert body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}]
    body = refused(apply(api, path, config_map(name, a="2", b="2"), "two"), 409, "Conflict")
    assert body["message"] == 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\n- .data.b'
    status, now = apply(api, path, config_map(name, a="2"), "two", force=True)
    assert (status, now["data"]) == (200, {"a": "2", "b": "1"})
    assert entry(now, "one")["fieldsV1"] == {"f:data": {"f:b": {}}}
    assert entry(now, "two")["fieldsV1"] == {"f:data": {"f:a": {}}}


def test_113_one_that_wrote_is_in_the_way_as_well(api):
    name = unique()
    path = f"{CM}/{name}"
    apply(api, path, config_map(name, a="1"), "one")
    api.ok("PATCH", path + "?fieldManager=hand", {"data": {"a": "9"}}, MERGE)
    body = refused(apply(api, path, config_map(name, a="1"), "one"), 409, "Conflict")
    assert body["message"] == 'Apply failed with 1 conflict: conflict with "hand" using v1: .data.a'


def test_113_kubectl_says_with_whom_it_conflicts(cloud_only, kubectl):
    name = unique()
    kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=config_map(name, a="1"))
    r = subprocess.run([*cloud_only.cloud.kubectl_argv(), "apply", "--server-side", "-f", "-"], text=True,
                       input=json.dumps(config_map(name, a="2")), capture_output=True, timeout=60)
    assert r.returncode == 1 and 'conflict with "one": .data.a' in r.stderr, r.stderr
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=config_map(name, a="2"))
    assert kubectl("get", "cm", name, "-o", "jsonpath={.data.a}") == "2"


def test_114_a_client_side_applied_object_migrates(api, kubectl):
    name = unique()
    kubectl("apply", "-f", "-", stdin=config_map(name, a="1", b="2"))
    api.ok("PATCH", f"{CM}/{name}?fieldManager=other", {"data": {"c": "3"}}, MERGE)
    kubectl("apply", "--server-side", "-f", "-", stdin=config_map(name, a="1", b="2"))
    now = api.ok("GET", f"{CM}/{name}")
    assert now["data"] == {"a": "1", "b": "2", "c": "3"}
    assert not entry(now, "kubectl-client-side-apply", "Update"), now["metadata"]["managedFields"]
    kubectl("apply", "--server-side", "-f", "-", stdin=config_map(name, a="1"))  # what is dropped now goes
    assert api.ok("GET", f"{CM}/{name}")["data"] == {"a": "1", "c": "3"}


def test_115_entries_name_exactly_what_each_manager_set(api):
    name = unique()
    container = {"name": "c", "image": "img:1", "ports": [{"containerPort": 80}], "args": ["x"]}
    _, made = apply(api, f"{PODS}/{name}", pod(name, container), "m")
    assert entry(made, "m")["fieldsV1"] == {"f:spec": {"f:containers": {'k:{"name":"c"}': {
        ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
        "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}}}}}
    api.ok("PATCH", f"{PODS}/{name}?fieldManager=hand", {"metadata": {"labels": {"x": "y"}}}, MERGE)
    now = api.ok("PATCH", f"{PODS}/{name}/status?fieldManager=agent", {"status": {"phase": "Running"}}, MERGE)
    assert entry(now, "hand", "Update")["fieldsV1"] == {"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}
    assert entry(now, "agent", "Update", "status")["fieldsV1"] == {"f:status": {"f:phase": {}}}
    assert now["spec"]["restartPolicy"] == "Always"  # a default is nobody's
    listed = [p for p in api.ok("GET", PODS)["items"] if p["metadata"]["name"] == name]
    assert listed[0]["metadata"]["managedFields"] == now["metadata"]["managedFields"]


def test_115_the_manager_is_the_program_where_nobody_names_one(api):
    name = unique()
    c = api.connect()
    c.request("POST", CM, json.dumps(config_map(name, a="1")),
              {"Content-Type": "application/json", "User-Agent": "my-tool/1.2 (x)"})
    made = json.loads(c.getresponse().read())
    assert entry(made, "my-tool", "Update")["fieldsV1"]["f:data"] == {".": {}, "f:a": {}}


def test_115_who_asks_for_no_managed_fields_gets_none(api):
    name = unique()
    api.ok("POST", CM, config_map(name, a="1"))
    for path in (f"{CM}/{name}", f"{CM}?fieldSelector=metadata.name={name}"):
        c = api.connect()
        c.request("GET", path, headers={"Accept": "application/json;managedFields=none, application/json"})
        got = json.loads(c.getresponse().read())
        assert "managedFields" not in json.dumps(got) and "resourceVersion" in got["metadata"]


def test_115_managed_fields_can_be_reset_and_set(api):
    name = unique()
    path = f"{CM}/{name}"
    apply(api, path, config_map(name, a="1", b="2"), "m")
    now = api.ok("PATCH", path, [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}], JSON_PATCH)
    assert "managedFields" not in now["metadata"] and now["data"] == {"a": "1", "b": "2"}
    body = refused(apply(api, path, config_map(name, a="9"), "m"), 409, "Conflict")
    assert 'conflict with "before-first-apply" using v1' in body["message"]
    mine = {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:a": {}}}}
    api.ok("PATCH", path, {"metadata": {"managedFields": [mine]}}, MERGE)
    status, now = apply(api, path, config_map(name), "m")
    assert (status, now["data"]) == (200, {"b": "2"})
    api.ok("PUT", path, {**now, "metadata": {**now["metadata"], "managedFields": [{"operation": "bad"}]}})
    assert entry(api.ok("GET", path), "m")  # nonsense changes nothing


def test_apply_to_status_takes_only_status(api):
    name = unique("n")
    api.ok("POST", NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"labels": {"x": "y"}}, "spec": {"unschedulable": True},
            "status": {"conditions": [{"type": "Hot", "status": "True"}]}}
    status, now = apply(api, f"{NODES}/{name}/status", body, "m")
    assert status == 200 and "unschedulable" not in now["spec"] and "x" not in now["metadata"].get("labels", {})
    assert entry(now, "m", subresource="status")["fieldsV1"] == {
        "f:status": {"f:conditions": {'k:{"type":"Hot"}': {".": {}, "f:type": {}, "f:status": {}}}}}
    status, now = apply(api, f"{NODES}/{name}", {**body, "status": {"phase": "no"}}, "m")
    assert now["spec"]["unschedulable"] is True and now["status"].get("phase") != "no"
    assert [c["type"] for c in now["status"]["conditions"] if c["type"] == "Hot"] == ["Hot"]


def test_containers_env_and_ports_are_merged_by_their_keys(api):
    name = unique()
    path = f"{PODS}/{name}"
    apply(api, path, pod(name, {"name": "a", "image": "i:1", "env": [{"name": "X", "value": "1"}]}), "one")
    status, now = apply(api, path, pod(name, {"name": "a", "image": "i:2"}), "two", force=True)
    assert status == 200 and now["spec"]["containers"][0]["env"] == [{"name": "X", "value": "1"}]
    assert now["spec"]["containers"][0]["image"] == "i:2"


def test_applies_that_cannot_be_are_refused_in_words(api):
    name = unique()
    path = f"{CM}/{name}"
    refused(api.request("PATCH", path, config_map(name), APPLY), 422, "Invalid")  # no manager
    refused(apply(api, path, {"kind": "ConfigMap"}, "m"), 400, "BadRequest")
    refused(apply(api, path, {**config_map(name), "apiVersion": "v2"}, "m"), 400, "BadRequest")
    refused(apply(api, path, config_map("other"), "m"), 400, "BadRequest")
    refused(apply(api, path, "{not json", "m"), 400, "BadRequest")
    refused(apply(api, path, "a: [", "m"), 400, "BadRequest")
    bad = config_map(name)
    bad["metadata"]["managedFields"] = [{"manager": "x"}]
    refused(apply(api, path, bad, "m"), 400, "BadRequest")
    bad = config_map(name)
    bad["metadata"]["uid"] = "x"
    refused(apply(api, path, bad, "m"), 409, "Conflict")
    twice = pod(name, {"name": "a", "image": "i:1"}, {"name": "a", "image": "i:2"})
    assert '.spec.containers[name="a"]' in refused(apply(api, f"{PODS}/{name}", twice, "m"), 400, "BadRequest")["message"]
    refused(apply(api, f"{PODS}/{name}", pod(name, {"image": "i:1"}), "m"), 400, "BadRequest")
    refused(api.request("PATCH", f"{path}?force=true", {"data": {}}, MERGE), 422, "Invalid")
    refused(apply(api, path, {**config_map(name), "nonsense": 1}, "m", query="&fieldValidation=Strict"), 422, "Invalid")
    apply(api, path, config_map(name, a="1"), "m")
    stale = config_map(name, a="2")
    stale["metadata"]["resourceVersion"] = "1"
    refused(apply(api, path, stale, "m"), 409, "Conflict")


def test_custom_kinds_are_applied_by_what_their_schema_says(api, kubectl):
    group = f"{unique('g')}.test"
    spec = {"type": "object", "properties": {
        "rules": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                  "items": {"type": "object", "required": ["id"],
                            "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "level": {"type": "integer", "default": 3}}}
    api.ok("POST", CRDS, {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                          "metadata": {"name": f"things.{group}"},
                          "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                                   "versions": [{"name": "v1", "served": True, "storage": True, "schema": {
                                       "openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
    kubectl("wait", "--for=condition=Established", f"crd/things.{group}", "--timeout=60s")
    path = f"/apis/{group}/v1/namespaces/default/things/t"
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "t"}}
    assert apply(api, path, {**thing, "spec": {"rules": [{"id": "a", "n": 1}], "tags": ["x"], "whole": {"k": "1"}}}, "one")[0] == 201
    status, now = apply(api, path, {**thing, "spec": {"rules": [{"id": "b"}], "tags": ["y"]}}, "two")
    assert status == 200 and now["spec"] == {"rules": [{"id": "a", "n": 1}, {"id": "b"}], "tags": ["x", "y"],
                                             "whole": {"k": "1"}, "level": 3}
    body = refused(apply(api, path, {**thing, "spec": {"whole": {"j": "1"}}}, "two"), 409, "Conflict")
    assert ".spec.whole" in body["message"]
    _, now = apply(api, path, {**thing, "spec": {"tags": ["x"]}}, "one")
    assert now["spec"] == {"rules": [{"id": "b"}], "tags": ["x", "y"], "level": 3}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin={**thing, "spec": {"rules": [{"id": "b", "n": 2}]}})
    assert {"id": "b", "n": 2} in api.ok("GET", path)["spec"]["rules"]


def test_who_may_patch_but_not_create_creates_nothing_by_applying(api):
    name, user = unique(), unique("user")
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"

    def grant(*verbs):
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": list(verbs)}]
        role = {"metadata": {"name": name}, "rules": rules}
        if api.request("PUT", f"{rbac}/roles/{name}", role)[0] == 404:
            api.ok("POST", f"{rbac}/roles", role)

    def as_user():
        c = api.connect()
        c.request("PATCH", f"{CM}/{name}?fieldManager=m", json.dumps(config_map(name, a="1")),
                  {"Content-Type": APPLY, "Impersonate-User": user})
        r = c.getresponse()
        return r.status, json.loads(r.read())

    grant("patch")
    api.ok("POST", f"{rbac}/rolebindings", {
        "metadata": {"name": name}, "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"}})
    assert "create" in refused(as_user(), 403, "Forbidden")["message"]
    grant("patch", "create")
    assert as_user()[0] == 201
    grant("patch")
    assert as_user()[0] == 200
