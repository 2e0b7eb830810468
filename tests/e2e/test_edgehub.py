"""edgecore's side of the wire, against a cloud that a test can make misbehave. Nothing else runs: edged is off."""

import http.client
import json
import os
import socket
import sqlite3
import stat
import threading
import time

import pytest

from harness.cluster import program
from harness.fake_cloud import FakeCloud, downstream
from harness.processes import Process, free_port, wait_for

NODE = "edge-1"


class Edge:
    def __init__(self, folder, cloud, token=None, heartbeat=15):
        self.dir, self.cloud = str(folder), cloud
        self.monitor_port = free_port()
        self.config = os.path.join(self.dir, "edgecore.yaml")
        self.database = os.path.join(self.dir, "edge.db")
        self.process = None
        with open(self.config, "w") as f:
            f.write(f"""# this line is the user's
kind: EdgeCore
database:
  dataSource: {self.database}
modules:
  edged:
    enable: false
    hostnameOverride: {NODE}
    tailoredKubeletConfig:
      readOnlyPort: {self.monitor_port}
  edgeHub:
    token: {token or cloud.pki.token()}
    httpServer: https://127.0.0.1:{cloud.https_port}
    heartbeat: {heartbeat}
    websocket:
      server: 127.0.0.1:{cloud.port}
      readDeadline: 2
    tlsCaFile: {self.dir}/pki/ca.crt
    tlsCertFile: {self.dir}/pki/server.crt
    tlsPrivateKeyFile: {self.dir}/pki/server.key
""")

    def start(self):
        self.process = Process([program("edgecore"), "--config", self.config], os.path.join(self.dir, "edgecore.log"))
        return self

    def get(self, path):
        """Status and text of what edgecore serves to operators."""
        c = http.client.HTTPConnection("127.0.0.1", self.monitor_port, timeout=10)
        c.request("GET", path)
        answer = c.getresponse()
        return answer.status, answer.read().decode()

    def metric(self, name):
        line = next(line for line in self.get("/metrics")[1].splitlines() if line.startswith(name + " "))
        return float(line.rsplit(" ", 1)[1])

    def rows(self):
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as db:
            return dict(db.execute("SELECT key, value FROM meta"))


@pytest.fixture
def cloud(tmp_path):
    c = FakeCloud(str(tmp_path))
    yield c
    c.close()


@pytest.fixture
def edge(tmp_path, cloud):
    e = Edge(tmp_path, cloud)
    yield e
    if e.process and e.process.alive():
        assert e.process.stop() == 0


def pod(name="web", uid="u1", rv="5", **metadata):
    return {"kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": NODE},
            "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": rv, **metadata}}


def acked(session, message, timeout=60):
    return wait_for("the acknowledgement", lambda: message["header"]["msg_id"] in session.acks(), timeout, 0.005)


def test_a_node_joins_with_its_token_and_keeps_its_files_private(edge, cloud):
    edge.start()
    s = cloud.session()
    assert s.headers["node_id"] == NODE
    assert s.headers["connectionuse"] == "msg"
    assert s.path == f"/{s.headers['project_id']}/{NODE}/events"
    first = s.wait("keepalive", lambda m: m["route"].get("operation") == "keepalive")
    assert first["route"] == {"source": "websocket", "group": "resource", "operation": "keepalive", "resource": "node"}
    assert first["content"] == "ping" and isinstance(first["header"]["timestamp"], int)
    assert stat.S_IMODE(os.stat(f"{edge.dir}/pki/server.key").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(edge.database).st_mode) == 0o600
    text = open(edge.config).read()
    assert 'token: ""' in text and text.startswith("# this line is the user's\n")
    assert cloud.certificate_requests == [{"node": NODE, "certificate": False}]


def test_a_restart_needs_no_token(edge, cloud):
    edge.start()
    cloud.session()
    assert edge.process.stop() == 0
    edge.start()
    cloud.session().wait("keepalive", lambda m: m["route"].get("operation") == "keepalive")
    assert len(cloud.certificate_requests) == 1


def test_a_wrong_token_is_told_once_and_a_right_one_needs_no_more_than_a_restart(tmp_path, cloud):
    edge = Edge(tmp_path, cloud, token=cloud.pki.token(secret=b"wrong")).start()
    wait_for("the reason", lambda: "token" in edge.process.log() and "401" in edge.process.log())
    wait_for("another attempt", lambda: len(cloud.certificate_requests) > 1)
    assert edge.process.log().count("cannot join the cloud") == 1
    assert not os.path.exists(f"{edge.dir}/pki/server.crt")
    edge.process.stop()
    edge = Edge(tmp_path, cloud).start()
    cloud.session()
    edge.process.stop()


def test_a_token_for_another_cloud_is_refused_before_anything_is_sent(tmp_path, cloud):
    token = "0" * 64 + "." + cloud.pki.token().split(".", 1)[1]
    edge = Edge(tmp_path, cloud, token=token).start()
    wait_for("the reason", lambda: "cannot join the cloud" in edge.process.log())
    assert cloud.certificate_requests == []
    edge.process.stop()


def test_what_was_acknowledged_is_there_after_kill_9(edge, cloud):
    edge.start()
    s = cloud.session()
    for i in range(50):
        m = downstream("insert", f"default/pod/p{i}", pod(f"p{i}", uid=f"u{i}"), rv="5")
        s.send(m)
    wait_for("all acknowledgements", lambda: len(s.acks()) == 50, interval=0.001)
    edge.process.kill()
    assert {f"default/pod/p{i}" for i in range(50)} <= set(edge.rows())


def test_kill_9_in_the_middle_loses_nothing_that_was_acknowledged(edge, cloud):
    for round_ in range(3):
        edge.start()
        s = cloud.session()
        sent = {}
        stop = threading.Event()

        def flood():
            i = 0
            while not stop.is_set() and i < 5000:
                name = f"r{round_}-{i}"
                m = downstream("update", f"default/configmap/{name}", {"metadata": {
                    "name": name, "namespace": "default", "uid": name, "resourceVersion": "3"}}, rv="3")
                sent[m["header"]["msg_id"]] = f"default/configmap/{name}"
                try:
                    s.send(m)
                except OSError:
                    return
                i += 1

        thread = threading.Thread(target=flood)
        thread.start()
        wait_for("some acknowledgements", lambda: len(s.acks()) > 100, interval=0.001)
        edge.process.kill()
        stop.set()
        thread.join()
        wait_for("the end of the connection", lambda: s.closed)
        rows = edge.rows()
        lost = [sent[i] for i in s.acks() if sent[i] not in rows]
        assert not lost


def test_a_retransmitted_message_is_acknowledged_each_time_and_changes_nothing(edge, cloud):
    edge.start()
    s = cloud.session()
    m = downstream("insert", "default/pod/web", pod(rv="7"), rv="7")
    for n in range(1, 4):
        s.send(m)
        wait_for("the acknowledgement", lambda: s.acks().count(m["header"]["msg_id"]) == n)
    old = downstream("update", "default/pod/web", pod(rv="6"), rv="6")
    s.send(old)
    acked(s, old)
    assert json.loads(edge.rows()["default/pod/web"])["metadata"]["resourceVersion"] == "7"


def test_malformed_messages_hurt_nobody(edge, cloud):
    edge.start()
    s = cloud.session()
    for text in (b"", b"{", b"[]", b"null", b'{"header":{"msg_id":"x","timestamp":1.5},"route":{}}', b"\xff\xfe",
                 b"[" * 100000, b'{"header":{},"route":{"group":"resource","operation":"insert"},"content":{}}'):
        s.send_frame(1, text)
    m = downstream("insert", "default/pod/web", pod(), rv="5")
    s.send(m)
    acked(s, m)
    assert edge.process.alive()


def test_a_large_object_in_fragments_is_stored(edge, cloud):
    edge.start()
    s = cloud.session()
    big = downstream("update", "default/configmap/big", {"metadata": {
        "name": "big", "namespace": "default", "uid": "b", "resourceVersion": "3"}, "data": {"k": "x" * 1000000}}, rv="3")
    data = json.dumps(big).encode()
    with s.write_lock:  # as the original does: the whole in one frame that is not final, then an empty final one
        s.sock.sendall(bytes([1, 127]) + len(data).to_bytes(8, "big") + data + bytes([128, 0]))
    acked(s, big)
    assert len(edge.rows()["default/configmap/big"]) > 1000000


def test_a_cut_connection_is_made_again(edge, cloud):
    edge.start()
    for _ in range(3):
        s = cloud.session()
        s.wait("keepalive", lambda m: m["route"].get("operation") == "keepalive")
        s.cut()
    cloud.session()


def test_a_cloud_that_falls_silent_is_noticed(tmp_path, cloud):
    edge = Edge(tmp_path, cloud, heartbeat=1).start()
    s = cloud.session()
    s.wait("keepalive", lambda m: m["route"].get("operation") == "keepalive")
    s.answer_pings = False
    cloud.session()
    edge.process.stop()


def test_keepalives_come_every_heartbeat(tmp_path, cloud):
    edge = Edge(tmp_path, cloud, heartbeat=1).start()
    s = cloud.session()
    wait_for("three keepalives", lambda: sum(m["route"].get("operation") == "keepalive" for m in s.received) >= 3)
    edge.process.stop()


def test_a_cloud_that_is_down_is_told_once_and_found_again(edge, cloud):
    edge.start()
    s = cloud.session()
    cloud.accepting = False
    s.cut()
    wait_for("five attempts", lambda: cloud.refused >= 5, 60)
    cloud.accepting = True
    cloud.session(timeout=60)
    wait_for("the other line", lambda: "can be reached again" in edge.process.log())
    lines = [line.split(" ", 1)[1] for line in edge.process.log().splitlines() if "no connection to the cloud" in line]
    assert lines and sorted(lines) == sorted(set(lines))  # how it failed may vary; each way is told once


def test_health_and_metrics_are_served_to_this_machine(edge, cloud):
    edge.start()
    s = cloud.session()
    wait_for("the connection to be counted", lambda: edge.metric("selvage_edgehub_connected") == 1)
    assert edge.get("/healthz") == edge.get("/healthz/syncloop") == edge.get("/readyz") == (200, "ok")
    m = downstream("update", "default/configmap/c", {"metadata": {"name": "c", "namespace": "default", "uid": "u"}})
    s.send(m)
    acked(s, m)
    assert edge.metric("selvage_metamanager_stored_total") == 1
    assert edge.metric("process_resident_memory_bytes") > 0
    assert edge.get("/pods")[0] == 404
    with socket.create_connection(("127.0.0.1", edge.monitor_port)) as c:
        c.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 405 " in c.recv(100) or b" 413 " in c.recv(100)
    cloud.accepting = False
    s.cut()
    wait_for("the end to be counted", lambda: edge.metric("selvage_edgehub_connected") == 0)
    assert edge.get("/readyz")[0] == 200  # offline is no reason to be called unready


def test_a_monitoring_port_in_use_stops_nothing_and_is_tried_again(edge, cloud):
    with socket.create_server(("127.0.0.1", edge.monitor_port)):
        edge.start()
        cloud.session()
        wait_for("the line", lambda: "metrics and health are not served" in edge.process.log())
    wait_for("the port to be taken", lambda: edge.get("/healthz")[0] == 200)
    assert edge.process.log().count("metrics and health are not served") == 1


def test_a_control_message_is_answered(edge, cloud):
    edge.start()
    s = cloud.session()
    m = downstream("ping", "node", "hello")
    s.send(m)
    answer = s.wait("answer", lambda a: a["header"].get("parent_msg_id") == m["header"]["msg_id"])
    assert answer["content"] == "ack"


def test_two_thousand_updates_are_stored_and_acknowledged(edge, cloud):
    edge.start()
    s = cloud.session()
    messages = [downstream("update", f"default/configmap/c{i}", {"kind": "ConfigMap", "metadata": {
        "name": f"c{i}", "namespace": "default", "uid": f"u{i}", "resourceVersion": str(i + 1)}, "data": {"k": "v" * 200}},
        rv=str(i + 1)) for i in range(2000)]
    started = time.monotonic()
    for m in messages:
        s.send(m)
    wait_for("all acknowledgements", lambda: len(s.acks()) == 2000, interval=0.005)
    print(f"2000 ConfigMaps stored at {2000 / (time.monotonic() - started):.0f} a second")
    assert len(edge.rows()) == 2000
