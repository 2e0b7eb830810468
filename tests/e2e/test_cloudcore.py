"""cloudcore as a program among others: several of them, an API server that goes away, a disk that is full, an end at any
moment."""

import base64
import http.client
import json
import os
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
import uuid

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fake_edge import DAY, Edge, fleet_ca, https, key_pem, message, new_key, sign, subject
from harness.api import Api
from harness.cluster import ROOT, EdgeNode, PlainCloud, condition
from harness.processes import wait_for

CORE = "/api/v1"
PODS = f"{CORE}/namespaces/default/pods"
CONFIGMAPS = f"{CORE}/namespaces/default/configmaps"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


@pytest.fixture(scope="module")
def server(cloud_only):
    """The API server of this file's tests; its own cloudcore is a fleet that they leave alone."""
    return cloud_only.cloud


@pytest.fixture
def clouds(cloud_only):
    """Makes cloudcores that use that API server, with `--config` alone."""
    made = []

    def make(advertise="127.0.0.1", start=True, **config):
        c = PlainCloud(os.path.join(cloud_only.dir, f"plain-{uuid.uuid4().hex[:6]}"), cloud_only.cloud.kubeconfig,
                       advertise=advertise)
        c.write_config(**config)
        made.append(c)
        return c.start() if start else c
    yield make
    for c in made:
        c.stop()


@pytest.fixture
def edges():
    made = []

    def make(cloud, register=True):
        e = Edge(cloud, f"e-{uuid.uuid4().hex[:8]}").join()
        made.append(e)
        e.connect()
        if register:
            e.register()
        return e
    yield make
    for e in made:
        e.close()


def pod(name, node, configmaps=()):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node, "containers": [
                {"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": c}} for c in configmaps]}]}}


def configmap(name, value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": {"value": value}}


def ends_with_one_error(cloud):
    """Starts it, to see it end: gives the line that says why."""
    cloud.start(wait=False)
    assert cloud.process.popen.wait(60) == 1
    lines = cloud.process.log().splitlines()
    assert " error " in lines[-1] and not any(" error " in line for line in lines[:-1])
    return lines[-1]


def server_certificate(cloud, port=None):
    pem = ssl.get_server_certificate(("127.0.0.1", port or cloud.https_port))
    return x509.load_pem_x509_certificate(pem.encode())


def public_key(certificate):
    return certificate.public_key().public_numbers()


def addresses(certificate):
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(a) for a in names.get_values_for_type(x509.IPAddress)}


# ---- several of them ----

def test_two_that_start_together_agree_on_ca_key_and_token(server, clouds, edges):
    kept = {n: server.get("secret", "-n", "kubeedge", n) for n in ("casecret", "cloudcoresecret", "tokensecret")}
    try:
        for _ in range(3):
            server.kubectl("delete", "secret", "-n", "kubeedge", *kept)
            a, b = clouds(start=False), clouds(start=False)
            a.start(wait=False)
            b.start(wait=False)
            a.wait_ready()
            b.wait_ready()
            assert https(a, "GET", "/ca.crt") == https(b, "GET", "/ca.crt")
            assert public_key(server_certificate(a)) == public_key(server_certificate(b))
            # There is one token, and it is good for both.
            token = a.join_token().split(".", 1)[1]
            for cloud in (a, b):
                status, answer = Edge(cloud, "joiner").ask_certificate(token)
                assert status == 200, answer
            # So is a certificate.
            e = edges(a)
            e.close()
            e.cloud = b
            e.connect()
            a.stop()
            b.stop()
    finally:
        for name, secret in kept.items():
            secret["metadata"] = {"name": name, "namespace": "kubeedge"}
            server.kubectl("delete", "secret", "-n", "kubeedge", name, "--ignore-not-found")
            server.kubectl("create", "-f", "-", stdin=secret)


def test_new_addresses_renew_the_server_certificate_with_the_same_key_and_ca(clouds, server):
    cloud = clouds()
    ca, before = https(cloud, "GET", "/ca.crt"), server_certificate(cloud)
    assert addresses(before) == {"127.0.0.1"}
    cloud.stop()
    cloud.write_config(advertiseAddress=["127.0.0.1", "192.0.2.7"])
    cloud.start()
    after = server_certificate(cloud)
    assert addresses(after) == {"127.0.0.1", "192.0.2.7"}
    assert public_key(after) == public_key(before)
    assert https(cloud, "GET", "/ca.crt") == ca
    stored = server.get("secret", "-n", "kubeedge", "cloudcoresecret")["data"]["cloudcoredata"]
    stored = x509.load_der_x509_certificate(base64.b64decode(stored))
    assert addresses(stored) == addresses(after) and public_key(stored) == public_key(before)


def test_the_api_servers_ca_is_refused_for_the_edges(cluster):
    """With it every edge could go to the API server itself."""
    cloud = cluster.add_cloud()
    cloud.write_config(tlsCAFile=f"{cloud.dir}/data/pki/ca.crt", tlsCAKeyFile=f"{cloud.dir}/data/pki/ca.key")
    assert os.path.basename(ends_with_one_error(cloud).split(" is the key of the API server's CA")[0]) == "ca.key"
    cloud.write_config()
    cloud.start()  # and nothing of it has stayed


# ---- sessions ----

def test_a_node_beyond_the_limit_is_refused_with_the_reason_and_comes_in_when_another_leaves(clouds, edges):
    cloud = clouds(nodeLimit=2)
    first, second = edges(cloud), edges(cloud)
    third = Edge(cloud, f"e-{uuid.uuid4().hex[:8]}").join()
    third.connect(wait=False)
    assert "node limit" in third.closed()
    first.settle()
    second.settle()
    assert third.name in [line for line in cloud.process.log().splitlines() if "nodeLimit" in line][-1]
    first.close()

    def comes_in():
        third.connect(wait=False)
        try:
            third.settle()
            return True
        except (EOFError, OSError):
            return False
    wait_for("the third node", comes_in)
    third.close()


def test_a_silent_nodes_session_ends_and_others_go_on(clouds, edges):
    cloud = clouds(keepaliveInterval=3)
    silent, lively = edges(cloud), edges(cloud)
    stop = threading.Event()

    def keep_alive():
        while not stop.wait(0.3):
            lively.send(message("keepalive", "node", "ping", "websocket", "resource"))
    beat = threading.Thread(target=keep_alive)
    beat.start()
    try:
        assert "keepalive" in silent.closed(60)
    finally:
        stop.set()
        beat.join()
    lively.settle()
    assert f"node={lively.name}" not in "".join(
        line for line in cloud.process.log().splitlines() if "silent" in line)


# ---- ports ----

@pytest.mark.parametrize("which", ["port", "https_port", "api_port", "monitor_port"])
def test_a_port_in_use_is_named_in_one_line(cluster, which):
    cloud = cluster.add_cloud()
    port = getattr(cloud, which)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        s.listen()
        assert f"port {port} on" in (line := ends_with_one_error(cloud)) and "is in use by another program" in line


# ---- an API server that goes away ----

def test_it_waits_for_an_api_server_and_survives_its_end(cluster, edges):
    cluster.start_cloud()
    server = cluster.cloud
    api = Api(server.kubeconfig)
    server.stop()
    plain = PlainCloud(os.path.join(cluster.dir, "plain"), server.kubeconfig)
    try:
        plain.start(wait=False)
        wait_for("the line that it waits", lambda: "waiting for the API server" in plain.process.log())
        server.start()
        plain.wait_ready()
        assert plain.process.log().count("waiting for the API server") == 1
        e = edges(plain)
        api.connection = None
        api.ok("POST", PODS, pod("p", e.name, ["c"]))
        e.object("default/pod/p")
        for round_ in range(2):
            server.process.kill()
            e.settle()
            question = e.send(message("query", f"null/node/{e.name}"))
            server.start()
            assert e.answer(question, 60)["content"]["kind"] == "Node"
            api.connection = None
            api.request("DELETE", f"{CONFIGMAPS}/c")
            api.ok("POST", CONFIGMAPS, configmap("c", f"round {round_}"))
            e.wait(lambda m: m["route"]["resource"] == "default/configmap/c"
                   and m["content"].get("data") == {"value": f"round {round_}"}, 60)
        assert plain.process.alive()
        e.settle()
    finally:
        plain.stop()


# ---- manifests ----

def test_every_manifest_applies(server):
    lines = server.kubectl("api-resources", "--no-headers", "--verbs=create").splitlines()
    kinds = {line.split()[-1] for line in lines}
    files = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(ROOT, "manifests"))
             for name in names if name.endswith(".yaml")]
    files.sort(key=lambda f: "namespace" not in f)
    objects = []
    for name in files:
        with open(name) as f:
            here = [o for o in yaml.safe_load_all(f) if o]
        assert here, name
        objects += here
    assert {o["kind"] for o in objects} <= kinds
    for o in objects:
        server.kubectl("apply", "-f", "-", stdin=o)
    # Neither this nor taking them away again touches what the server's own cloudcore may do.
    for o in objects:
        if o["kind"] in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
            server.kubectl("delete", "-f", "-", "--wait=false", stdin=o)


# ---- certificates of real edges ----

@pytest.fixture
def edge_node(cloud_only):
    """Makes a real edgecore without a container runtime, which is not started."""
    made = []

    def make(token=None):
        name = f"n-{uuid.uuid4().hex[:8]}"
        node = EdgeNode(os.path.join(cloud_only.dir, name), cloud_only.cloud, name, [], containerd=False, token=token)
        made.append(node)
        return node
    yield make
    for node in made:
        node.stop()


def put_certificate(node, start, end):
    """A certificate of the node's own, valid between so many seconds from now."""
    ca, ca_key = fleet_ca(node.cloud)
    key = new_key()
    files = {"rootCA.crt": ca.public_bytes(Encoding.PEM), "server.key": key_pem(key),
             "server.crt": sign(ca, ca_key, key, subject(f"system:node:{node.name}"), start, end)}
    os.makedirs(f"{node.dir}/pki")
    for name, text in files.items():
        with open(f"{node.dir}/pki/{name}", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write(text)


def certificate(node):
    with open(f"{node.dir}/pki/server.crt", "rb") as f:
        return x509.load_pem_x509_certificate(f.read())


def registered(node):
    return node.cloud.kubectl("get", "node", node.name, check=False).returncode == 0


def test_a_certificate_is_renewed_before_it_expires(edge_node):
    node = edge_node(token="none")
    put_certificate(node, -83, 40)  # 70 to 80 % of it are over in 3 to 16 seconds
    old = certificate(node)
    node.write_config()
    node.start_edgecore()
    wait_for("the node", lambda: registered(node))
    wait_for("the new certificate", lambda: certificate(node).not_valid_after > old.not_valid_after)
    new = certificate(node)
    assert new.subject == old.subject and public_key(new) != public_key(old)
    assert (new.not_valid_after - old.not_valid_after).total_seconds() > 300 * DAY
    assert node.process.log().count("certificate renewed") == 1 and "cannot" not in node.process.log()
    pid = node.process.pid
    node.process.stop()
    node.cloud.kubectl("delete", "node", node.name)
    node.start_edgecore()  # with what it has now
    wait_for("the node", lambda: registered(node))
    assert node.process.pid != pid and public_key(certificate(node)) == public_key(new)


def test_a_node_whose_certificate_expired_joins_again_with_a_token(edge_node):
    node = edge_node(token="none")
    put_certificate(node, -2 * DAY, -DAY)
    old = certificate(node)
    node.write_config()
    node.start_edgecore()
    wait_for("the reason in the log", lambda: "expired" in node.process.log())
    time.sleep(1)
    assert not registered(node)
    node.process.stop()
    node.token = None
    node.write_config()
    node.start_edgecore()
    wait_for("the node", lambda: registered(node))
    assert certificate(node).not_valid_after > old.not_valid_after


# ---- leases ----

def test_a_lapsed_lease_makes_a_node_not_ready_and_an_outage_of_the_api_server_does_not(cluster, edges):
    grace = 8
    cloud = cluster.add_cloud()
    cloud.extra_args = ["--node-monitor-grace-period", str(grace)]
    cloud.start()
    api = Api(cloud.kubeconfig)
    alive, silent = edges(cloud), edges(cloud)
    for e in (alive, silent):
        status = {"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}
        e.request(message("patch", f"null/nodepatch/{e.name}", json.dumps(status)))
        api.ok("POST", PODS, pod("p-" + e.name, e.name))
    stop = threading.Event()

    def renew():
        """As a lease does, through the API: the session ends with the cloud, the node does not."""
        mine, n = Api(cloud.kubeconfig), 0
        lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{alive.name}"
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": alive.name}}
        while not stop.wait(0.3):
            n += 1
            try:
                body["spec"] = {"holderIdentity": alive.name, "leaseTransitions": n}
                status, answer = mine.request("PUT", lease, body)
                if status == 409:  # the last one was stored, but its answer did not come
                    status, answer = mine.request("GET", lease)
                if status < 300:
                    body["metadata"]["resourceVersion"] = answer["metadata"]["resourceVersion"]
            except (OSError, http.client.HTTPException):
                mine.connection = None

    def ready(e):
        return condition(api.ok("GET", f"{CORE}/nodes/{e.name}"), "Ready")

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        wait_for("the silent node to be seen", lambda: ready(silent) == "Unknown")
        taints = wait_for("its taint", lambda: api.ok("GET", f"{CORE}/nodes/{silent.name}")["spec"].get("taints"))
        assert [t["key"] for t in taints] == ["node.kubernetes.io/unreachable"]
        assert "deletionTimestamp" not in api.ok("GET", f"{PODS}/p-{silent.name}")["metadata"]
        cloud.process.kill()
        time.sleep(grace + 1)  # longer than the grace period: every lease has lapsed
        cloud.start()
        api.connection = None
        # Silence is counted anew: once it is found again, nobody else may have been blamed.
        api.ok("POST", f"{CORE}/nodes", {"metadata": {"name": "witness"}})
        wait_for("a node that never said anything", lambda: condition(api.ok("GET", f"{CORE}/nodes/witness"), "Ready") == "Unknown")
        assert ready(alive) == "True"
        events = api.ok("GET", f"{CORE}/namespaces/default/events?fieldSelector=reason=NodeNotReady")["items"]
        assert alive.name not in {ev["involvedObject"]["name"] for ev in events}
        for e in (alive, silent):
            assert "deletionTimestamp" not in api.ok("GET", f"{PODS}/p-{e.name}")["metadata"]
    finally:
        stop.set()
        thread.join()


# ---- a full disk ----

@pytest.fixture
def small_disk(cluster):
    """A data folder with 24 MB."""
    folder = os.path.join(cluster.dir, "cloud", "data")
    os.makedirs(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", folder], check=True)
    yield folder
    cluster.cloud.stop()
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_writes_serves_reads_and_recovers_by_itself(cluster, small_disk, edges):
    cloud = cluster.start_cloud()
    api = Api(cloud.kubeconfig)
    e = edges(cloud)
    api.ok("POST", CONFIGMAPS, configmap("before", "1"))
    api.ok("POST", PODS, pod("p", e.name, ["before", "after"]))
    e.object("default/pod/p")
    filler = os.path.join(small_disk, "filler")
    with open(filler, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass

    def refused():
        status, body = api.request("POST", CONFIGMAPS, configmap(f"full-{uuid.uuid4().hex[:8]}", "x" * 100_000))
        return body if status == 503 else None
    body = wait_for("a write to be refused", refused)
    assert body["kind"] == "Status" and body["reason"] == "ServiceUnavailable" and "full" in body["message"]
    assert api.ok("GET", f"{CONFIGMAPS}/before")["data"] == {"value": "1"}
    # The edge: connected, its questions answered, its writes refused with the reason.
    assert e.request(message("query", "default/configmap/before"))["data"] == {"value": "1"}
    patch = json.dumps({"status": {"phase": "Running", "message": "x" * 100_000}})
    answer = e.request(message("patch", "default/podpatch/p", patch), timeout=60)
    assert answer["Err"]["ErrStatus"]["code"] == 503
    e.settle()
    lines = [line for line in cloud.process.log().splitlines() if "cannot be written" in line]
    assert len(lines) == 1 and "free space" in lines[0]

    os.unlink(filler)
    wait_for("a write", lambda: api.request("POST", CONFIGMAPS, configmap("after", "2"))[0] in (201, 409))
    assert e.object("default/configmap/after", timeout=60)["content"]["data"] == {"value": "2"}
    names = {o["metadata"]["name"] for o in api.ok("GET", CONFIGMAPS)["items"]}
    assert not [n for n in names if n.startswith("full-") and api.request("GET", f"{CONFIGMAPS}/{n}")[0] != 200]
    assert "can be written again" in cloud.process.log()
    cloud.process.kill()
    cloud.start()
    api.connection = None
    assert {o["metadata"]["name"] for o in api.ok("GET", CONFIGMAPS)["items"]} == names | {"after"}
