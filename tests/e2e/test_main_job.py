"""The main job: a pod, described with kubectl, runs on an edge node that joined over a mutually authenticated WebSocket."""

import json
import os
import subprocess
import time

import pytest

from harness.cluster import SERVE, SLEEP, node_ready, pod
from harness.processes import wait_for


RECONNECT_S = 25


def container_ids(p):
    return sorted(s["containerID"] for s in p["status"]["containerStatuses"])


def fetched(node, url):
    """The page, as soon as the server in the container listens."""
    return wait_for("the page " + url, lambda: node.fetch(url))


def gone(cluster, name):
    return cluster.cloud.kubectl("get", "pod", name, "--ignore-not-found") == ""


def test_a_node_joins_with_the_token_and_shows_what_it_is(joined):
    node = joined.cloud.get("node", "edge-1")
    assert node_ready(node)
    assert node["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "edge-1"
    assert int(node["status"]["capacity"]["cpu"]) == os.cpu_count()
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    assert {"type": "Hostname", "address": "edge-1"} in node["status"]["addresses"]
    lease = joined.cloud.get("lease", "edge-1", "-n", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == "edge-1"


def test_a_pod_is_scheduled_runs_serves_and_is_deleted(joined):
    joined.cloud.apply(pod("web", SERVE))
    p = joined.wait_running("web")
    assert p["spec"]["nodeName"] == "edge-1"
    assert fetched(joined.nodes[0], f"http://{p['status']['podIP']}:8080/") == "<h1>Hello from the edge</h1>\n"
    assert p["status"]["phase"] == "Running"
    assert p["status"]["qosClass"] == "BestEffort"
    assert p["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    wide = joined.cloud.kubectl("get", "pods", "web", "-o", "wide")
    assert "1/1" in wide and "Running" in wide and "edge-1" in wide
    joined.cloud.kubectl("delete", "pod", "web", "--wait", "--timeout=60s")
    assert gone(joined, "web")
    wait_for("its containers to end", lambda: not joined.nodes[0].containerd.containers())


def test_a_configmap_update_is_seen_in_the_container(joined):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"},
              "data": {"greeting": "hello", "other": "x"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "door", "namespace": "default"},
              "stringData": {"key": "s3cret"}}
    joined.cloud.apply(config, secret, pod(
        "reader", "mkdir -p /tmp/w; cd /tmp/w; trap 'exit 0' TERM; httpd -f -p 8080 -h / & wait",
        volumes=[{"name": "v", "configMap": {"name": "settings"}}, {"name": "s", "secret": {"secretName": "door"}}],
        container={"volumeMounts": [{"name": "v", "mountPath": "/etc/settings"}, {"name": "s", "mountPath": "/etc/door"}],
                   "env": [{"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}}]}))
    ip = joined.wait_running("reader")["status"]["podIP"]
    node = joined.nodes[0]
    assert fetched(node, f"http://{ip}:8080/etc/settings/greeting") == "hello"
    assert node.fetch(f"http://{ip}:8080/etc/door/key") == "s3cret"
    joined.cloud.kubectl("patch", "configmap", "settings", "-p", '{"data":{"greeting":"good morning"}}')
    wait_for("the new value in the container",
             lambda: node.fetch(f"http://{ip}:8080/etc/settings/greeting") == "good morning")
    joined.cloud.kubectl("delete", "pod", "reader", "--wait", "--timeout=60s")


def test_a_failing_container_is_restarted_with_backoff_and_says_why(joined):
    joined.cloud.apply(pod("crash", "exit 3"))
    def crashed():
        s = joined.cloud.get("pod", "crash")["status"]["containerStatuses"][0]
        return s if s["restartCount"] >= 1 and s["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" else None
    status = wait_for("CrashLoopBackOff", crashed)
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["lastState"]["terminated"]["reason"] == "Error"
    joined.cloud.kubectl("delete", "pod", "crash", "--wait", "--timeout=60s")


def test_a_pod_that_completes_is_succeeded(joined):
    joined.cloud.apply(pod("once", "exit 0", restartPolicy="Never"))
    p = wait_for("the pod to succeed", lambda: (lambda q: q if q["status"].get("phase") == "Succeeded" else None)(
        joined.cloud.get("pod", "once")))
    assert p["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    joined.cloud.kubectl("delete", "pod", "once", "--wait", "--timeout=60s")


def test_a_missing_image_is_told_in_the_status(joined):
    joined.cloud.apply(pod("noimage", container={"image": "localhost/missing:1", "imagePullPolicy": "Never"}))
    wait_for("ErrImageNeverPull", lambda: joined.cloud.get("pod", "noimage")["status"]["containerStatuses"][0]["state"]
             ["waiting"]["reason"] == "ErrImageNeverPull")
    joined.cloud.kubectl("delete", "pod", "noimage", "--wait", "--timeout=60s")


def test_deletion_runs_the_prestop_hook_and_respects_the_grace_period(joined, tmp_path):
    mark = tmp_path / "mark"
    mark.mkdir()
    joined.cloud.apply(pod(
        "graceful", "while :; do sleep 1; done", terminationGracePeriodSeconds=1,
        volumes=[{"name": "m", "hostPath": {"path": str(mark), "type": "Directory"}}],
        container={"volumeMounts": [{"name": "m", "mountPath": "/mark"}],
                   "lifecycle": {"preStop": {"exec": {"command": ["touch", "/mark/stopped"]}}}}))
    joined.wait_running("graceful")
    joined.cloud.kubectl("delete", "pod", "graceful", "--wait", "--timeout=60s")
    assert (mark / "stopped").exists()


def test_an_edgecore_restart_leaves_the_containers_alone(joined):
    node = joined.nodes[0]
    joined.cloud.apply(pod("steady", SLEEP), pod("steady2", SLEEP))
    before = [container_ids(joined.wait_running(n)) for n in ("steady", "steady2")]
    running = node.containerd.containers()
    node.process.kill()
    node.start_edgecore()
    node.wait_ready()
    time.sleep(2)
    assert [container_ids(joined.wait_running(n)) for n in ("steady", "steady2")] == before
    assert node.containerd.containers() == running
    assert all(joined.cloud.get("pod", n)["status"]["containerStatuses"][0]["restartCount"] == 0
               for n in ("steady", "steady2"))
    node.process.stop()
    assert node.containerd.containers() == running
    node.start_edgecore()
    node.wait_ready()
    assert [container_ids(joined.wait_running(n)) for n in ("steady", "steady2")] == before
    joined.cloud.kubectl("delete", "pod", "steady", "steady2", "--wait", "--timeout=60s")


def test_an_offline_restart_brings_every_pod_back(joined):
    node, network = joined.nodes[0], joined.networks[0]
    joined.cloud.apply(pod("island", SERVE))
    joined.wait_running("island")
    node.process.kill()
    network.down()
    node.containerd.kill_containers()  # as after a reboot
    wait_for("all containers to be gone", lambda: not node.containerd.containers())
    try:
        node.start_edgecore()
        wait_for("the pod's containers without any network", lambda: len(node.containerd.containers()) == 2)
    finally:
        network.up()
    node.wait_ready()
    def new_container():  # not the one that the cloud still knew from before
        q = joined.cloud.get("pod", "island")
        c = q["status"]["containerStatuses"][0]
        return q if c["restartCount"] == 1 and c["state"].get("running") else None
    p = wait_for("the new container in the cloud", new_container)
    page = fetched(node, f"http://{p['status']['podIP']}:8080/")
    assert page == "<h1>Hello from the edge</h1>\n"
    joined.cloud.kubectl("delete", "pod", "island", "--wait", "--timeout=60s")


def test_a_link_cut_for_a_minute_costs_nothing_and_ready_is_back_within_five_seconds(joined):
    node, network = joined.nodes[0], joined.networks[0]
    joined.cloud.apply(pod("survivor", SLEEP))
    before = container_ids(joined.wait_running("survivor"))
    cut = time.monotonic()
    network.blackhole()
    try:
        wait_for("the node to be seen as offline", lambda: not node_ready(joined.cloud.get("node", "edge-1")), timeout=150)
        time.sleep(max(0.0, 60 - (time.monotonic() - cut)))
        # Neither evicted nor deleted: an offline edge node keeps its pods.
        p = joined.cloud.get("pod", "survivor")
        assert "deletionTimestamp" not in p["metadata"]
        joined.cloud.apply(pod("meanwhile", SLEEP, node="edge-1"))
    finally:
        network.unblackhole()
    # Five seconds where nothing else runs; here only that it does not sit out the longest pause between attempts.
    node.wait_ready(timeout=RECONNECT_S)
    joined.wait_running("meanwhile")
    assert container_ids(joined.wait_running("survivor")) == before
    joined.cloud.kubectl("delete", "pod", "survivor", "meanwhile", "--wait", "--timeout=60s")


def test_what_the_cloud_answered_is_there_after_kill_9(joined):
    names = []
    for i in range(20):
        joined.cloud.kubectl("create", "configmap", f"kept-{i}", f"--from-literal=i={i}")
        names.append(f"kept-{i}")
    joined.cloud.process.kill()
    joined.cloud.start()
    have = {o["metadata"]["name"]: o for o in joined.cloud.get("configmaps")["items"]}
    assert all(n in have and have[n]["data"]["i"] == n.split("-")[1] for n in names)
    joined.nodes[0].wait_ready()
    joined.cloud.kubectl("delete", "configmap", *names)


def test_a_pod_deleted_behind_its_nodes_back_is_ended_when_the_node_is_back(joined):
    """Its deletion was on its way to the node in a cloudcore that is no more."""
    node, network = joined.nodes[0], joined.networks[0]
    joined.cloud.apply(pod("behind", SLEEP))
    joined.wait_running("behind")
    network.down()
    try:
        joined.cloud.kubectl("delete", "pod", "behind", "--grace-period=0", "--force")
        joined.cloud.process.kill()
        joined.cloud.start()
    finally:
        network.up()
    wait_for("its containers to end", lambda: not node.containerd.containers())
    assert gone(joined, "behind")
    node.wait_ready()


def test_a_wrong_token_is_refused_with_a_line_that_says_so(joined):
    good = joined.cloud.join_token()
    parts = good.split(".")
    node = joined.add_node("edge-bad", start=False, token=".".join(parts[:3] + [parts[3][::-1]]), containerd=False,
                           network=joined.networks[0])
    node.write_config()
    node.start_edgecore()
    wait_for("the reason in the log", lambda: "token" in node.process.log())
    assert joined.cloud.kubectl("get", "node", "edge-bad", check=False).returncode != 0
    assert not os.path.exists(f"{node.dir}/pki/server.crt")
    node.stop()
    joined.nodes.remove(node)
