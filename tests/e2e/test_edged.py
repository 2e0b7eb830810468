"""Edged against a real containerd, with MetaManager and the cloud played by this test (edged_driver.c)."""

import base64
import concurrent.futures
import copy
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import grpc
import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import images  # noqa: E402
from harness.cluster import build_folder, pod  # noqa: E402
from harness.containerd import Containerd, unmount_below  # noqa: E402
from harness.processes import cpu_seconds, rss_kib, wait_for  # noqa: E402

NODE = "edge-1"
SLEEP = "trap 'exit 0' TERM; sleep 1000000 & wait"


def merge_patch(target, patch):
    """A strategic merge patch, as far as pod statuses need it."""
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            target.pop(key, None)
        elif key == "conditions":
            have = {c["type"]: c for c in target.get(key, [])}
            for c in value:
                have.setdefault(c["type"], {}).update(c)
                have[c["type"]] = {k: v for k, v in have[c["type"]].items() if v is not None or k == "lastProbeTime"}
            target[key] = list(have.values())
        elif key in ("podIPs", "hostIPs"):
            target[key] = [c for c in value if "ip" in c and "$patch" not in c]
        elif isinstance(value, dict):
            merge_patch(target.setdefault(key, {}), value)
        else:
            target[key] = value


class Edge:
    """The driver, and a store that answers for MetaManager."""

    def __init__(self, folder, containerd, **config):
        self.dir, self.containerd = folder, containerd
        self.pods, self.objects, self.deleted, self.events = {}, {}, [], []
        self.queries, self.patches = [], 0
        self.dropped = []  # what this API server does not keep of a status
        self.online = True
        self.lock = threading.RLock()
        self.config = os.path.join(folder, "edgecore.yaml")
        kubelet = {"containerRuntimeEndpoint": "unix://" + containerd.socket,
                   "imageServiceEndpoint": "unix://" + containerd.socket, "podLogsDir": f"{folder}/pods",
                   **config.pop("kubelet", {})}
        with open(self.config, "w") as f:
            json.dump({"apiVersion": "edgecore.config.kubeedge.io/v1alpha2", "kind": "EdgeCore", "modules": {
                "edged": {"enable": True, "hostnameOverride": NODE, "rootDirectory": f"{folder}/kubelet",
                          "nodeIP": "192.0.2.7", "reportEvent": True, "tailoredKubeletConfig": kubelet, **config}}}, f)
        self.process = None

    def start(self):
        program = os.path.join(build_folder(), "tests/unit/edged_driver")
        self.log = open(os.path.join(self.dir, "driver.log"), "ab")
        self.process = subprocess.Popen([program, self.config], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log)
        self.reader = threading.Thread(target=self.read, args=(self.process,), daemon=True)
        self.reader.start()
        self.send({"header": {"msg_id": str(uuid.uuid4()), "timestamp": 1},
                   "route": {"source": "driver", "resource": "driver/connected"}, "content": self.online})
        return self

    def send(self, message):
        with self.lock:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def read(self, process):
        for line in process.stdout:
            message = json.loads(line)
            try:
                with self.lock:
                    answer = self.answer(message)
                if answer is not None:
                    self.send({"header": {"msg_id": str(uuid.uuid4()), "parent_msg_id": message["header"]["msg_id"],
                                          "timestamp": 1},
                               "route": {"source": "metamanager", "group": "resource", "operation": "response",
                                         "resource": message["route"]["resource"]}, "content": answer[0]})
            except BrokenPipeError:
                return
            except ValueError:  # stop() has closed the pipe meanwhile
                if process.stdin.closed:
                    return
                raise

    def answer(self, m):
        ns, kind, *name = m["route"]["resource"].split("/")
        name = name[0] if name else ""
        operation = m["route"]["operation"]
        if kind == "pod" and operation == "query":
            return [list(self.pods.values())]
        if operation == "query" and kind in ("configmap", "secret"):
            self.queries.append((kind, name))
            return [self.objects.get((kind, ns, name)) or {"ErrStatus": {"reason": "NotFound", "code": 404}}]
        if operation == "query" and kind == "serviceaccounttoken":
            return [{"spec": m["content"]["spec"], "status": {"token": "token-of-" + name,
                                                              "expirationTimestamp": "2099-01-01T00:00:00Z"}}]
        if kind == "event":
            self.events.append(m["content"])
            return None
        if not self.online:
            return None
        if kind == "podpatch":
            return [self.patch(ns, name, json.loads(m["content"]))]
        if kind == "pod" and operation == "delete":
            return [self.delete_confirmed(ns, name, m["content"])]
        return None

    def patch(self, ns, name, patch):
        self.patches += 1
        p = self.pods.get((ns, name))
        if not p or p["metadata"]["uid"] != patch["metadata"]["uid"]:
            return {"Object": None, "Err": {"ErrStatus": {"reason": "NotFound", "code": 404, "message": "gone"}}}
        merge_patch(p.setdefault("status", {}), patch.get("status", {}))
        for key in self.dropped:
            p["status"].pop(key, None)
        return {"Object": copy.deepcopy(p), "Err": None}

    def delete_confirmed(self, ns, name, options):
        p = self.pods.get((ns, name))
        if p and p["metadata"]["uid"] == options["preconditions"]["uid"]:
            assert options["gracePeriodSeconds"] == 0
            self.deleted.append((name, copy.deepcopy(p), time.monotonic()))
            del self.pods[(ns, name)]
            self.tell("delete", "pod", p)
        return "OK"

    def tell(self, operation, kind, obj):
        ns, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        self.send({"header": {"msg_id": str(uuid.uuid4()), "timestamp": 1},
                   "route": {"source": "edgecontroller", "group": "resource", "operation": operation,
                             "resource": f"{ns}/{kind}/{name}"}, "content": obj})

    def apply(self, p, tell=True):
        p = copy.deepcopy(p)
        p["metadata"].setdefault("uid", str(uuid.uuid4()))
        p["spec"].setdefault("nodeName", NODE)
        p["spec"].setdefault("terminationGracePeriodSeconds", 30)
        with self.lock:
            self.pods[(p["metadata"]["namespace"], p["metadata"]["name"])] = p
        if tell:
            self.tell("insert", "pod", p)
        return p

    def put(self, kind, name, data, tell=False, ns="default"):
        obj = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": ns, "uid": "u-" + name},
               "data": data}
        with self.lock:
            self.objects[(kind.lower(), ns, name)] = obj
        if tell:
            self.tell("update", kind.lower(), obj)

    def get(self, name, ns="default"):
        with self.lock:
            return copy.deepcopy(self.pods.get((ns, name)))

    def status(self, name):
        return (self.get(name) or {}).get("status", {})

    def delete(self, name, grace=None):
        with self.lock:
            p = self.pods[("default", name)]
            p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            p["metadata"]["deletionGracePeriodSeconds"] = p["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
        self.tell("update", "pod", p)
        return time.monotonic()

    def wait_gone(self, name, timeout=20):
        return wait_for(f"pod {name} to go", lambda: next((d for d in self.deleted if d[0] == name), None), timeout, 0.01)

    def wait_ready(self, name, timeout=20):
        return wait_for(f"pod {name} to be ready", lambda: is_ready(self.status(name)) and self.status(name), timeout, 0.01)

    def wait_phase(self, name, phase, timeout=20):
        return wait_for(f"pod {name} to be {phase}", lambda: self.status(name).get("phase") == phase and self.status(name),
                        timeout, 0.01)

    def wait_waiting(self, name, reason, timeout=20):
        def waits():
            for c in self.status(name).get("containerStatuses", []):
                if c["state"].get("waiting", {}).get("reason") == reason:
                    return c["state"]["waiting"]
        return wait_for(f"pod {name} to say {reason}", waits, timeout)

    def id(self, name):
        return self.status(name)["containerStatuses"][0]["containerID"].split("//")[1]

    def exec(self, name, *argv):
        return subprocess.run(["ctr", "-a", self.containerd.socket, "-n", "k8s.io", "tasks", "exec", "--exec-id",
                               uuid.uuid4().hex[:12], self.id(name), *argv], capture_output=True, text=True, timeout=20)

    def read_file(self, name, path):
        return self.exec(name, "cat", path).stdout

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process:
            self.process.stdin.close()
            try:
                code = self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                code = self.process.wait()
            return code

    def driver_log(self):
        with open(os.path.join(self.dir, "driver.log")) as f:
            return f.read()


def is_ready(status):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


def state(status, i=0):
    return next(iter(status["containerStatuses"][i]["state"].items()))


@pytest.fixture(scope="module")
def runtime():
    folder = tempfile.mkdtemp(prefix="sved")
    archives = images.make_all(os.environ.get("SELVAGE_IMAGES") or os.path.join(folder, "images"))
    c = Containerd(os.path.join(folder, "c"))
    try:
        c.start().import_images(archives)
        yield c
    finally:
        c.stop()
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def edge(runtime, tmp_path_factory):
    folder = tempfile.mkdtemp(prefix="sved")
    e = Edge(folder, runtime)
    try:
        yield e.start()
    finally:
        log = e.driver_log()
        for name in [k[1] for k in list(e.pods)]:
            e.delete(name, 0)
        for _ in range(200):
            if not e.pods:
                break
            time.sleep(0.05)
        code = e.stop()
        print(log[-6000:])
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)
        assert code == 0 or code == -9, f"driver ended with {code}"


def test_a_pod_runs_and_its_status_reads_as_a_kubelets(edge):
    begun = time.monotonic()
    p = edge.apply(pod("web", SLEEP))
    status = edge.wait_ready("web")
    print(f"ready after {time.monotonic() - begun:.3f} s, {edge.patches} patches")
    assert status["phase"] == "Running"
    assert status["qosClass"] == "BestEffort"
    assert status["hostIP"] == "192.0.2.7" and status["hostIPs"] == [{"ip": "192.0.2.7"}]
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    assert [c["type"] for c in status["conditions"]] == ["PodReadyToStartContainers", "Initialized", "Ready",
                                                       "ContainersReady", "PodScheduled"]
    c = status["containerStatuses"][0]
    assert c["ready"] and c["started"] and c["restartCount"] == 0 and c["lastState"] == {}
    assert c["containerID"].startswith("containerd://") and c["image"] == images.BUSYBOX
    assert "startedAt" in c["state"]["running"]
    assert os.path.exists(f"/sys/fs/cgroup/memory/kubepods/besteffort/pod{p['metadata']['uid']}") or \
        os.path.exists(f"/sys/fs/cgroup/kubepods/besteffort/pod{p['metadata']['uid']}")


def test_a_container_that_heeds_sigterm_is_gone_at_once(edge):
    edge.apply(pod("quick", SLEEP))
    edge.wait_ready("quick")
    begun = edge.delete("quick")
    name, last, at = edge.wait_gone("quick")
    print(f"gone after {at - begun:.3f} s")
    assert last["status"]["phase"] == "Succeeded"
    assert state(last["status"])[1]["exitCode"] == 0
    uid = last["metadata"]["uid"]
    wait_for("its folder to go", lambda: not os.path.exists(f"{edge.dir}/kubelet/pods/{uid}"))
    wait_for("its cgroup to go", lambda: not os.path.exists(f"/sys/fs/cgroup/memory/kubepods/besteffort/pod{uid}"))


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(edge):
    edge.apply(pod("stubborn", "trap '' TERM; while :; do sleep 1000; done"))
    edge.wait_ready("stubborn")
    begun = edge.delete("stubborn", 1)
    name, last, at = edge.wait_gone("stubborn")
    print(f"gone after {at - begun:.3f} s")
    assert last["status"]["phase"] == "Failed"
    assert state(last["status"])[1]["exitCode"] == 137


def test_configmaps_and_secrets_come_as_files_and_change_at_once(edge):
    edge.put("ConfigMap", "cm", {"a": "one", "b": "two"})
    edge.put("Secret", "sec", {"key": base64.b64encode(b"hidden").decode()})
    edge.apply(pod("vols", SLEEP, container={"volumeMounts": [
        {"name": "cm", "mountPath": "/cm"}, {"name": "sec", "mountPath": "/sec"}, {"name": "all", "mountPath": "/all"},
        {"name": "scratch", "mountPath": "/scratch"}, {"name": "mem", "mountPath": "/mem"},
        {"name": "cm", "mountPath": "/one", "subPath": "a"}, {"name": "scratch", "mountPath": "/sub", "subPath": "x/y"}]},
        labels={"app": "x"}, volumes=[
            {"name": "cm", "configMap": {"name": "cm"}}, {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 256}},
            {"name": "scratch", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": "cm", "items": [{"key": "a", "path": "deep/a"}]}},
                {"serviceAccountToken": {"path": "token"}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}]))
    edge.wait_ready("vols")
    assert edge.read_file("vols", "/cm/a") == "one"
    assert edge.read_file("vols", "/sec/key") == "hidden"
    assert edge.read_file("vols", "/all/deep/a") == "one"
    assert edge.read_file("vols", "/all/token") == "token-of-default"
    assert edge.read_file("vols", "/all/labels") == 'app="x"'
    assert edge.read_file("vols", "/one") == "one"
    assert "tmpfs" in edge.exec("vols", "grep", " /mem ", "/proc/mounts").stdout
    assert edge.exec("vols", "touch", "/sub/file", "/scratch/file").returncode == 0
    assert edge.exec("vols", "ls", "/scratch/x/y/file").returncode == 0
    begun = time.monotonic()
    edge.put("ConfigMap", "cm", {"a": "changed", "c": "new"}, tell=True)
    wait_for("the new content", lambda: edge.read_file("vols", "/cm/a") == "changed", 5, 0.01)
    print(f"seen after {time.monotonic() - begun:.3f} s")
    assert edge.exec("vols", "ls", "/cm").stdout.split() == ["a", "c"]


def mounts_beneath(folder):
    with open("/proc/self/mountinfo") as f:
        return [line.split()[4] for line in f if line.split()[4].startswith(os.path.realpath(folder) + "/")]


def test_mounts_neither_pile_up_with_restarts_nor_outlive_the_pod(edge):
    edge.put("Secret", "s", {"k": base64.b64encode(b"secret").decode()})
    p = edge.apply(pod("mounts", "test -e /mem/once && sleep 1000000; touch /mem/once; exit 1", volumes=[
        {"name": "mem", "emptyDir": {"medium": "Memory"}}, {"name": "scratch", "emptyDir": {}},
        {"name": "s", "secret": {"secretName": "s"}}], terminationGracePeriodSeconds=0, container={"volumeMounts": [
            {"name": "mem", "mountPath": "/mem"}, {"name": "mem", "mountPath": "/a", "subPath": "a"},
            {"name": "scratch", "mountPath": "/b", "subPath": "b/c"}, {"name": "s", "mountPath": "/s", "subPath": "k"}]}))
    wait_for("its restart", lambda: edge.wait_ready("mounts")["containerStatuses"][0]["restartCount"] == 1)
    folder = f"{edge.dir}/kubelet/pods/{p['metadata']['uid']}"
    assert len(mounts_beneath(folder + "/volumes")) == 2
    assert len(mounts_beneath(folder + "/volume-subpaths")) == 3
    assert edge.read_file("mounts", "/s") == "secret"
    edge.delete("mounts")
    edge.wait_gone("mounts")
    assert not mounts_beneath(folder)
    assert not os.path.exists(folder)


def test_environment_from_everywhere(edge):
    edge.put("ConfigMap", "env", {"COLOR": "green"})
    edge.put("Secret", "env", {"pass": base64.b64encode(b"word").decode()})
    edge.apply(pod("env", SLEEP, container={
        "envFrom": [{"configMapRef": {"name": "env"}, "prefix": "CM_"}],
        "env": [{"name": "A", "value": "a"}, {"name": "B", "value": "$(A)-$$(A)-$(NONE)"},
                {"name": "P", "valueFrom": {"secretKeyRef": {"name": "env", "key": "pass"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}],
        "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}))
    status = edge.wait_ready("env")
    env = dict(line.split("=", 1) for line in edge.exec("env", "env").stdout.splitlines())
    assert env["CM_COLOR"] == "green" and env["B"] == "a-$(A)-$(NONE)" and env["P"] == "word" and "O" not in env
    assert env["NAME"] == "env" and env["IP"] == status["podIP"] and env["CPU"] == "250"
    assert status["qosClass"] == "Guaranteed"
    uid = edge.get("env")["metadata"]["uid"]
    path = f"/sys/fs/cgroup/memory/kubepods/pod{uid}/memory.limit_in_bytes"
    if os.path.exists(path):
        assert open(path).read().strip() == str(64 << 20)


def test_a_missing_configmap_keeps_the_pod_waiting_and_its_arrival_starts_it(edge):
    edge.apply(pod("later", SLEEP, container={"env": [
        {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x"}}}]}))
    w = edge.wait_waiting("later", "CreateContainerConfigError")
    assert w["message"] == 'configmap "late" not found'
    edge.put("ConfigMap", "late", {"x": "1"}, tell=True)
    edge.wait_ready("later", 3)


def test_crashes_back_off_and_are_counted(edge):
    edge.apply(pod("crash", "echo last words > /dev/termination-log; exit 3"))
    w = edge.wait_waiting("crash", "CrashLoopBackOff")
    assert "back-off 10s restarting failed container=main" in w["message"]
    c = edge.status("crash")["containerStatuses"][0]
    assert c["restartCount"] == 1 and not c["ready"]
    last = c["lastState"]["terminated"]
    assert last["exitCode"] == 3 and last["reason"] == "Error" and last["message"] == "last words\n"


def test_finished_pods_succeed_or_fail(edge):
    edge.apply(pod("good", "exit 0", restartPolicy="Never"))
    edge.apply(pod("bad", "exit 7", restartPolicy="Never"))
    good, bad = edge.wait_phase("good", "Succeeded"), edge.wait_phase("bad", "Failed")
    assert state(good)[1]["reason"] == "Completed" and state(bad)[1]["exitCode"] == 7
    conditions = {c["type"]: c for c in good["conditions"]}
    assert conditions["Ready"]["reason"] == "PodCompleted" and conditions["Initialized"]["status"] == "True"


def test_init_containers_run_one_after_the_other(edge):
    def init(name, command):
        return {"name": name, "image": images.BUSYBOX, "command": ["sh", "-c", command],
                "volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    edge.apply(pod("inits", SLEEP, container={"volumeMounts": [{"name": "d", "mountPath": "/d"}]},
                   volumes=[{"name": "d", "emptyDir": {}}],
                   initContainers=[init("one", "echo 1 >> /d/f"), init("two", "sleep 0.3; echo 2 >> /d/f"),
                                   {**init("side", SLEEP), "restartPolicy": "Always"}]))
    status = edge.wait_ready("inits")
    assert edge.read_file("inits", "/d/f") == "1\n2\n"
    assert [c["name"] for c in status["initContainerStatuses"]] == ["one", "two", "side"]
    assert all(c["ready"] for c in status["initContainerStatuses"])
    begun = edge.delete("inits")
    name, last, at = edge.wait_gone("inits")
    assert "terminated" in last["status"]["initContainerStatuses"][2]["state"]


def test_images_that_cannot_be_had_are_told(edge):
    edge.apply(pod("never", SLEEP, container={"image": "localhost/no/such:1", "imagePullPolicy": "Never"}))
    edge.apply(pod("pull", SLEEP, container={"image": "127.0.0.1:1/no/such:1"}))
    edge.apply(pod("name", SLEEP, container={"image": "Not A Name"}))
    edge.wait_waiting("never", "ErrImageNeverPull")
    edge.wait_waiting("name", "InvalidImageName")
    edge.wait_waiting("pull", "ErrImagePull")
    edge.wait_waiting("pull", "ImagePullBackOff")


def test_what_is_not_offered_is_refused_by_name(edge):
    edge.apply(pod("odd", SLEEP, volumes=[{"name": "x", "persistentVolumeClaim": {"claimName": "y"}}]))
    w = edge.wait_waiting("odd", "CreateContainerConfigError")
    assert "spec.volumes[0].persistentVolumeClaim" in w["message"]


def test_hooks_are_run(edge):
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo up > /d/up"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo down > /host/down"]}}}
    edge.apply(pod("hooks", SLEEP, container={"lifecycle": hook, "volumeMounts": [
        {"name": "d", "mountPath": "/d"}, {"name": "host", "mountPath": "/host"}]},
        volumes=[{"name": "d", "emptyDir": {}},
                 {"name": "host", "hostPath": {"path": f"{edge.dir}/host", "type": "DirectoryOrCreate"}}]))
    edge.wait_ready("hooks")
    assert edge.read_file("hooks", "/d/up") == "up\n"
    edge.delete("hooks")
    edge.wait_gone("hooks")
    with open(f"{edge.dir}/host/down") as f:
        assert f.read() == "down\n"


def test_probes_decide_readiness_and_restarts(edge):
    probe = {"periodSeconds": 1, "failureThreshold": 2}
    edge.apply(pod("probes", "httpd -f -p 8080 -h /www", terminationGracePeriodSeconds=1, container={
        "startupProbe": {**probe, "tcpSocket": {"port": 8080}},
        "readinessProbe": {**probe, "exec": {"command": ["test", "-e", "/tmp/ready"]}},
        "livenessProbe": {**probe, "httpGet": {"path": "/", "port": 8080}}}))
    wait_for("it to have started", lambda: edge.status("probes")["containerStatuses"][0]["started"])
    assert not is_ready(edge.status("probes"))
    edge.exec("probes", "touch", "/tmp/ready")
    edge.wait_ready("probes")
    edge.exec("probes", "rm", "/tmp/ready")
    wait_for("it to be unready", lambda: not is_ready(edge.status("probes")))
    edge.apply(pod("sick", SLEEP, terminationGracePeriodSeconds=1, container={
        "livenessProbe": {**probe, "tcpSocket": {"port": 9}}}))
    wait_for("it to be restarted", lambda: edge.status("sick")["containerStatuses"][0]["restartCount"] == 1)


def test_a_pod_on_the_hosts_namespaces(edge):
    edge.apply(pod("host", SLEEP, hostNetwork=True, hostPID=True, hostIPC=True,
                   hostAliases=[{"ip": "192.0.2.9", "hostnames": ["printer", "scanner"]}]))
    status = edge.wait_ready("host", 60)
    assert status["podIP"] == "192.0.2.7" and status["podIPs"] == [{"ip": "192.0.2.7"}]
    assert edge.exec("host", "hostname").stdout.strip() == os.uname().nodename
    for namespace in ("net", "pid", "ipc", "uts"):
        assert edge.exec("host", "readlink", f"/proc/self/ns/{namespace}").stdout.strip() == \
            os.readlink(f"/proc/self/ns/{namespace}"), namespace
    assert "192.0.2.9\tprinter\tscanner" in edge.read_file("host", "/etc/hosts")


def test_security_settings_reach_the_process(edge):
    edge.apply(pod("guarded", SLEEP, shareProcessNamespace=True, hostname="gate", subdomain="yard", setHostnameAsFQDN=True,
                   securityContext={"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000],
                                    "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}],
                                    "seccompProfile": {"type": "RuntimeDefault"}},
                   dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.53"], "searches": ["edge.example"],
                                                "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]},
                   volumes=[{"name": "data", "emptyDir": {}}],
                   container={"volumeMounts": [{"name": "data", "mountPath": "/data"}],
                              "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                                                  "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}))
    edge.wait_ready("guarded", 60)
    assert edge.exec("guarded", "hostname").stdout.strip() == "gate.yard.default.svc.cluster.local"
    status = dict(line.split(":\t", 1) for line in edge.read_file("guarded", "/proc/self/status").splitlines()
                  if ":\t" in line)
    assert status["Uid"].split()[0] == "1000" and status["Gid"].split()[0] == "2000"
    assert {"3000", "4000"} <= set(status["Groups"].split())
    assert int(status["CapBnd"], 16) == 1 << 10 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert edge.exec("guarded", "touch", "/x").returncode != 0
    assert edge.exec("guarded", "touch", "/data/x").returncode == 0
    assert edge.exec("guarded", "stat", "-c", "%g", "/data/x").stdout.strip() == "3000"
    assert edge.read_file("guarded", "/proc/sys/net/ipv4/ip_unprivileged_port_start").strip() == "80"
    resolv = edge.read_file("guarded", "/etc/resolv.conf").splitlines()
    assert resolv == ["search edge.example", "nameserver 192.0.2.53", "options ndots:2 rotate"], resolv
    # With a shared process namespace the pause process is everybody's first.
    assert "pause" in edge.read_file("guarded", "/proc/1/cmdline")


def test_a_privileged_container_has_all_and_resources_become_limits(edge):
    p = edge.apply(pod("strong", SLEEP, container={
        "securityContext": {"privileged": True},
        "resources": {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}))
    status = edge.wait_ready("strong", 60)
    assert status["qosClass"] == "Burstable"
    assert int(dict(line.split(":\t", 1) for line in edge.read_file("strong", "/proc/self/status").splitlines()
                    if ":\t" in line)["CapEff"], 16) > 1 << 30
    v1 = f"/sys/fs/cgroup/memory/kubepods/burstable/pod{p['metadata']['uid']}/memory.limit_in_bytes"
    v2 = f"/sys/fs/cgroup/kubepods/burstable/pod{p['metadata']['uid']}/memory.max"
    with open(v1 if os.path.exists(v1) else v2) as f:
        assert int(f.read()) == 64 << 20


def test_a_container_over_its_memory_is_told_as_oomkilled(edge):
    edge.apply(pod("greedy", "tail /dev/zero", restartPolicy="Never",
                   container={"resources": {"limits": {"memory": "16Mi"}}}))
    status = edge.wait_phase("greedy", "Failed", 60)
    kind, ended = state(status)
    assert kind == "terminated" and ended["reason"] == "OOMKilled" and ended["exitCode"] == 137, ended


def test_an_ephemeral_container_joins_a_running_pod(edge):
    p = edge.apply(pod("looked-into", SLEEP, restartPolicy="Always"))
    before = edge.wait_ready("looked-into", 60)["containerStatuses"][0]["containerID"]
    with edge.lock:
        p = edge.pods[("default", "looked-into")]
        p["spec"]["ephemeralContainers"] = [
            {"name": "debugger", "image": images.BUSYBOX, "command": ["sh", "-c", "ps; exit 3"], "imagePullPolicy": "Never",
             "targetContainerName": "main"}]
    edge.tell("update", "pod", p)

    def ended():
        for c in edge.status("looked-into").get("ephemeralContainerStatuses", []):
            return c["state"].get("terminated")
    assert wait_for("the debugger to end", ended, 60)["exitCode"] == 3
    status = edge.status("looked-into")
    assert status["phase"] == "Running" and is_ready(status)
    assert status["containerStatuses"][0]["containerID"] == before
    with open(f"{edge.dir}/pods/default_looked-into_{p['metadata']['uid']}/debugger/0.log") as f:
        assert "sleep 1000000" in f.read()  # the other container's processes are seen


def test_https_probes_do_not_ask_who_answers(edge, tmp_path):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=nobody", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        edge.apply(pod("tls", SLEEP, container={"readinessProbe": {"periodSeconds": 1, "httpGet": {
            "scheme": "HTTPS", "host": "127.0.0.1", "port": server.server_address[1], "path": "/"}}}))
        edge.wait_ready("tls", 60)
    finally:
        server.shutdown()
        server.server_close()


def test_grpc_probes_ask_for_health(runtime):
    answers = {"status": 2}  # NOT_SERVING
    asked = []

    def check(request, context):
        asked.append(request)
        return bytes([8, answers["status"]])

    class Health(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(check) if details.method == "/grpc.health.v1.Health/Check" else None

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=(Health(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    folder = tempfile.mkdtemp(prefix="sved")
    edge = Edge(folder, runtime, nodeIP="127.0.0.1")
    try:
        edge.start()
        edge.apply(pod("health", SLEEP, hostNetwork=True, container={"readinessProbe": {
            "periodSeconds": 1, "grpc": {"port": port, "service": "meter"}}}))
        edge.wait_phase("health", "Running", 60)
        wait_for("two questions", lambda: len(asked) >= 2, 60)
        assert asked[0] == b"\x0a\x05meter" and not is_ready(edge.status("health"))
        answers["status"] = 1
        edge.wait_ready("health", 60)
        edge.delete("health", 0)
        edge.wait_gone("health", 60)
    finally:
        edge.stop()
        server.stop(0)
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_edgecore_killed_and_started_again_restarts_no_container(edge):
    edge.apply(pod("stay", SLEEP))
    edge.wait_ready("stay")
    before = edge.id("stay")
    containers = edge.containerd.containers()
    edge.kill()
    edge.online = False
    edge.start()
    time.sleep(1.0)
    assert edge.containerd.containers() == containers
    edge.online = True
    edge.send({"header": {"msg_id": "x", "timestamp": 1}, "route": {"source": "driver", "resource": "driver/connected"},
               "content": True})
    assert edge.id("stay") == before
    edge.delete("stay")
    edge.wait_gone("stay")


def test_pods_start_and_unknown_ones_go_without_a_network(edge):
    edge.apply(pod("known", SLEEP))
    edge.apply(pod("stranger", SLEEP))
    edge.wait_ready("known")
    edge.wait_ready("stranger")
    edge.kill()
    edge.containerd.kill_containers()
    with edge.lock:
        uid = edge.pods.pop(("default", "stranger"))["metadata"]["uid"]
        edge.pods[("default", "known")]["status"] = {}
    edge.online = False
    edge.start()
    wait_for("the known pod to run again", lambda: len(edge.containerd.containers()) == 2)
    wait_for("the stranger's folder to go", lambda: not os.path.exists(f"{edge.dir}/kubelet/pods/{uid}"))
    edge.online = True
    edge.send({"header": {"msg_id": "x", "timestamp": 1}, "route": {"source": "driver", "resource": "driver/connected"},
               "content": True})
    status = edge.wait_ready("known")
    assert status["containerStatuses"][0]["restartCount"] == 1


def test_a_status_that_could_not_be_sent_is_sent_later(edge):
    edge.online = False
    edge.apply(pod("offline", SLEEP))
    wait_for("it to run", lambda: len(edge.containerd.containers()) == 2)
    time.sleep(0.2)
    assert edge.status("offline") == {}
    edge.online = True
    edge.send({"header": {"msg_id": "x", "timestamp": 1}, "route": {"source": "driver", "resource": "driver/connected"},
               "content": True})
    edge.wait_ready("offline", 35)


def test_what_the_cloud_does_not_keep_of_a_status_is_not_sent_for_ever(edge):
    edge.dropped = ["qosClass", "startTime"]
    edge.apply(pod("forgetful", SLEEP))
    edge.wait_ready("forgetful")
    edge.delete("forgetful")
    edge.wait_gone("forgetful")
    assert edge.patches < 50


def test_ten_pods_cost_little(edge):
    begun = time.monotonic()
    for i in range(10):
        edge.apply(pod(f"p{i}", SLEEP))
    for i in range(10):
        edge.wait_ready(f"p{i}", 30)
    print(f"ten pods ready after {time.monotonic() - begun:.2f} s")
    time.sleep(1)
    used, at = cpu_seconds(edge.process.pid), time.monotonic()
    time.sleep(4)
    print(f"idle CPU {(cpu_seconds(edge.process.pid) - used) / (time.monotonic() - at) * 100:.2f} %, "
          f"RSS {rss_kib(edge.process.pid)} KiB")
