"""The embedded API server of cloudcore --standalone, by HTTP: what is stored, through kills, full disks, backup and restore.

The numbers are those of the conformance checklist that it is built against."""

import os
import random
import subprocess
import threading

from harness.api import Api
from harness.apitest import CM, PODS, Watch, config_map, pod, raw, refused, unique
from harness.cluster import program
from harness.processes import wait_for


class Writers:
    """Clients that create, change and delete ConfigMaps, each its own, and remember what the server acknowledged."""

    def __init__(self, kubeconfig, seed, count=8):
        self.kubeconfig, self.stop = kubeconfig, threading.Event()
        self.acknowledged = {}  # name: (value, revision); value None: deleted
        self.doubtful = {}  # name: the value of a write whose answer did not come
        self.highest = 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(i, random.Random(f"{seed}-{i}"))) for i in range(count)]
        for t in self.threads:
            t.start()

    def _write(self, api, name, value):
        there = self.acknowledged.get(name, (None, 0))[0] is not None
        if value is None:
            status, body = api.request("DELETE", f"{CM}/{name}")
        elif there:
            status, body = api.request("PUT", f"{CM}/{name}", config_map(name, v=value))
        else:
            status, body = api.request("POST", CM, config_map(name, v=value))
        assert status in (200, 201), body
        rv = int(body["metadata"].get("resourceVersion", 0))
        with self.lock:
            self.acknowledged[name] = (value, rv)
            self.highest = max(self.highest, rv)
            self.doubtful.pop(name, None)

    def _run(self, number, rng):
        api, names = Api(self.kubeconfig), [unique(f"w{number}") for _ in range(6)]
        while not self.stop.is_set():
            name = rng.choice(names)
            delete = rng.random() < 0.2 and self.acknowledged.get(name, (None, 0))[0] is not None
            value = None if delete else str(rng.random())
            self.doubtful[name] = value
            try:
                self._write(api, name, value)
            except OSError:
                return

    def join(self):
        self.stop.set()
        for t in self.threads:
            t.join()

    def check(self, present):
        """Every acknowledged write is there; the unanswered ones are there whole, or not at all."""
        for name, (value, _) in self.acknowledged.items():
            assert present.get(name) in ([value, self.doubtful[name]] if name in self.doubtful else [value]), name
        for name, value in self.doubtful.items():
            if name not in self.acknowledged:
                assert present.get(name) in (None, value)


def present(api):
    listing = api.ok("GET", CM)
    return {o["metadata"]["name"]: o.get("data", {}).get("v") for o in listing["items"]}, listing


def follow(api, rv, model, seen, until):
    """Resumes a watch at rv and applies what it tells to model, until revision `until`; gives the last revision."""
    w = Watch(api, f"{CM}?resourceVersion={rv}")
    wait_for("the watch to catch up", lambda: w.events and
             int(w.events[-1]["object"]["metadata"]["resourceVersion"]) >= until, 60)
    w.close()
    for e in w.events:
        meta = e["object"]["metadata"]
        assert int(meta["resourceVersion"]) > rv
        rv = int(meta["resourceVersion"])
        seen.append(rv)
        assert (e["type"] == "ADDED") == (meta["name"] not in model), e
        if e["type"] == "DELETED":
            del model[meta["name"]]
        else:
            model[meta["name"]] = e["object"].get("data", {}).get("v")
    return rv


def test_176_to_178_kill_9_under_load_loses_and_repeats_nothing(cluster):
    cloud = cluster.start_cloud()
    api, rng = Api(cloud.kubeconfig), random.Random(176)
    model, listing = present(api)
    watched, seen, highest = int(listing["metadata"]["resourceVersion"]), [], 0
    for round_ in range(4):
        writers = Writers(cloud.kubeconfig, round_)
        some = rng.randint(30, 150)
        wait_for("some writes", lambda: len(writers.acknowledged) and writers.highest > highest + some, 60, 0.005)
        cloud.process.kill()
        writers.join()
        cloud.start()
        api.connection = None
        there, listing = present(api)
        writers.check(there)
        fresh = int(api.ok("POST", CM, config_map(unique()))["metadata"]["resourceVersion"])
        assert fresh > writers.highest > highest, "a revision that was handed out is not used again"
        highest = fresh
        watched = follow(api, watched, model, seen, fresh)
        assert model == present(api)[0]
    assert seen == sorted(set(seen))


def test_179_a_full_disk_refuses_writes_and_recovers_by_itself(cluster):
    data = os.path.join(cluster.dir, "cloud", "data")
    os.makedirs(data)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", data], check=True)
    cloud = cluster.start_cloud()
    api, name = Api(cloud.kubeconfig), unique()
    api.ok("POST", CM, config_map(name, v="0"))
    with open(os.path.join(data, "ballast"), "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(65536))
        except OSError:
            pass
    w = Watch(api, CM)
    w.wait(1)

    def full():
        made = api.request("PUT", f"{CM}/{name}", config_map(name, v="1", fill="x" * 500_000, n=unique()))
        return made if made[0] != 200 else None
    body = refused(wait_for("the disk to be full", full, 60), 503, "ServiceUnavailable")
    assert "disk full" in body["message"] and body["details"]["retryAfterSeconds"] > 0
    status, headers, _ = raw(api, "PUT", f"{CM}/{name}", config_map(name, fill="y" * 500_000))
    assert status == 503 and int(headers["Retry-After"]) > 0
    before = api.ok("GET", f"{CM}/{name}")
    assert api.ok("GET", CM)["items"] and api.ok("GET", "/readyz") == "ok"
    os.unlink(os.path.join(data, "ballast"))
    after = wait_for("writes to work again",
                     lambda: api.ok("PUT", f"{CM}/{name}", config_map(name, v="2")), 60)
    assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    wait_for("the watch to tell of it", lambda: w.events[-1]["object"].get("data") == {"v": "2"}, 60)
    rvs = [int(e["object"]["metadata"]["resourceVersion"]) for e in w.events if e["type"] != "ADDED"]
    assert rvs == sorted(set(rvs))


def cloudcore(*args):
    return subprocess.run([program("cloudcore"), *args], capture_output=True, text=True, timeout=60)


def test_180_the_database_stays_bounded_under_updates(cluster):
    cloud = cluster.start_cloud()
    api, name = Api(cloud.kubeconfig), unique()
    api.ok("POST", CM, config_map(name))
    for i in range(70):
        api.ok("PUT", f"{CM}/{name}", config_map(name, a=chr(97 + i % 26) * 900_000))
    data = os.path.join(cloud.dir, "data")

    def size():
        return sum(os.path.getsize(os.path.join(data, f)) for f in os.listdir(data) if f.startswith("api.db"))
    # 63 MB were written; the history holds 16, and the write-ahead log is cut to 16 at each checkpoint
    wait_for("the history to be cut", lambda: size() < 50_000_000, 60)


def test_182_a_backup_under_load_restores_and_clients_start_anew(cluster):
    cloud = cluster.start_cloud()
    api, data = Api(cloud.kubeconfig), os.path.join(cluster.dir, "cloud", "data")
    file = os.path.join(cluster.dir, "backup")
    api.ok("POST", CM, config_map("kept", v="before"))
    writers = Writers(cloud.kubeconfig, 182)
    wait_for("some writes", lambda: len(writers.acknowledged) > 10, 60)
    before = dict(writers.acknowledged)
    made = cloudcore("backup", "--data-dir", data, file)
    writers.join()
    assert made.returncode == 0, made.stderr
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert cloudcore("backup", "--data-dir", data, file).returncode != 0, "a backup is not overwritten"
    api.ok("PUT", f"{CM}/kept", config_map("kept", v="after"))
    old = int(api.ok("POST", CM, config_map("late"))["metadata"]["resourceVersion"])

    running = cloudcore("restore", "--data-dir", data, file)
    assert running.returncode != 0 and "another cloudcore runs" in running.stderr
    second = cloudcore("--standalone", "--config", cloud.config, "--data-dir", data)
    assert second.returncode != 0 and "another cloudcore runs" in second.stderr
    assert api.ok("GET", f"{CM}/kept")["data"] == {"v": "after"}

    cloud.stop()
    restored = cloudcore("restore", "--data-dir", data, file)
    assert restored.returncode == 0, restored.stderr
    cloud.start()
    api = Api(cloud.kubeconfig)
    there, listing = present(api)
    assert there["kept"] == "before" and "late" not in there
    assert all(name in there or name in writers.acknowledged for name, (value, _) in before.items() if value)
    assert int(listing["metadata"]["resourceVersion"]) > old + 1000
    # what clients remember from after the backup is told to be gone, and so is what they remember from before
    for rv in (old, 5):
        w = Watch(api, f"{CM}?resourceVersion={rv}")
        assert w.wait(1)[0]["object"]["reason"] == "Expired"
    assert any(".before-restore-" in f for f in os.listdir(data))


def test_a_restore_makes_a_server_elsewhere_that_old_clients_trust(cluster):
    cloud = cluster.start_cloud()
    api, file = Api(cloud.kubeconfig), os.path.join(cluster.dir, "backup")
    name = unique()
    api.ok("POST", PODS, pod(name, schedulerName="nobody"))
    uid = api.ok("GET", f"{PODS}/{name}")["metadata"]["uid"]
    assert cloudcore("backup", "--data-dir", os.path.join(cloud.dir, "data"), file).returncode == 0
    cloud.stop()
    os.rename(os.path.join(cloud.dir, "data"), os.path.join(cloud.dir, "lost"))
    r = cloudcore("restore", "--data-dir", os.path.join(cloud.dir, "data"), file)
    assert r.returncode == 0, r.stderr
    cloud.start()
    api.connection = None  # the certificates that it trusts are those from before
    assert api.ok("GET", f"{PODS}/{name}")["metadata"]["uid"] == uid


def test_what_is_no_backup_is_refused(cluster):
    data, file = os.path.join(cluster.dir, "data"), os.path.join(cluster.dir, "file")
    with open(file, "w") as f:
        f.write("no database" * 1000)
    for args in (["restore", "--data-dir", data, file], ["restore", "--data-dir", data, file + ".missing"],
                 ["backup", "--data-dir", os.path.join(cluster.dir, "none"), file + ".new"]):
        r = cloudcore(*args)
        assert r.returncode == 1 and r.stderr
    assert sorted(os.listdir(data)) == ["lock"]
