"""What befalls a machine that nobody can reach: full disks, damaged files, kills at any moment, clocks that are wrong, links
that lie. One cloud and one node for all tests; each puts right what it broke."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import time

import pytest

from harness.cluster import SLEEP, Cluster, condition, node_ready, pod
from harness.processes import wait_for


@pytest.fixture(scope="module")
def fleet():
    """A cloud and a node whose edge database lies on a small disk of its own."""
    c = Cluster()
    try:
        network = c.add_network()
        c.start_cloud(advertise=network.host_ip)
        node = c.add_node("edge-1", start=False, network=network)
        node.disk = os.path.join(node.dir, "disk")
        os.mkdir(node.disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", node.disk], check=True)
        node.write_config()
        with open(node.config) as f:
            config = json.load(f)
        node.database = os.path.join(node.disk, "edgecore.db")
        config["database"]["dataSource"] = node.database
        config["modules"]["edged"]["tailoredKubeletConfig"]["readOnlyPort"] = 10350  # in a network namespace of its own
        config["modules"]["edgeHub"]["heartbeat"] = 2
        config["modules"]["edgeHub"]["websocket"]["readDeadline"] = 2
        with open(node.config, "w") as f:
            json.dump(config, f)
        node.start()
        yield c
    finally:
        c.close()


def rows(node):
    with sqlite3.connect(f"file:{node.database}?mode=ro", uri=True) as db:
        return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta WHERE type != 'podpatch'")}


def configmap(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def user(name, *configmaps):
    """A pod on the node that mounts ConfigMaps."""
    return pod(name, SLEEP, node="edge-1", terminationGracePeriodSeconds=1,
               volumes=[{"name": m, "configMap": {"name": m}} for m in configmaps],
               container={"volumeMounts": [{"name": m, "mountPath": f"/etc/{m}"} for m in configmaps]})


def containers_of(cluster, name):
    return [(s["containerID"], s["restartCount"]) for s in cluster.cloud.get("pod", name)["status"]["containerStatuses"]]


def stored_at_edge(node, name, value):
    return rows(node).get(f"default/configmap/{name}", {}).get("data", {}).get("k") == value


def delete(cluster, *names):
    cluster.cloud.kubectl("delete", "pod", *names, "--wait", "--timeout=60s")


def ready_endpoint(node):
    return node.run(["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:10350/readyz"],
                    capture_output=True, text=True).stdout


def fill(folder):
    """Leaves no room at all in it."""
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as f:
        for size in (65536, 4096, 1):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError:
                pass
    return path


def test_a_full_disk_acknowledges_nothing_and_is_recovered_from(fleet):
    node, cloud = fleet.nodes[0], fleet.cloud
    cloud.apply(configmap("full", k="before"), user("on-full", "full"))
    fleet.wait_running("on-full")
    before = containers_of(fleet, "on-full")
    told = node.process.log().count("nothing can be stored")
    filler = fill(node.disk)
    try:
        for i in range(20):
            cloud.apply(configmap("full", k=f"{i}" + "x" * 20000))
        wait_for("the line", lambda: node.process.log().count("nothing can be stored") == told + 1)
        wait_for("edgecore to say that it is not ready", lambda: ready_endpoint(node) == "503")
        assert node.process.alive()
        assert containers_of(fleet, "on-full") == before
        cloud.apply(configmap("full", k="after"))
    finally:
        os.unlink(filler)
    wait_for("what could not be stored", lambda: stored_at_edge(node, "full", "after"), 90)
    wait_for("edgecore to be ready", lambda: ready_endpoint(node) == "200")
    log = node.process.log()
    assert log.count("nothing can be stored") == told + 1 and "takes writes again" in log
    assert containers_of(fleet, "on-full") == before
    delete(fleet, "on-full")


def test_edgecore_starts_on_a_full_disk_and_runs_what_it_has(fleet):
    node, cloud = fleet.nodes[0], fleet.cloud
    cloud.apply(configmap("old", k="1"), user("stored", "old"))
    fleet.wait_running("stored")
    node.process.kill()
    node.containerd.kill_containers()
    filler = fill(node.disk)
    try:
        node.start_edgecore()
        wait_for("its containers", lambda: len(node.containerd.containers()) == 2, 60)
    finally:
        os.unlink(filler)
    fleet.wait_running("stored")
    delete(fleet, "stored")


def test_a_damaged_database_is_replaced_while_pods_go_on(fleet):
    node, cloud, network = fleet.nodes[0], fleet.cloud, fleet.networks[0]
    cloud.apply(configmap("kept", k="1"), user("unharmed", "kept"))
    fleet.wait_running("unharmed")
    before, running = containers_of(fleet, "unharmed"), node.containerd.containers()
    node.process.kill()
    network.down()
    with open(node.database, "r+b") as f:
        f.write(b"this is no database" * 100)
    for suffix in ("-wal", "-shm"):
        if os.path.exists(node.database + suffix):
            os.unlink(node.database + suffix)
    try:
        node.start_edgecore()
        wait_for("the line", lambda: "the edge database was damaged" in node.process.log())
        wait_for("the pods to be found missing", lambda: "some may be missing" in node.process.log())
        time.sleep(2)  # in which a pod that nothing is known of would be ended
        assert node.containerd.containers() == running
    finally:
        network.up()
    cloud.apply(configmap("kept", k="2"))
    wait_for("the pod and its ConfigMap from the cloud", lambda: "default/pod/unharmed" in rows(node) and
             stored_at_edge(node, "kept", "2"), 60)
    assert containers_of(fleet, "unharmed") == before
    delete(fleet, "unharmed")
    for name in os.listdir(node.disk):
        if ".damaged-" in name:
            os.unlink(os.path.join(node.disk, name))


def test_a_runtime_that_comes_late_gets_its_pods(fleet):
    node, cloud = fleet.nodes[0], fleet.cloud
    node.process.stop()
    node.containerd.kill_containers()
    node.containerd.process.stop()
    if os.path.exists(node.containerd.socket):
        os.unlink(node.containerd.socket)
    node.start_edgecore()
    wait_for("the node to say why it is not ready", lambda: any(
        c["type"] == "Ready" and c["status"] == "False" and "runtime" in c["message"]
        for c in cloud.get("node", "edge-1")["status"]["conditions"]))
    assert ready_endpoint(node) == "503"
    cloud.apply(configmap("late", k="1"), user("early", "late"))
    wait_for("the pod to be stored", lambda: "default/pod/early" in rows(node))
    node.containerd.start()
    node.wait_ready()
    fleet.wait_running("early")
    assert node.process.log().count("container runtime not reachable") <= 4
    delete(fleet, "early")


class Killer:
    """Changes what is wanted while edgecore is killed at moments that only the seed knows."""

    def __init__(self, cluster, seed):
        self.cluster, self.node, self.cloud = cluster, cluster.nodes[0], cluster.cloud
        self.random = random.Random(seed)
        self.pods, self.value, self.n = set(), 0, 0
        self.running = {}  # the container of each pod that was seen running

    def change(self):
        what = self.random.choice(["configmap", "create", "create", "delete"])
        if what == "delete" and self.pods:
            name = self.random.choice(sorted(self.pods))
            self.pods.remove(name)
            self.cloud.kubectl("delete", "pod", name, "--wait=false")
        elif what == "create" and len(self.pods) < 5:
            self.n += 1
            self.pods.add(f"k{self.n}")
            self.cloud.apply(user(f"k{self.n}", "moving"))
        else:
            self.value += 1
            self.cloud.apply(configmap("moving", k=str(self.value)))

    def round(self):
        for _ in range(self.random.randrange(1, 4)):
            self.change()
        time.sleep(self.random.random() * 0.5)
        for p in self.cloud.get("pods")["items"]:
            if condition(p, "Ready") == "True":
                self.running.setdefault(p["metadata"]["name"], p["status"]["containerStatuses"][0]["containerID"])
        self.node.process.kill()
        if self.random.random() < 0.5:
            self.change()
        self.node.start_edgecore()


def test_edgecore_may_be_killed_at_any_moment(fleet):
    node, cloud = fleet.nodes[0], fleet.cloud
    cloud.apply(configmap("moving", k="0"), user("steady", "moving"))
    fleet.wait_running("steady")
    steady = containers_of(fleet, "steady")[0][0]
    killer = Killer(fleet, seed=20260722)
    for _ in range(10):
        killer.round()
    wanted = killer.pods | {"steady"}

    def settled():
        pods = {p["metadata"]["name"]: p for p in cloud.get("pods")["items"]}
        states = {name: [condition(p, "Ready"), p["metadata"].get("deletionTimestamp")] for name, p in pods.items()}
        assert states == {name: ["True", None] for name in wanted}
        return pods

    pods = wait_for("exactly the wanted pods to run", settled, 90)
    # What ran was never restarted. (A container whose start was cut off with edgecore's call had to be started again.)
    now = {name: p["status"]["containerStatuses"][0]["containerID"] for name, p in pods.items()}
    assert now["steady"] == steady
    assert {n: i for n, i in killer.running.items() if n in wanted} == {n: now[n] for n in killer.running if n in wanted}
    wait_for("the last ConfigMap", lambda: stored_at_edge(node, "moving", str(killer.value)), 60)
    # a sandbox and a container each, nothing half made and nothing left over
    wait_for("no other container", lambda: len(node.containerd.containers()) == 2 * len(wanted), 60)
    uids = {p["metadata"]["uid"] for p in pods.values()}
    wait_for("no other folder", lambda: set(os.listdir(f"{node.dir}/kubelet/pods")) == uids, 60)
    assert {key.split("/")[2] for key in rows(node) if "/pod/" in key} == wanted
    seen = f"{node.dir}/kubelet/pods/{pods['steady']['metadata']['uid']}/volumes/kubernetes.io~configmap/moving/k"
    wait_for("the last value in the container's volume", lambda: open(seen).read() == str(killer.value), 60)
    delete(fleet, *wanted)


def is_connected(node):
    out = node.run(["curl", "-s", "-m", "5", "http://127.0.0.1:10350/metrics"], capture_output=True, text=True).stdout
    return "selvage_edgehub_connected 1" in out.splitlines()


def hears(fleet, node, value):
    """Does an update reach the node?"""
    fleet.cloud.apply(configmap("heard", k=value))
    wait_for("the update", lambda: stored_at_edge(node, "heard", value), 60)


def test_a_link_that_flaps_is_used_again_each_time(fleet):
    node, network = fleet.nodes[0], fleet.networks[0]
    fleet.cloud.apply(configmap("heard", k="0"), user("listener", "heard"))
    fleet.wait_running("listener")
    before = containers_of(fleet, "listener")
    for i in range(3):
        network.down()
        wait_for("the loss to be noticed", lambda: not is_connected(node), 60)
        network.up()
        up = time.monotonic()
        wait_for("the connection", lambda: is_connected(node), 60, 0.02)
        print(f"connected {time.monotonic() - up:.2f} s after the link came back")
        hears(fleet, node, f"flap {i}")
    node.wait_ready()
    assert containers_of(fleet, "listener") == before
    delete(fleet, "listener")


def test_a_link_that_works_one_way_is_taken_for_dead_and_made_anew(fleet):
    node, network = fleet.nodes[0], fleet.networks[0]
    fleet.cloud.apply(configmap("heard", k="0"), user("listener", "heard"))
    fleet.wait_running("listener")
    for i, (cut, mend) in enumerate([(network.deafen, network.undeafen), (network.blackhole, network.unblackhole)]):
        cut()
        try:
            wait_for("the silence to be noticed", lambda: not is_connected(node), 60)
        finally:
            mend()
        wait_for("the connection", lambda: is_connected(node), 60)
        hears(fleet, node, f"mended {i}")
    node.wait_ready()
    delete(fleet, "listener")
