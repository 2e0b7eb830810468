"""What node, pods and containers use, as the edge tells it."""

import json
import urllib.request

from harness.cluster import pod
from harness.processes import free_port, wait_for


def test_the_edge_tells_what_its_pods_use(cluster):
    cluster.start_cloud()
    node = cluster.add_node(start=False)
    port = free_port()
    socket = "unix://" + node.containerd.socket
    node.token = cluster.cloud.join_token()
    node.write_config(edged={"tailoredKubeletConfig": {
        "containerRuntimeEndpoint": socket, "imageServiceEndpoint": socket, "podLogsDir": f"{node.dir}/pods",
        "staticPodPath": f"{node.dir}/manifests", "readOnlyPort": port}})
    node.start()
    cluster.cloud.apply(pod("busy", "trap 'exit 0' TERM; head -c 20000000 /dev/zero > /dev/shm/x; while :; do :; done"))
    cluster.wait_running("busy", timeout=60)

    def fetch(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as r:
            return r.read().decode()

    def busy():
        summary = json.loads(fetch("/stats/summary"))
        p = [p for p in summary["pods"] if p["podRef"]["name"] == "busy"][0]
        c = p["containers"][0]
        return (c["cpu"].get("usageNanoCores", 0) > 50000000 and p["cpu"].get("usageNanoCores", 0) > 50000000 and
                c["memory"]["usageBytes"] > 20000000 and summary)

    summary = wait_for("the figures of a busy container", busy, 60)
    node_use = summary["node"]
    assert node_use["nodeName"] == "edge-1" and node_use["memory"]["workingSetBytes"] > 1 << 20
    assert node_use["fs"]["capacityBytes"] > node_use["fs"]["availableBytes"] > 0
    assert summary["pods"][0]["process_stats"]["process_count"] >= 1
    brief = json.loads(fetch("/stats/summary?only_cpu_and_memory=true"))
    assert "fs" not in brief["node"] and brief["node"]["cpu"]["usageCoreNanoSeconds"] > 0
    text = fetch("/metrics/resource")
    assert 'container_cpu_usage_seconds_total{container="main",namespace="default",pod="busy"}' in text
    assert 'pod_memory_working_set_bytes{namespace="default",pod="busy"}' in text and "resource_scrape_error 0" in text
