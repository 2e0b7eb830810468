"""The embedded API server under load from tests/bench/api_load, on the same machine. Part of bench.py; by itself: bench.py api"""

import os
import subprocess
import time

from harness.api import Api
from harness.cluster import Cloud, Cluster, build_folder
from harness.processes import rss_kib, wait_for


def load(cloud, job, *options):
    """Runs api_load; gives what it tells: {"per second": "5000", ...}."""
    out = subprocess.run([os.path.join(build_folder(), "tests/bench/api_load"), "--kubeconfig", cloud.kubeconfig, "--pid",
                          str(cloud.process.pid), *options, job], check=True, capture_output=True, text=True).stdout
    return dict(part.rsplit(None, 1) for part in out.strip().split("  "))


def rate(figures):
    return (f"{figures['per second']} /s, p99 {figures['p99 ms']} ms, {float(figures['server cpu us each']) / 1000:.2f} ms "
            "of CPU each")


def megabytes(cloud):
    return f"{rss_kib(cloud.process.pid) / 1024:.1f} MB"


def seconds_to_ready(cloud):
    cloud.start(wait=False)

    def ready():
        return Api(cloud.kubeconfig).ok("GET", "/readyz") == "ok"
    wait_for("the API server", ready, 60, interval=0.01)
    return time.monotonic() - cloud.process.started_at


def on_new_cloud(measure):
    cluster = Cluster(prefix="svbench")
    try:
        cluster.cloud = Cloud(os.path.join(cluster.dir, "cloud")).start()
        measure(cluster.cloud)
    finally:
        cluster.close()


def bench_api(row):
    def small_objects(cloud):
        row("API server: RSS empty", megabytes(cloud), "20 MB", "330 MB with etcd")
        row("API server: creates, durable, 64 clients, 1 KB", rate(load(cloud, "create")), "5,000 /s")
        row("API server: updates, durable, 64 clients, 1 KB", rate(load(cloud, "update")))
        row("API server: gets, 64 clients, 1 KB", rate(load(cloud, "get")), "10,000 /s")
        watches = load(cloud, "watch", "--clients", "1000")
        row("API server: a change told to 1,000 watches (median, longest of 20)",
            f"{watches['p50 ms']} ms, {watches['max ms']} ms", "50 ms")

    def pods(cloud):
        figures = load(cloud, "create", "--kind", "pods", "--size", "2200", "--count", "10000")
        row("API server: creates, durable, 64 clients, pods of 3 KB", rate(figures))
        row("API server: RSS with 10,000 pods of 3 KB", megabytes(cloud), "64 MB")

    def many(cloud):
        load(cloud, "create", "--count", "50000")
        cloud.stop()
        row("API server: start with 50,000 objects of 1 KB", f"{seconds_to_ready(cloud):.2f} s", "2 s")

    for measure in (small_objects, pods, many):
        on_new_cloud(measure)
