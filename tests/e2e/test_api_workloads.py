"""Workloads on the embedded API server, with kubectl as the client: the numbers are those of the conformance checklist
that it is built against. The nodes are played by a thread that reports what a node would."""

import json
import subprocess
import threading
import time
import uuid

import pytest

from harness.api import Api
from harness.processes import wait_for

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
NODES = ("n1", "n2", "n3")


class Agents:
    """Reports pods as running (or as done, where their command is `done` or `fail`), and confirms deletions."""

    def __init__(self, kubeconfig):
        self.api, self.stop, self.silent, self.most_down = Api(kubeconfig), threading.Event(), set(), {}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop.wait(0.1):
            for pod in self.api.ok("GET", "/api/v1/pods")["items"]:
                node = pod["spec"].get("nodeName")
                if node in NODES and node not in self.silent:
                    self.serve(pod)

    def serve(self, pod):
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if "deletionTimestamp" in pod["metadata"]:
            self.api.request("DELETE", path, {"gracePeriodSeconds": 0})
            return
        if pod["status"]["phase"] != "Pending" or "unready" in pod["metadata"].get("labels", {}):
            return
        command = pod["spec"]["containers"][0].get("command", [""])[0]
        phase = {"done": "Succeeded", "fail": "Failed"}.get(command, "Running")
        status = {"phase": phase, "podIP": f"10.1.0.{abs(hash(path)) % 250 + 1}", "conditions": [
            {"type": "Ready", "status": "True" if phase == "Running" else "False", "lastTransitionTime": now()}]}
        if phase == "Running":
            status["containerStatuses"] = [{"name": c["name"], "ready": True, "image": c["image"], "imageID": "",
                                            "restartCount": 0, "state": {"running": {"startedAt": now()}}}
                                           for c in pod["spec"]["containers"]]
        self.api.request("PATCH", path + "/status", {"status": status}, STRATEGIC)

    def close(self):
        self.stop.set()
        self.thread.join()


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def node_object(name, ready="True", **spec):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": spec, "status": {
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "20"}, "capacity": {"cpu": "4", "memory": "8Gi", "pods": "20"},
                "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": now(), "lastTransitionTime": now()}]}}


@pytest.fixture(scope="module")
def api(cloud_only):
    api = Api(cloud_only.cloud.kubeconfig)
    for name in NODES:
        api.ok("POST", "/api/v1/nodes", node_object(name))
    return api


@pytest.fixture(scope="module")
def agents(cloud_only, api):
    agents = Agents(cloud_only.cloud.kubeconfig)
    yield agents
    agents.close()


class Kubectl:
    def __init__(self, kubeconfig, ns):
        self.base, self.ns = ["kubectl", "--kubeconfig", kubeconfig, "-n", ns], ns

    def __call__(self, *args, ok=True, input=None):
        r = subprocess.run([*self.base, *args], capture_output=True, text=True, timeout=120, input=input)
        assert not ok or r.returncode == 0, f"kubectl {' '.join(args)}: {r.stdout}{r.stderr}"
        return r.stdout if ok else r.stdout + r.stderr

    def items(self, what, *args):
        return json.loads(self("get", what, *args, "-o", "json"))["items"]

    def apply(self, *objects):
        return self("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


@pytest.fixture
def k(cloud_only, api, agents):
    ns = f"t-{uuid.uuid4().hex[:8]}"
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": ns}})
    yield Kubectl(cloud_only.cloud.kubeconfig, ns)
    api.request("DELETE", f"/api/v1/namespaces/{ns}")


def ready_pods(k, *args):
    return [p for p in k.items("pods", *args) if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]]


def set_ready(api, name, status):
    api.ok("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [
        {"type": "Ready", "status": status, "lastHeartbeatTime": now(), "lastTransitionTime": now()}]}}, STRATEGIC)


# ---- Deployments ----

def test_141_a_deployment_gets_its_pods_on_nodes_that_fit(k):
    k("create", "deployment", "w", "--image=x:1", "--replicas=3")
    assert "successfully rolled out" in k("rollout", "status", "deployment/w", "--timeout=60s")
    pods = ready_pods(k)
    assert len(pods) == 3 and {p["spec"]["nodeName"] for p in pods} == set(NODES)
    line = k("get", "deployment", "w", "--no-headers").split()
    assert line[1:4] == ["3/3", "3", "3"]
    assert {"deployment.apps/w", "service"} - set(k("get", "all", "-o", "name").split()) == {"service"}


def test_142_a_new_image_rolls_out_and_back(k, api):
    k("create", "deployment", "w", "--image=x:1", "--replicas=4")
    k("rollout", "status", "deployment/w", "--timeout=60s")
    k("set", "image", "deployment/w", "x=x:2")
    k("rollout", "status", "deployment/w", "--timeout=60s")
    wait_for("only the new image", lambda: [p["spec"]["containers"][0]["image"] for p in ready_pods(k)] == ["x:2"] * 4, 60)
    history = k("rollout", "history", "deployment/w")
    assert [l.split()[0] for l in history.splitlines()[2:] if l.strip()] == ["1", "2"]
    k("rollout", "undo", "deployment/w")
    k("rollout", "status", "deployment/w", "--timeout=60s")
    wait_for("the old image", lambda: [p["spec"]["containers"][0]["image"] for p in ready_pods(k)] == ["x:1"] * 4, 60)
    assert len(k.items("rs")) == 2  # the first one again, under a new revision
    history = k("rollout", "history", "deployment/w")
    assert [l.split()[0] for l in history.splitlines()[2:] if l.strip()] == ["2", "3"]


def test_142_a_paused_deployment_only_scales(k):
    k("create", "deployment", "w", "--image=x:1", "--replicas=1")
    k("rollout", "status", "deployment/w", "--timeout=60s")
    k("rollout", "pause", "deployment/w")
    k("set", "image", "deployment/w", "x=x:2")
    k("scale", "deployment/w", "--replicas=2")
    wait_for("two pods", lambda: len(ready_pods(k)) == 2, 60)
    assert {p["spec"]["containers"][0]["image"] for p in ready_pods(k)} == {"x:1"}
    k("rollout", "resume", "deployment/w")
    k("rollout", "status", "deployment/w", "--timeout=60s")
    wait_for("the new image", lambda: [p["spec"]["containers"][0]["image"] for p in ready_pods(k)] == ["x:2"] * 2, 60)
    k("rollout", "restart", "deployment/w")
    k("rollout", "status", "deployment/w", "--timeout=60s")


def test_142_a_recreated_deployment_never_has_two_templates_at_once(k):
    k.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"}, "spec": {
        "replicas": 2, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"a": "w"}},
        "template": {"metadata": {"labels": {"a": "w"}}, "spec": {"containers": [{"name": "x", "image": "x:1"}]}}}})
    k("rollout", "status", "deployment/w", "--timeout=60s")
    k("set", "image", "deployment/w", "x=x:2")
    seen = set()
    for _ in range(600):
        images = frozenset(p["spec"]["containers"][0]["image"] for p in k.items("pods"))
        seen.add(images)
        if images == {"x:2"}:
            break
    assert frozenset(("x:1", "x:2")) not in seen and frozenset(("x:2",)) in seen


@pytest.mark.parametrize("how", ["background", "foreground", "orphan"])
def test_143_deleting_a_deployment(k, how):
    k("create", "deployment", "w", "--image=x:1", "--replicas=2")
    k("rollout", "status", "deployment/w", "--timeout=60s")
    k("delete", "deployment", "w", f"--cascade={how}", "--timeout=60s")
    if how == "orphan":
        wait_for("no owner", lambda: "ownerReferences" not in k.items("rs")[0]["metadata"], 60)
        assert len(ready_pods(k)) == 2
        k("delete", "rs", "--all")
    elif how == "foreground":
        assert k.items("rs") == []
    wait_for("all gone", lambda: k.items("rs") + k.items("pods") == [], 60)


def test_scale_is_a_view_of_the_object(k, api):
    k("create", "deployment", "w", "--image=x:1", "--replicas=1")
    path = f"/apis/apps/v1/namespaces/{k.ns}/deployments/w/scale"
    scale = api.ok("GET", path)
    assert (scale["kind"], scale["apiVersion"], scale["spec"]["replicas"]) == ("Scale", "autoscaling/v1", 1)
    assert scale["status"]["selector"] == "app=w"
    stale, scale["spec"]["replicas"] = dict(scale["metadata"]), 2
    del scale["metadata"]["resourceVersion"]
    assert api.ok("PUT", path, scale)["spec"]["replicas"] == 2
    assert api.request("PATCH", path, {"spec": {"replicas": -1}}, MERGE)[0] == 422
    assert api.request("PUT", path, {**scale, "metadata": stale})[0] == 409
    k("scale", "deployment/w", "--current-replicas=2", "--replicas=3")
    wait_for("three pods", lambda: len(ready_pods(k)) == 3, 60)


def test_a_selector_that_misses_its_template_is_refused(k):
    text = k("apply", "-f", "-", ok=False, input=json.dumps({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}}}))
    assert "spec.template.metadata.labels" in text and "`selector` does not match template `labels`" in text


# ---- DaemonSets ----

def daemon(name, image="x:1", **spec):
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"d": name}}, "template": {"metadata": {"labels": {"d": name}}, "spec": {
            "containers": [{"name": "x", "image": image}], **spec}}}}


def test_144_a_daemon_runs_on_each_node_cordoned_or_new(k, api):
    k("cordon", "n2")
    try:
        k.apply(daemon("d"))
        k("rollout", "status", "ds/d", "--timeout=60s")
        assert {p["spec"]["nodeName"] for p in ready_pods(k)} == set(NODES)
        name = f"extra-{uuid.uuid4().hex[:6]}"
        api.ok("POST", "/api/v1/nodes", node_object(name))
        wait_for("one more", lambda: name in {p["spec"].get("nodeName") for p in k.items("pods")}, 60)
        api.ok("DELETE", f"/api/v1/nodes/{name}")
    finally:
        k("uncordon", "n2")


def test_152_a_daemon_is_rolled_out_while_a_node_is_silent(k, api, agents):
    k.apply(daemon("d"))
    k("rollout", "status", "ds/d", "--timeout=60s")
    agents.silent.add("n3")
    set_ready(api, "n3", "Unknown")
    try:
        wait_for("the taint", lambda: "unreachable" in json.dumps(api.ok("GET", "/api/v1/nodes/n3")["spec"]), 60)
        old = next(p["metadata"]["uid"] for p in k.items("pods") if p["spec"]["nodeName"] == "n3")
        k("set", "image", "ds/d", "x=x:2")
        k("rollout", "status", "ds/d", "--timeout=60s")
        images = {p["spec"]["nodeName"]: p["spec"]["containers"][0]["image"] for p in k.items("pods")}
        assert images == {"n1": "x:2", "n2": "x:2", "n3": "x:1"}
        assert old in {p["metadata"]["uid"] for p in k.items("pods")}  # 148: left alone
    finally:
        agents.silent.discard("n3")
        set_ready(api, "n3", "True")
    wait_for("the node that came back", lambda: {p["spec"]["containers"][0]["image"] for p in ready_pods(k)} == {"x:2"}, 60)
    k("rollout", "undo", "ds/d")
    k("rollout", "status", "ds/d", "--timeout=60s")
    assert [l.split()[0] for l in k("rollout", "history", "ds/d").splitlines()[2:] if l.strip()] == ["2", "3"]


# ---- Jobs ----

def test_145_a_job_runs_to_its_end(k):
    k("create", "job", "j", "--image=x:1", "--", "done")
    k("wait", "--for=condition=complete", "job/j", "--timeout=60s")
    job = k.items("jobs")[0]
    assert job["status"]["succeeded"] == 1 and job["status"]["completionTime"]
    assert "batch.kubernetes.io/job-tracking" not in json.dumps(k.items("pods"))
    assert k("get", "job", "j", "--no-headers").split()[1:3] == ["Complete", "1/1"]
    k("delete", "job", "j")
    wait_for("no pods", lambda: k.items("pods") == [], 60)


def job(name, command, **spec):
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {**spec, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "x", "image": "x", "command": [command]}]}}}}


def test_145_jobs_in_parallel_that_fail_and_that_expire(k):
    k.apply(job("many", "done", completions=5, parallelism=2), job("bad", "fail", backoffLimit=0),
            job("brief", "done", ttlSecondsAfterFinished=0), job("endless", "run", activeDeadlineSeconds=1))
    k("wait", "--for=condition=complete", "job/many", "--timeout=60s")
    assert k.items("jobs", "--field-selector=metadata.name=many")[0]["status"]["succeeded"] == 5
    for name, reason in (("bad", "BackoffLimitExceeded"), ("endless", "DeadlineExceeded")):
        k("wait", "--for=condition=failed", f"job/{name}", "--timeout=60s")
        status = json.loads(k("get", "job", name, "-o", "json"))["status"]
        assert [c["reason"] for c in status["conditions"] if c["type"] == "Failed"] == [reason]
    wait_for("expiry", lambda: "brief" not in k("get", "jobs", "-o", "name"), 60)


# ---- scheduler ----

def pod(name, labels=None, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}},
            "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def test_146_a_pod_that_fits_nowhere_says_why(k):
    big = pod("big")
    big["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "3", "memory": "1Gi"}}
    for i in range(4):
        big["metadata"]["name"] = f"big{i}"
        k.apply(big)
    wait_for("three placed", lambda: len(ready_pods(k)) == 3, 60)
    waiting = wait_for("one told", lambda: [p for p in k.items("pods") if any(
        c.get("reason") == "Unschedulable" for c in p["status"].get("conditions", []) if c["type"] == "PodScheduled")], 60)
    assert len(waiting) == 1
    name = waiting[0]["metadata"]["name"]
    wait_for("the event", lambda: "0/3 nodes are available: 3 Insufficient cpu." in k("describe", "pod", name), 60)
    k("delete", "pod", next(f"big{i}" for i in range(4) if f"big{i}" != name))
    wait_for("room", lambda: name in {p["metadata"]["name"] for p in ready_pods(k)}, 60)


def test_host_ports_and_priorities_decide(k):
    port = [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 8080}]}]
    k.apply(*(pod(f"p{i}", containers=port) for i in range(4)))
    wait_for("three placed", lambda: len(ready_pods(k)) == 3, 60)
    assert len({p["spec"]["nodeName"] for p in ready_pods(k)}) == 3
    wait_for("the reason", lambda: "free ports" in json.dumps(k.items("events")), 60)
    k.apply(pod("critical", priorityClassName="system-node-critical"))
    assert json.loads(k("get", "pod", "critical", "-o", "json"))["spec"]["priority"] == 2000001000
    assert "no PriorityClass" in k("apply", "-f", "-", ok=False, input=json.dumps(pod("x", priorityClassName="none")))


# ---- nodes ----

def test_149_who_asks_to_be_moved_is_moved(k, api, agents):
    soon = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
    k.apply(pod("stays", nodeSelector={"kubernetes.io/hostname": "n3"}),
            pod("moves", nodeSelector={"kubernetes.io/hostname": "n3"}, tolerations=[soon]))
    wait_for("both run", lambda: len(ready_pods(k)) == 2, 60)
    agents.silent.add("n3")
    set_ready(api, "n3", "Unknown")
    try:
        moving = lambda: {p["metadata"]["name"] for p in k.items("pods") if "deletionTimestamp" in p["metadata"]}
        wait_for("the one that asked", lambda: moving() == {"moves"}, 60)
    finally:
        agents.silent.discard("n3")
        set_ready(api, "n3", "True")


def test_151_drain_evicts_and_respects_budgets(k):
    k("create", "deployment", "w", "--image=x:1", "--replicas=2")
    k.apply(daemon("d"))
    k("rollout", "status", "deployment/w", "--timeout=60s")
    k("rollout", "status", "ds/d", "--timeout=60s")
    node = ready_pods(k, "-l", "app=w")[0]["spec"]["nodeName"]
    k("create", "pdb", "b", "--selector=app=w", "--min-available=2")
    drain = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app=w"]
    wait_for("the budget is counted", lambda: k("get", "pdb", "b", "--no-headers").split()[3] == "0", 60)
    assert "disruption budget" in k(*drain, "--timeout=3s", ok=False)
    k("delete", "pdb", "b")
    try:
        assert "drained" in k(*drain, "--timeout=60s")
        wait_for("elsewhere", lambda: len([p for p in ready_pods(k, "-l", "app=w") if p["spec"]["nodeName"] != node]) == 2, 60)
        assert node in {p["spec"]["nodeName"] for p in ready_pods(k, "-l", "d=d")}
    finally:
        k("uncordon", node)


# ---- Services ----

def test_153_endpoints_follow_their_pods(k, api):
    ports = [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 8080}]}]
    k.apply(pod("a", {"app": "s"}, containers=ports), pod("b", {"app": "s", "unready": ""}, containers=ports))
    k.apply(*({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "selector": {"app": "s"}, "ports": [{"port": 80, "targetPort": "web"}], **spec}}
        for name, spec in (("s", {}), ("headless", {"clusterIP": "None"}), ("node", {"type": "NodePort"}))))
    services = {s["metadata"]["name"]: s["spec"] for s in k.items("services")}
    assert services["s"]["clusterIP"].startswith("10.96.") and services["headless"]["clusterIP"] == "None"
    assert 30000 <= services["node"]["ports"][0]["nodePort"] <= 32767
    ready = lambda name: [(a["targetRef"]["name"], s["ports"][0]["port"]) for e in k.items("endpoints")
                          if e["metadata"]["name"] == name for s in e.get("subsets", []) for a in s.get("addresses", [])]
    for name in services:
        wait_for(f"{name} leads to a", lambda: ready(name) == [("a", 8080)], 60)
    slices = k.items("endpointslices", "-l", "kubernetes.io/service-name=s")
    assert [(e["targetRef"]["name"], e["conditions"]["ready"]) for e in slices[0]["endpoints"]] == [("a", True)]
    api.ok("PATCH", f"/api/v1/namespaces/{k.ns}/pods/a/status", {"status": {"conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": now()}]}}, STRATEGIC)
    wait_for("not ready", lambda: ready("s") == [], 60)
    k("delete", "service", "s")
    wait_for("all gone", lambda: "s" not in [e["metadata"]["name"] for e in k.items("endpoints")] and k.items(
        "endpointslices", "-l", "kubernetes.io/service-name=s") == [], 60)


def test_expose_and_the_address_stays(k):
    k("create", "deployment", "w", "--image=x:1", "--port=80")
    k("expose", "deployment", "w", "--port=80")
    ip = k.items("services")[0]["spec"]["clusterIP"]
    k("patch", "service", "w", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    assert k.items("services")[0]["spec"]["clusterIP"] == ip
    refused = k("patch", "service", "w", "--type=merge", "-p", '{"spec":{"clusterIP":"10.96.9.9"}}', ok=False)
    assert "immutable" in refused


# ---- garbage ----

def test_154_pods_of_a_deleted_node_are_collected(k, api):
    name = f"gone-{uuid.uuid4().hex[:6]}"
    api.ok("POST", "/api/v1/nodes", node_object(name))
    k.apply(pod("lost", nodeName=name))
    api.ok("DELETE", f"/api/v1/nodes/{name}")
    wait_for("collected", lambda: k.items("pods") == [], 90)


def test_what_names_owners_that_are_gone_goes(k, api):
    maps = f"/api/v1/namespaces/{k.ns}/configmaps"
    owner = api.ok("POST", maps, {"metadata": {"name": "owner"}})
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    other = {**ref, "name": "kept", "uid": api.ok("POST", maps, {"metadata": {"name": "kept"}})["metadata"]["uid"]}
    foreign = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "u"}
    for name, refs in (("one", [ref]), ("both", [ref, other]), ("stale", [{**ref, "uid": "another"}]), ("foreign", [foreign])):
        api.ok("POST", maps, {"metadata": {"name": name, "ownerReferences": refs}})
    names = lambda: {m["metadata"]["name"] for m in api.ok("GET", maps)["items"]} - {"kube-root-ca.crt"}
    wait_for("the stale one goes", lambda: names() == {"owner", "kept", "one", "both", "foreign"}, 60)
    api.ok("DELETE", f"{maps}/owner")
    wait_for("its dependent goes", lambda: names() == {"kept", "both", "foreign"}, 60)
    wait_for("the reference goes", lambda: [r["name"] for r in api.ok("GET", f"{maps}/both")["metadata"]["ownerReferences"]] == ["kept"], 60)


def test_135_a_namespace_goes_with_all_that_is_in_it(k):
    k("create", "deployment", "w", "--image=x:1", "--replicas=2")
    k("expose", "deployment", "w", "--port=80")
    k.apply(daemon("d"), job("j", "run"))
    k("rollout", "status", "deployment/w", "--timeout=60s")
    k("delete", "namespace", k.ns, "--timeout=90s")
