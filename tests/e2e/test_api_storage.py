"""The embedded API server of cloudcore --standalone, by HTTP: what is stored, through kills and full disks.

The numbers are those of the conformance checklist that it is built against."""

import json
import threading

import pytest

from harness.api import Api
from harness.apitest import CM, NODES, PODS, Watch, config_map, raw, unique
from harness.processes import wait_for


@pytest.fixture(scope="module")
def api(cloud_only):
    return Api(cloud_only.cloud.kubeconfig)


def test_176_to_178_kill_9_under_load_loses_and_repeats_nothing(cloud_only, api):
    acknowledged, stop, lock = {}, threading.Event(), threading.Lock()

    def write(worker):
        mine = Api(cloud_only.cloud.kubeconfig)
        while not stop.is_set():
            name = unique(f"k{worker}")
            try:
                status, body = mine.request("POST", CM, config_map(name, a="x"))
            except OSError:
                return
            if status == 201:
                with lock:
                    acknowledged[name] = int(body["metadata"]["resourceVersion"])
    rv = int(api.ok("GET", CM)["metadata"]["resourceVersion"])
    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    wait_for("some answers", lambda: len(acknowledged) > 200)
    cloud_only.cloud.process.kill()
    stop.set()
    for t in threads:
        t.join()
    cloud_only.cloud.start()
    api.connection = None
    listing = api.ok("GET", CM)
    present = {o["metadata"]["name"]: int(o["metadata"]["resourceVersion"]) for o in listing["items"]}
    assert acknowledged and all(present.get(n) == r for n, r in acknowledged.items())
    after = int(api.ok("POST", CM, config_map(unique()))["metadata"]["resourceVersion"])
    assert after > max(acknowledged.values())
    w = Watch(api, f"{CM}?resourceVersion={rv}")

    def rvs():
        return [int(e["object"]["metadata"]["resourceVersion"]) for e in w.events]
    wait_for("all that was answered", lambda: set(acknowledged.values()) <= set(rvs()))
    assert rvs() == sorted(set(rvs()))
