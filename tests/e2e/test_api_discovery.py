"""What kubectl makes of discovery, OpenAPI and Tables: the one that is installed, and 1.20, the oldest that is supported. The
numbers are those of the conformance checklist."""

import json
import os
import stat
import subprocess
import uuid

import pytest

from harness.api import Api

OLD = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "selvage/kubectl-1.20/usr/bin/kubectl")
CM = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"


@pytest.fixture(scope="module")
def api(cloud_only):
    return Api(cloud_only.cloud.kubeconfig)


class Kubectl:
    def __init__(self, program, cloud):
        self.old = program == OLD
        self.argv = [program, "--kubeconfig", cloud.kubeconfig, "--cache-dir",
                     os.path.join(cloud.dir, "cache-old" if self.old else "cache")]

    def run(self, *args, stdin=None, env=None):
        if stdin is not None and not isinstance(stdin, str):
            stdin = json.dumps(stdin)
        return subprocess.run([*self.argv, *args], input=stdin, capture_output=True, text=True, timeout=120,
                              env={**os.environ, **(env or {})})

    def __call__(self, *args, **more):
        r = self.run(*args, **more)
        assert r.returncode == 0, (args, r.stdout, r.stderr)
        return r.stdout


@pytest.fixture(scope="module", params=["installed", "1.20"])
def kubectl(request, cloud_only):
    if request.param == "1.20" and not os.access(OLD, os.X_OK):
        pytest.skip("kubectl 1.20 is not at hand: script/bootstrap fetches it")
    return Kubectl(OLD if request.param == "1.20" else os.environ.get("KUBECTL", "kubectl"), cloud_only.cloud)


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "img:1"}], "nodeName": "nowhere", **spec}}


def crd(group, plural="things", kind="Thing", spec=None, **version):
    properties = {"spec": spec or {"type": "object", "properties": {
        "size": {"type": "integer", "description": "How large it is."},
        "inner": {"type": "object", "required": ["deep"], "properties": {"deep": {"type": "string"}}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind, "shortNames": []},
                     "versions": [{"name": "v1", "served": True, "storage": True, **version,
                                   "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}]}}


def make_crd(kubectl, group, **more):
    kubectl("apply", "-f", "-", stdin=crd(group, **more))
    kubectl("wait", "--for=condition=Established", f"crd/things.{group}", "--timeout=60s")


def thing(group, name, **spec):
    return {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}


def script(tmp_path, text):
    path = tmp_path / "editor"
    path.write_text("#!/bin/sh\n" + text + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"KUBE_EDITOR": str(path), "EDITOR": str(path)}


# ---- 10.2 ----


def test_47_labels_and_annotations_on_every_kind(kubectl):
    name, group = unique(), f"{unique('g')}.test"
    make_crd(kubectl, group)
    kubectl("create", "-f", "-", stdin=config_map(name))
    kubectl("create", "-f", "-", stdin=thing(group, name, size=1))
    for what in (f"cm/{name}", f"things.{group}/{name}", "ns/default", f"crd/things.{group}", "sa/default"):
        for verb in ("label", "annotate"):
            kubectl(verb, what, "k1=v1")
            assert kubectl.run(verb, what, "k1=v2").returncode != 0
            kubectl(verb, what, "k1=v2", "--overwrite")
            member = "labels" if verb == "label" else "annotations"
            assert kubectl("get", what, "-o", f"jsonpath={{.metadata.{member}.k1}}") == "v2"
            kubectl(verb, what, "k1-")
            assert kubectl("get", what, "-o", f"jsonpath={{.metadata.{member}.k1}}") == ""


# ---- 10.3 ----


def test_48_versions_and_resources(kubectl):
    assert "v1.32" in kubectl("version")
    assert {"v1", "apiextensions.k8s.io/v1", "coordination.k8s.io/v1"} <= set(kubectl("api-versions").split())
    listed = kubectl("api-resources")
    assert "configmaps" in listed and "customresourcedefinitions" in listed
    assert "pods" in kubectl("api-resources", "--namespaced=true", "-o", "name").split()
    kubectl("cluster-info")


def test_50_a_cold_cache_costs_two_discovery_requests(api, cloud_only, tmp_path):
    r = subprocess.run([os.environ.get("KUBECTL", "kubectl"), "--kubeconfig", cloud_only.cloud.kubeconfig, "--cache-dir",
                        str(tmp_path), "-v=6", "api-resources"], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0
    asked = [line for line in r.stderr.splitlines() if "/api?" in line or "/apis" in line]
    assert len([line for line in asked if "GET" in line]) == 2, asked


def test_53_54_short_names_and_all(kubectl):
    for name in ("po", "no", "cm", "sa", "ns", "ev", "svc"):
        kubectl("get", name)
    kubectl("get", "all", "-n", "kube-public")


def test_55_56_create_apply_replace_and_edit(kubectl, api, tmp_path):
    name = unique()
    kubectl("create", "-f", "-", stdin=config_map(name, a="1"))
    kubectl("apply", "-f", "-", stdin=config_map(name, a="2", b="2"))
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=config_map(name, a="2", b="2"))
    kubectl("apply", "-f", "-", stdin=config_map(name, a="3"))
    assert api.ok("GET", f"{CM}/{name}")["data"] == {"a": "3"}
    kubectl("replace", "-f", "-", stdin=config_map(name, a="4"))
    kubectl("edit", "cm", name, env=script(tmp_path, 'sed -i "s/a: \\"4\\"/a: edited/" "$1"'))
    assert api.ok("GET", f"{CM}/{name}")["data"] == {"a": "edited"}


def test_57_58_a_custom_kind_is_applied_edited_and_explained_at_once(kubectl, api, tmp_path):
    group = f"{unique('g')}.test"
    make_crd(kubectl, group)
    kubectl("apply", "-f", "-", stdin=thing(group, "x", size=1, inner={"deep": "y"}))
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=thing(group, "x", size=1, inner={"deep": "y"}))
    kubectl("apply", "-f", "-", stdin=thing(group, "x", size=2))
    path = f"/apis/{group}/v1/namespaces/default/things/x"
    assert api.ok("GET", path)["spec"] == {"size": 2}
    kubectl("edit", f"things.{group}", "x", env=script(tmp_path, 'sed -i "s/^  size: 2/  size: 5/" "$1"'))
    assert api.ok("GET", path)["spec"] == {"size": 5}
    text = kubectl("explain", "things.spec", f"--api-version={group}/v1")
    assert "size" in text and "How large it is." in text
    text = kubectl("explain", "things.spec", "--recursive", f"--api-version={group}/v1")
    assert "deep" in text


def test_58_built_in_kinds_are_explained(kubectl):
    text = kubectl("explain", "pod.spec.containers")
    assert "imagePullPolicy" in text and "-required-" in text
    text = kubectl("explain", "pod", "--recursive")
    assert "hostPID" in text and "livenessProbe" in text and "preferredDuringSchedulingIgnoredDuringExecution" in text
    assert "holderIdentity" in kubectl("explain", "lease.spec")
    if not kubectl.old:
        assert "IfNotPresent" in kubectl("explain", "pod.spec.containers.imagePullPolicy")


def test_59_to_61_pods_are_printed(kubectl):
    name = unique()
    kubectl("create", "-f", "-", stdin=pod(name))
    head, row = kubectl("get", "pod", name).splitlines()
    assert head.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"] and row.split()[:4] == [name, "0/1", "Pending", "0"]
    head = kubectl("get", "pod", name, "-o", "wide").splitlines()[0]
    assert " ".join(head.split()).endswith("AGE IP NODE NOMINATED NODE READINESS GATES")
    assert f"app={name}" in kubectl("get", "pod", name, "--show-labels")
    assert "APP" in kubectl("get", "pods", "-L", "app", "--sort-by=.metadata.name").splitlines()[0]
    assert kubectl("get", "pod", name, "-o", "custom-columns=N:.metadata.name").split() == ["N", name]
    assert kubectl("get", "pod", name, "-o", "name").strip() == f"pod/{name}"
    kubectl("delete", "pod", name, "--force", "--grace-period=0")


def test_60_nodes_are_printed(kubectl, api):
    name = unique("n")
    api.ok("POST", NODES, {"apiVersion": "v1", "kind": "Node",
                           "metadata": {"name": name, "labels": {"node-role.kubernetes.io/edge": ""}},
                           "status": {"addresses": [{"type": "InternalIP", "address": "10.1.2.3"}],
                                      "nodeInfo": {"kubeletVersion": "v1.32.0", "osImage": "Debian", "kernelVersion": "6.1",
                                                   "containerRuntimeVersion": "containerd://1.6", "machineID": "",
                                                   "systemUUID": "", "bootID": "", "kubeProxyVersion": "",
                                                   "operatingSystem": "linux", "architecture": "amd64"}}})
    row = kubectl("get", "node", name, "-o", "wide").splitlines()[1]
    for text in ("edge", "v1.32.0", "10.1.2.3", "Debian", "6.1", "containerd://1.6"):
        assert text in row.split(), row
    kubectl("delete", "node", name)


def test_62_a_custom_kind_prints_its_columns(kubectl):
    group = f"{unique('g')}.test"
    make_crd(kubectl, group, additionalPrinterColumns=[
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Deep", "type": "string", "jsonPath": ".spec.inner.deep"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}])
    kubectl("apply", "-f", "-", stdin=thing(group, "x", size=7))
    head, row = kubectl("get", f"things.{group}").splitlines()
    assert head.split() == ["NAME", "SIZE", "DEEP", "AGE"] and row.split()[:2] == ["x", "7"]


def test_64_how_a_pod_is_doing(kubectl, api):
    name = unique()
    api.ok("POST", PODS, pod(name))
    waiting = {"name": "c", "ready": False, "restartCount": 3, "image": "img:1", "imageID": "",
               "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    api.ok("PATCH", f"{PODS}/{name}/status", {"status": {"phase": "Running", "containerStatuses": [waiting]}},
           "application/merge-patch+json")
    assert kubectl("get", "pod", name).splitlines()[1].split()[2] == "CrashLoopBackOff"
    api.ok("DELETE", f"{PODS}/{name}")
    assert kubectl("get", "pod", name).splitlines()[1].split()[2] == "Terminating"
    kubectl("delete", "pod", name, "--force", "--grace-period=0")


def test_66_events(kubectl, api):
    name = unique()
    api.ok("POST", "/api/v1/namespaces/default/events", {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Pod", "apiVersion": "v1", "name": name, "namespace": "default"},
        "reason": "Tested", "message": "it was tested", "type": "Normal", "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"})
    lines = kubectl("get", "events", "--field-selector", f"involvedObject.name={name}").splitlines()
    assert lines[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert lines[1].split()[1:] == ["Normal", "Tested", f"pod/{name}", "it", "was", "tested"]
    if not kubectl.old:
        assert "it was tested" in kubectl("events", "--for", f"pod/{name}")
        assert "No events" in kubectl.run("events", "--for", "pod/other").stderr


# ---- 10.5, by kubectl ----


def test_100_patches_of_all_three_types(kubectl, api):
    name = unique()
    kubectl("create", "-f", "-", stdin=config_map(name, a="1"))
    kubectl("patch", "cm", name, "-p", '{"data":{"b":"2"}}')
    kubectl("patch", "cm", name, "--type=merge", "-p", '{"data":{"a":null}}')
    kubectl("patch", "cm", name, "--type=json", "-p", '[{"op":"add","path":"/data/c","value":"3"}]')
    assert api.ok("GET", f"{CM}/{name}")["data"] == {"b": "2", "c": "3"}


def test_109_replace_force_and_set(kubectl, api):
    name = unique()
    kubectl("create", "-f", "-", stdin=pod(name))
    uid = api.ok("GET", f"{PODS}/{name}")["metadata"]["uid"]
    kubectl("set", "image", f"pod/{name}", "c=img:2")
    assert api.ok("GET", f"{PODS}/{name}")["spec"]["containers"][0]["image"] == "img:2"
    kubectl("create", "-f", "-", stdin=config_map(name, a="1"))
    before = api.ok("GET", f"{CM}/{name}")["metadata"]["uid"]
    kubectl("replace", "--force", "-f", "-", stdin=config_map(name, a="2"))
    after = api.ok("GET", f"{CM}/{name}")
    assert after["metadata"]["uid"] != before and after["data"] == {"a": "2"} and uid
    kubectl("delete", "pod", name, "--force", "--grace-period=0")


def test_110_diff(kubectl, api):
    name = unique()
    kubectl("apply", "-f", "-", stdin=config_map(name, a="1"))
    rv = api.ok("GET", f"{CM}/{name}")["metadata"]["resourceVersion"]
    assert kubectl.run("diff", "-f", "-", stdin=config_map(name, a="1")).returncode == 0
    r = kubectl.run("diff", "-f", "-", stdin=config_map(name, a="2"))
    assert r.returncode == 1 and "+  a: \"2\"" in r.stdout, r.stdout + r.stderr
    assert kubectl.run("diff", "-f", "-", stdin=config_map(unique(), a="2")).returncode == 1
    assert api.ok("GET", f"{CM}/{name}")["metadata"]["resourceVersion"] == rv


def test_a_dry_run_by_the_server(kubectl, api):
    name = unique()
    assert "server dry run" in kubectl("apply", "--dry-run=server", "-f", "-", stdin=config_map(name, a="1"))
    assert api.request("GET", f"{CM}/{name}")[0] == 404


def test_a_misspelt_field_is_told_before_anything_is_written(kubectl, api):
    name = unique()
    bad = {**config_map(name), "dta": {"a": "1"}}
    r = kubectl.run("apply", "-f", "-", stdin=bad)
    assert r.returncode != 0 and 'unknown field "dta"' in r.stderr, r.stderr
    kubectl("apply", "--validate=false", "-f", "-", stdin=bad)
    nested = pod(name)
    nested["spec"]["containers"][0]["imagePullPolizy"] = "Always"
    r = kubectl.run("create", "-f", "-", stdin=nested)
    assert r.returncode != 0 and "imagePullPolizy" in r.stderr
    group = f"{unique('g')}.test"
    make_crd(kubectl, group)
    r = kubectl.run("create", "-f", "-", stdin=thing(group, "x", sise=1))
    assert r.returncode != 0 and "sise" in r.stderr, r.stderr


def test_a_kustomization_is_applied_and_compared(kubectl, api, tmp_path):
    name = unique()
    (tmp_path / "cm.yaml").write_text(json.dumps(config_map(name, a="1")))
    (tmp_path / "kustomization.yaml").write_text("resources: [cm.yaml]\ncommonLabels: {team: edge}\n")
    kubectl("apply", "-k", str(tmp_path))
    assert api.ok("GET", f"{CM}/{name}")["metadata"]["labels"] == {"team": "edge"}
    assert kubectl.run("diff", "-k", str(tmp_path)).returncode == 0
    kubectl("delete", "-k", str(tmp_path))
    assert api.request("GET", f"{CM}/{name}")[0] == 404


def test_waiting_for_conditions_and_deletion(kubectl, api):
    name = unique()
    api.ok("POST", PODS, pod(name))
    waiter = subprocess.Popen([*kubectl.argv, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s"],
                              stdout=subprocess.PIPE, text=True)
    api.ok("PATCH", f"{PODS}/{name}/status", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
           "application/strategic-merge-patch+json")
    assert waiter.communicate(timeout=90)[0].strip() == f"pod/{name} condition met"
    kubectl("delete", "pod", name, "--force", "--grace-period=0")
    kubectl("wait", "--for=delete", f"pod/{name}", "--timeout=60s") if not kubectl.old else None
