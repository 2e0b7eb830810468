"""cloudcore is killed at random moments, again and again, while objects are written and an edge node follows them."""

import http.client
import json
import os
import random
import sqlite3
import threading
import time

from harness.api import Api
from harness.cluster import EdgeNode
from harness.processes import wait_for

SEED = int(os.environ.get("SELVAGE_SEED", 23))
KILLS = 6
WORKERS = 4
CONFIGMAPS = [f"c{i}" for i in range(40)]
PODS = [f"p{i}" for i in range(12)]


def path(kind, name=""):
    return f"/api/v1/namespaces/default/{kind}s/{name}".rstrip("/")


def body(kind, name, value):
    metadata = {"name": name, "namespace": "default", "labels": {"value": value}}
    if kind == "configmap":
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"nodeName": "edge-1", "containers": [{"name": "c", "image": "i"}]}}


class Writer(threading.Thread):
    """Writes and deletes objects that nobody else writes. `may_be` says for each what the API server may hold: one state
    after an answer, two after a request without one. A state is a value, or None for an object that is not there."""

    def __init__(self, kubeconfig, number, objects, stop):
        super().__init__()
        self.api, self.random, self.stop_ = Api(kubeconfig), random.Random(SEED * 100 + number), stop
        self.may_be = {o: {None} for o in objects}
        self.answers, self.failed, self.number, self.count = 0, None, number, 0

    def run(self):
        try:
            while not self.stop_.is_set():
                self.write_one()
        except Exception as e:  # told by the test
            self.failed = e

    def write_one(self):
        kind, name = key = self.random.choice(list(self.may_be))
        self.count += 1
        value = None if self.random.random() < 0.3 else f"{self.number}-{self.count}"
        try:
            self.delete(kind, name) if value is None else self.put(kind, name, value)
            self.may_be[key] = {value}
            self.answers += 1
        except (OSError, http.client.HTTPException):
            self.may_be[key].add(value)
            self.api.connection = None
            time.sleep(0.05)

    def delete(self, kind, name):
        status, answer = self.api.request("DELETE", path(kind, name), {"gracePeriodSeconds": 0})
        assert status in (200, 404), answer

    def put(self, kind, name, value):
        if kind == "pod":  # its label changes by patch: a pod cannot be replaced by half of one
            status, answer = self.api.request("PATCH", path(kind, name), {"metadata": {"labels": {"value": value}}},
                                              "application/merge-patch+json")
        else:
            status, answer = self.api.request("PUT", path(kind, name), body(kind, name, value))
        if status == 404:
            status, answer = self.api.request("POST", path(kind), body(kind, name, value))
        assert status in (200, 201), answer


def value_of(o):
    return o["metadata"]["labels"]["value"]


def in_cloud(api):
    return {(kind, o["metadata"]["name"]): (value_of(o), o["metadata"]["uid"])
            for kind in ("configmap", "pod") for o in api.ok("GET", path(kind))["items"] if o["metadata"].get("labels")}


def at_edge(node):
    db = sqlite3.connect(f"file:{node.dir}/edgecore.db?mode=ro", uri=True)
    try:
        rows = db.execute("SELECT value FROM meta WHERE type IN ('configmap', 'pod')").fetchall()
    finally:
        db.close()
    objects = [json.loads(r[0]) for r in rows]
    return {("pod" if "spec" in o else "configmap", o["metadata"]["name"]): (value_of(o), o["metadata"]["uid"])
            for o in objects if o["metadata"].get("labels")}


def test_what_was_answered_reaches_the_edge_and_nothing_deleted_comes_back(cluster):
    chance = random.Random(SEED)
    cloud = cluster.start_cloud()
    node = EdgeNode(os.path.join(cluster.dir, "edge-1"), cloud, "edge-1", [], containerd=False)
    cluster.nodes.append(node)
    node.write_config()
    node.start_edgecore()
    api = Api(cloud.kubeconfig)
    wait_for("the node", lambda: api.request("GET", "/api/v1/nodes/edge-1")[0] == 200)
    holder = body("pod", "holder", "")
    del holder["metadata"]["labels"]
    holder["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": c}} for c in CONFIGMAPS]
    api.ok("POST", path("pod"), holder)

    objects = [("configmap", c) for c in CONFIGMAPS] + [("pod", p) for p in PODS]
    stop = threading.Event()
    writers = [Writer(cloud.kubeconfig, i, objects[i::WORKERS], stop) for i in range(WORKERS)]
    for w in writers:
        w.start()
    try:
        for _ in range(KILLS):
            before = sum(w.answers for w in writers)
            wait_for("some writes", lambda: sum(w.answers for w in writers) > before + chance.randrange(20, 200))
            time.sleep(chance.uniform(0, 0.3))
            cloud.process.kill()
            cloud.start()
    finally:
        stop.set()
        for w in writers:
            w.join()
    assert not [w.failed for w in writers if w.failed]

    api.connection = None
    stored = in_cloud(api)
    for w in writers:
        for key, states in w.may_be.items():
            assert stored.get(key, (None,))[0] in states, (SEED, key, states)

    def difference():
        edge = at_edge(node)
        return {k: (stored.get(k), edge.get(k)) for k in stored.keys() | edge.keys() if stored.get(k) != edge.get(k)}
    try:
        wait_for("the edge to have what the cloud has", lambda: not difference())
    except TimeoutError as e:
        raise AssertionError(f"seed {SEED}: {difference()}") from e
    time.sleep(1)
    assert not difference()  # and it stays so
    assert node.process.alive()
