"""What Edged does for its node besides running pods: log rotation, image garbage, pressure. Real containerd."""

import gzip
import json
import os
import shutil
import tempfile

import pytest
from test_edged import SLEEP, Edge, runtime, state  # noqa: F401

from harness import images
from harness.cluster import pod
from harness.containerd import unmount_below
from harness.processes import wait_for


@pytest.fixture
def edge_with(runtime):  # noqa: F811
    """Makes an Edge with settings of its own; all are ended after the test."""
    made = []

    def make(**kubelet):
        folder = tempfile.mkdtemp(prefix="sved")
        made.append(Edge(folder, runtime, kubelet=kubelet))
        return made[-1].start()

    yield make
    for e in made:
        for name in [k[1] for k in list(e.pods)]:
            e.delete(name, 0)
        wait_for("the pods to go", lambda e=e: not e.pods, 60)
        print(e.driver_log()[-6000:])
        assert e.stop() in (0, -9)
        unmount_below(e.dir)
        shutil.rmtree(e.dir, ignore_errors=True)


def log_folder(edge, p, container="main"):
    m = p["metadata"]
    return f"{edge.dir}/pods/{m['namespace']}_{m['name']}_{m['uid']}/{container}"


def test_a_long_log_is_rotated_compressed_and_goes_on(edge_with):
    edge = edge_with(containerLogMaxSize="20Ki", containerLogMaxFiles=3, containerLogMonitorInterval="1s")
    p = edge.apply(pod("noisy", "i=0; while :; do i=$((i+1)); echo line $i of many that fill the log; "
                                "[ $((i % 200)) = 0 ] && sleep 0.2; done"))
    edge.wait_ready("noisy")
    folder = log_folder(edge, p)
    wait_for("a compressed log", lambda: any(n.endswith(".gz") for n in os.listdir(folder)), 60)
    name = min(n for n in os.listdir(folder) if n.endswith(".gz"))
    try:
        with gzip.open(os.path.join(folder, name), "rt") as f:
            assert " stdout F line " in f.read()
    except FileNotFoundError:
        pass  # it was the oldest, and its time had come
    wait_for("old logs to go", lambda: name not in os.listdir(folder), 60)
    names = os.listdir(folder)
    assert len([n for n in names if not n.endswith(".tmp")]) <= 3, names
    size = os.path.getsize(os.path.join(folder, "0.log")) if "0.log" in names else 0
    wait_for("the log to go on", lambda: os.path.exists(f"{folder}/0.log") and os.path.getsize(f"{folder}/0.log") != size, 60)


def test_a_pod_that_fills_its_emptydir_is_evicted(edge_with):
    edge = edge_with(nodeStatusUpdateFrequency="1s")
    edge.apply(pod("hoarder", "dd if=/dev/zero of=/tmp/x bs=1M count=4; " + SLEEP,
                   container={"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]},
                   volumes=[{"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}]))
    status = edge.wait_phase("hoarder", "Failed", 60)
    assert status["reason"] == "Evicted"
    assert status["message"] == 'Usage of EmptyDir volume "tmp" exceeds the limit "1Mi". '
    assert any(e["reason"] == "Evicted" for e in edge.events)


def test_memory_pressure_evicts_who_uses_more_than_it_asked_for_and_admits_no_best_effort(edge_with):
    edge = edge_with(nodeStatusUpdateFrequency="1s", evictionHard={"memory.available": "100%"},
                     evictionPressureTransitionPeriod="1h")
    small = {"resources": {"requests": {"memory": "512Mi", "cpu": "10m"}, "limits": {"memory": "512Mi", "cpu": "10m"}}}
    edge.apply(pod("system", SLEEP, priority=2000001000))
    edge.wait_phase("system", "Running")
    edge.apply(pod("modest", SLEEP, container=small))
    status = edge.wait_phase("modest", "Failed", 60)
    assert status["reason"] == "Evicted" and status["message"].startswith("The node was low on resource: memory. ")
    edge.apply(pod("late", SLEEP))
    status = edge.wait_phase("late", "Failed", 60)
    assert status["reason"] == "Evicted" and status["message"] == "The node had condition: [MemoryPressure]. "
    assert edge.status("system")["phase"] == "Running"


def test_disk_pressure_removes_unused_images_before_any_pod(edge_with, runtime):  # noqa: F811
    folder = tempfile.mkdtemp(prefix="svim")
    try:
        archive = os.path.join(folder, "garbage.tar")
        images.write_archive(archive, "localhost/garbage:1", {"note": (0o644, b"x" * 100000)}, {})
        runtime.import_images([archive])
        edge = edge_with(nodeStatusUpdateFrequency="1s", imageMinimumGCAge="0s", evictionHard={})
        edge.apply(pod("user", SLEEP, priority=2000001000))
        edge.wait_phase("user", "Running")  # from now on its image is used
        edge.kill()
        with open(edge.config) as f:
            config = json.load(f)
        config["modules"]["edged"]["tailoredKubeletConfig"]["evictionHard"] = {"nodefs.available": "100%"}
        with open(edge.config, "w") as f:
            json.dump(config, f)
        edge.start()
        wait_for("the unused image to go", lambda: "garbage" not in runtime.ctr("images", "ls", "-q"), 60)
        listed = runtime.ctr("images", "ls", "-q")
        assert images.PAUSE in listed and images.BUSYBOX in listed, listed
    finally:
        shutil.rmtree(folder, ignore_errors=True)
