"""What it costs: the figures of docs/benchmarks.md, measured on the real programs. `make bench` calls it.

`bench.py api` measures the API server only. Prints one table: what, measured, budget, KubeEdge 1.23 measured on such a machine (2 cores).
"""

import base64
import calendar
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.api import Api  # noqa: E402
from harness.cluster import SLEEP, Cloud, Cluster, build_folder, condition, pod, program  # noqa: E402
from bench_api import bench_api  # noqa: E402
from harness.processes import cpu_seconds, rss_kib, wait_for  # noqa: E402

ROWS = []
PODS = "/api/v1/namespaces/default/pods"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


def row(what, measured, budget="", original=""):
    ROWS.append((what, measured, budget, original))
    print(f"  {what}: {measured}", flush=True)


def stripped_size(name):
    with tempfile.TemporaryDirectory() as tmp:
        copy = os.path.join(tmp, name)
        subprocess.run(["strip", "-o", copy, program(name)], check=True)
        return os.path.getsize(copy)


def idle(pid, seconds=20):
    """RSS in MB and CPU in percent of a core over some seconds of doing nothing."""
    cpu, start = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return rss_kib(pid) / 1024, 100 * (cpu_seconds(pid) - cpu) / (time.monotonic() - start)


class PodWatch:
    """Notes when each pod was first seen Ready, and when it went, on a watch of its own."""

    def __init__(self, api):
        self.running, self.gone = {}, {}
        self.events = api.watch(PODS)
        threading.Thread(target=self._run, daemon=True).start()
        time.sleep(0.3)

    def _run(self):
        for event in self.events:
            now, obj = time.monotonic(), event["object"]
            name = obj["metadata"].get("name")
            if event["type"] == "DELETED":
                self.gone[name] = now
            elif obj.get("status", {}).get("phase") == "Running" and condition(obj, "Ready") == "True":
                self.running.setdefault(name, now)


def timed_start(node, api):
    """Starts edgecore; seconds until its node is Ready with a heartbeat from after the start."""
    wall = int(time.time())
    node.start_edgecore()

    def ready():
        status, obj = api.request("GET", "/api/v1/nodes/" + node.name)
        return status == 200 and condition(obj, "Ready") == "True" and any(
            c["type"] == "Ready" and calendar.timegm(time.strptime(c["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ")) >= wall
            for c in obj["status"]["conditions"])

    wait_for("the node to be Ready", ready, 30, interval=0.005)
    return time.monotonic() - node.process.started_at


def bench_start(node, api):
    row("edgecore: start to node Ready, joining", f"{timed_start(node, api):.2f} s", "0.4 s", "0.86 s")
    node.process.stop()
    time.sleep(1.1)  # so that a new heartbeat differs from the old one
    row("edgecore: start to node Ready, restarting", f"{timed_start(node, api):.2f} s", "0.2 s", "0.58 s")


def delete_and_time(api, watch, name, options):
    start = time.monotonic()
    api.ok("DELETE", f"{PODS}/{name}", options)
    wait_for(name, lambda: name in watch.gone, interval=0.002)
    return watch.gone[name] - start


def bench_pods(api, watch):
    one = []
    for i in range(5):
        name = f"single-{i}"
        start = time.monotonic()
        api.ok("POST", PODS, pod(name, SLEEP))
        wait_for(name, lambda: name in watch.running, interval=0.002)
        one.append(watch.running[name] - start)
    row("pod posted to Running, one at a time (median of 5)", f"{statistics.median(one):.2f} s", "0.4 s", "0.6 to 1.0 s")

    times = [delete_and_time(api, watch, f"single-{i}", {"gracePeriodSeconds": 5}) for i in range(5)]
    row("pod deleted, container exits on SIGTERM (median of 5)", f"{statistics.median(times):.2f} s", "0.2 s")

    start = time.monotonic()
    for i in range(10):
        api.ok("POST", PODS, pod(f"ten-{i}", SLEEP))
    wait_for("ten pods", lambda: all(f"ten-{i}" in watch.running for i in range(10)), 60, interval=0.005)
    took = max(watch.running[f"ten-{i}"] for i in range(10)) - start
    row("ten pods posted at once, all Running", f"{took:.2f} s", "2 s", "2.7 to 3.5 s")

    api.ok("POST", PODS, pod("stubborn", "trap '' TERM; while :; do sleep 1; done", terminationGracePeriodSeconds=1))
    wait_for("stubborn", lambda: "stubborn" in watch.running)
    row("pod deleted, container ignores SIGTERM, 1 s of grace", f"{delete_and_time(api, watch, 'stubborn', {}):.2f} s", "1.2 s",
        "4.0 s")


def stored(node, needle):
    db = sqlite3.connect(f"file:{node.dir}/edgecore.db?mode=ro", uri=True)
    try:
        return db.execute("SELECT count(*) FROM meta WHERE type='configmap' AND instr(value, ?) > 0",
                          (f'"{needle}"',)).fetchone()[0]
    finally:
        db.close()


def configmap(i, value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{i}"}, "data": {"value": value}}


def put_configmaps(api, count, value, *options):
    """Writes them all, by api_put; gives how many a second were answered."""
    out = subprocess.run([os.path.join(build_folder(), "tests/bench/api_put"), "--kubeconfig", api.kubeconfig,
                          "--count", str(count), "--value", value, *options], check=True, capture_output=True, text=True)
    return int(out.stdout.split()[-2])


def bench_configmaps(cluster, node, api):
    count = 2000
    put_configmaps(api, count, "round-0", "--create")
    refs = [{"configMapRef": {"name": f"m{i}"}} for i in range(count)]
    api.ok("POST", PODS, pod("many", SLEEP, node=node.name, container={"envFrom": refs}))
    wait_for("2,000 ConfigMaps at the edge", lambda: stored(node, "round-0") == count, 60)

    for clients in (8, 32):
        value = f"by-{clients}"
        start = time.monotonic()
        posted = put_configmaps(api, count, value, "--parallel", str(clients))
        wait_for("the updates", lambda: stored(node, value) == count, 120, interval=0.01)
        took = time.monotonic() - start
        row(f"2,000 ConfigMap updates over {clients} connections, all stored at the edge",
            f"{count / took:.0f} /s (answered {posted} /s)", "1,500 /s", "30 /s (65 tuned)")

    network = cluster.networks[0]
    network.down()
    put_configmaps(api, count, "round-2")
    network.up()
    wait_for("the first of them", lambda: stored(node, "round-2") > 0, 60, interval=0.002)
    start = time.monotonic()
    wait_for("the rest", lambda: stored(node, "round-2") == count, 120, interval=0.005)
    row("2,000 updates queued while the link was down, stored after its return",
        f"{count / (time.monotonic() - start):.0f} /s", "1,500 /s")

    cluster.cloud.kubectl("delete", "pod", "many", "--grace-period=0", "--wait")
    api.ok("POST", PODS, pod("few", SLEEP, node=node.name, container={"envFrom": refs[:1]}))
    cluster.wait_running("few")
    times = []
    for i in range(30):
        time.sleep(0.05)
        start = time.monotonic()
        api.ok("PUT", f"{CONFIGMAPS}/m0", configmap(0, f"single-{i}"))
        wait_for("it", lambda: stored(node, f"single-{i}") == 1, interval=0.0002)
        times.append(time.monotonic() - start)
    row("a single ConfigMap update, posted to stored (median of 30)", f"{1000 * statistics.median(times):.1f} ms", "5 ms", "23 ms")
    api.ok("DELETE", f"{PODS}/few", {"gracePeriodSeconds": 0})


def measure(cluster):
    network = cluster.add_network()
    start = time.monotonic()
    cluster.start_cloud(advertise=network.host_ip)
    row("cloudcore --standalone: start to ready, empty data folder", f"{time.monotonic() - start:.2f} s")
    api = Api(cluster.cloud.kubeconfig)
    node = cluster.add_node("edge-1", start=False, network=network)
    node.containerd.start().import_images(node.archives)
    node.write_config()
    bench_start(node, api)

    rss, cpu = idle(node.process.pid)
    row("edgecore, joined, 0 pods: RSS", f"{rss:.1f} MB", "8 MB", "85 MB")
    row("edgecore, joined, 0 pods: idle CPU", f"{cpu:.2f} % of a core", "0.1 %", "0.8 %")
    row("cloudcore --standalone, 1 node: RSS", f"{rss_kib(cluster.cloud.process.pid) / 1024:.1f} MB", "",
        "80 MB, and 330 MB for kube-apiserver and etcd")

    bench_pods(api, PodWatch(api))
    time.sleep(5)
    rss, cpu = idle(node.process.pid)
    row("edgecore, joined, 10 pods: RSS", f"{rss:.1f} MB", "10 MB", "94 MB")
    row("edgecore, joined, 10 pods: idle CPU", f"{cpu:.2f} % of a core", "0.3 %", "1.3 %")
    cluster.cloud.kubectl("delete", "pods", "--all", "--wait", "--timeout=60s")
    bench_configmaps(cluster, node, api)
    row("edgecore stripped", f"{stripped_size('edgecore') / 1e6:.2f} MB", "2 MB", "99 MB")
    row("cloudcore stripped", f"{stripped_size('cloudcore') / 1e6:.2f} MB", "", "71 MB")


def figures(text):
    """The output of ws_nodes: "admissions/s 520  cpu ms per admission 1.78" gives {"admissions/s": "520", ...}."""
    parts = [p.rsplit(None, 1) for line in text.splitlines() for p in line.replace(" KiB", "").split("  ")]
    return dict(p for p in parts if len(p) == 2)


def simulate(count, *options):
    """So many simulated nodes, each with a TLS session of its own, on one cloudcore; gives what ws_nodes tells."""
    cluster = Cluster(prefix="svbench")
    try:
        cluster.cloud = Cloud(os.path.join(cluster.dir, "cloud"))
        cluster.cloud.write_config(nodeLimit=20000)
        cluster.cloud.start()
        secret = cluster.cloud.get("secret", "-n", "kubeedge", "casecret")["data"]
        for key in ("cadata", "cakeydata"):
            with open(os.path.join(cluster.dir, key), "wb") as f:
                f.write(base64.b64decode(secret[key]))
        return figures(subprocess.run(
            [os.path.join(build_folder(), "tests/bench/ws_nodes"), "--ca", os.path.join(cluster.dir, "cadata"),
             "--ca-key", os.path.join(cluster.dir, "cakeydata"), "--server", f"127.0.0.1:{cluster.cloud.port}",
             "--pid", str(cluster.cloud.process.pid), "--nodes", str(count), *options],
            check=True, capture_output=True, text=True).stdout)
    finally:
        cluster.close()


def bench_nodes(count=3000):
    """BENCH_NODES=19500 is as many as 20,000 descriptors allow; that takes five minutes."""
    count = int(os.environ.get("BENCH_NODES", count))
    f = simulate(count)
    row(f"cloudcore: {count} nodes admitted, generator on the same cores",
        f"{f['admissions/s']} /s, {f['cpu ms per admission']} ms of CPU each", "", "170 to 370 /s")
    row(f"cloudcore: RSS per idle connected node (TLS), {count} nodes", f"{f['per node']} KiB", "24 KiB", "182 KB")
    row(f"cloudcore: a keepalive every 15 s from {count} nodes", f"{f['cpu % of a core']} % of a core", "",
        "74 % with 15,000 nodes")
    f = simulate(count, "--leases", "--heartbeat", "10", "--hold", "40")
    row(f"cloudcore --standalone: that every 10 s and a Lease renewed with it, {count} nodes",
        f"{f['leases/s']} leases/s, {f['cpu % of a core']} % of a core")


def table():
    lines = ["| what | measured | budget | KubeEdge 1.23 |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(r)} |" for r in ROWS]
    return "\n".join(lines)


def main():
    if sys.argv[1:] == ["api"]:
        bench_api(row)
        print("\n" + table())
        return 0
    if os.geteuid() != 0 or not shutil.which("containerd"):
        print("bench: needs root and containerd", file=sys.stderr)
        return 1
    cluster = Cluster(prefix="svbench")
    try:
        measure(cluster)
        bench_nodes()
        bench_api(row)
        return 0
    except (AssertionError, TimeoutError) as e:
        print(f"bench: {e}\n{cluster.logs()}", file=sys.stderr)
        return 1
    finally:
        print("\n" + table())
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
