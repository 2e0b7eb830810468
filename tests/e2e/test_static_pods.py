"""Pods that files on the node describe: they run without a cloud, and the cloud shows them."""

import json
import os

from harness.cluster import SLEEP, pod
from harness.processes import wait_for


def put(node, name, p):
    path = f"{node.dir}/manifests/{name}"
    with open(path + ".part", "w") as f:
        json.dump(p, f)
    os.rename(path + ".part", path)


def containers_of(node, name):
    """Ids of running containers of pods of that name, from the runtime itself."""
    lines = node.containerd.ctr("containers", "ls", "-q").split()
    running = set(node.containerd.containers())
    out = []
    for i in lines:
        labels = json.loads(node.containerd.ctr("containers", "info", i))["Labels"]
        if i in running and labels.get("io.kubernetes.pod.name") == name and labels.get("io.kubernetes.container.name"):
            out.append(i)
    return sorted(out)


def mirror(cluster, name="web-edge-1"):
    return json.loads(cluster.cloud.kubectl("get", "pod", name, "--ignore-not-found", "-o", "json") or "null")


def running(cluster, name="web-edge-1"):
    p = mirror(cluster, name)
    return p if p and p.get("status", {}).get("phase") == "Running" else None


def test_a_file_is_a_pod_and_the_cloud_shows_it(joined):
    node = joined.nodes[0]
    put(node, "web.json", pod("web", SLEEP))
    p = wait_for("the mirror to run", lambda: running(joined), 60)
    assert p["metadata"]["annotations"]["kubernetes.io/config.mirror"]
    assert p["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert p["status"]["containerStatuses"][0]["ready"]

    # Deleting the picture deletes neither the pod nor, for long, the picture.
    ids = containers_of(node, "web-edge-1")
    joined.cloud.kubectl("delete", "pod", "web-edge-1", "--wait=false")
    again = wait_for("a new mirror", lambda: (running(joined) or {"metadata": p["metadata"]})["metadata"]["uid"] !=
                     p["metadata"]["uid"] and running(joined), 60)
    assert again["metadata"]["uid"] != p["metadata"]["uid"]
    assert containers_of(node, "web-edge-1") == ids

    # A restarted edgecore finds it running.
    node.process.kill()
    node.start_edgecore()
    node.wait_ready()
    wait_for("the mirror to run", lambda: running(joined), 60)
    assert containers_of(node, "web-edge-1") == ids

    # A file that cannot be read for a moment ends nothing.
    with open(f"{node.dir}/manifests/web.json", "w") as f:
        f.write("{half of a ")
    wait_for("the complaint", lambda: "static pod not taken" in node.process.log(), 60)
    assert containers_of(node, "web-edge-1") == ids

    # Another content is another pod of the same name.
    put(node, "web.json", pod("web", SLEEP, labels={"version": "2"}, terminationGracePeriodSeconds=1))
    wait_for("the new pod", lambda: containers_of(node, "web-edge-1") not in (ids, []), 60)
    wait_for("the new mirror", lambda: (running(joined) or {"metadata": {}})["metadata"].get("labels") == {"version": "2"},
             60)
    os.unlink(f"{node.dir}/manifests/web.json")
    wait_for("the mirror to go", lambda: mirror(joined) is None, 60)
    assert containers_of(node, "web-edge-1") == []


def test_a_static_pod_starts_without_a_cloud(cluster):
    cluster.start_cloud()
    node = cluster.add_node(start=False)
    node.token = cluster.cloud.join_token()
    cluster.cloud.stop()
    os.makedirs(f"{node.dir}/manifests", exist_ok=True)
    put(node, "lonely.json", pod("lonely", SLEEP))
    node.start(wait=False)
    wait_for("the container", lambda: containers_of(node, "lonely-edge-1"), 60)
    cluster.cloud.start()
    wait_for("its mirror", lambda: running(cluster, "lonely-edge-1"), 120)
    os.unlink(f"{node.dir}/manifests/lonely.json")
    wait_for("the mirror to go", lambda: mirror(cluster, "lonely-edge-1") is None, 60)
