"""Wrong configuration and broken surroundings: one line that says what is wrong and what to do."""

import json
import os
import subprocess

import pytest

from harness.cluster import Cluster, EdgeNode, program
from harness.processes import free_port, wait_for


def run(name, *args, timeout=60):
    return subprocess.run([program(name), *args], capture_output=True, text=True, timeout=timeout)


def write(path, text):
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["cloudcore", "edgecore"])
def test_help_version_and_configurations_are_printed(name, tmp_path):
    assert "--config" in run(name, "--help").stdout
    version = run(name, "--version")
    assert version.returncode == 0 and version.stdout.strip()
    for flag in ("--defaultconfig", "--minconfig"):
        printed = run(name, flag)
        assert printed.returncode == 0
        import yaml
        config = yaml.safe_load(printed.stdout)
        assert config["kind"].lower() == name
        assert "modules" in config


@pytest.mark.parametrize("name", ["cloudcore", "edgecore"])
def test_an_unknown_flag_is_refused(name):
    r = run(name, "--no-such-flag")
    assert r.returncode != 0
    assert "no-such-flag" in r.stderr


@pytest.mark.parametrize("name", ["cloudcore", "edgecore"])
def test_a_missing_configuration_file_is_named(name, tmp_path):
    r = run(name, "--config", str(tmp_path / "nowhere.yaml"))
    assert r.returncode != 0
    assert "nowhere.yaml" in r.stderr


@pytest.mark.parametrize("name,text,line", [
    ("cloudcore", "kind: CloudCore\nmodules:\n  cloudHub:\n    nodeLimit: many\n", 4),
    ("edgecore", "kind: EdgeCore\nmodules:\n  edgeHub:\n    heartbeat: soon\n", 4),
])
def test_a_wrong_type_is_refused_with_its_line(name, text, line, tmp_path):
    r = run(name, "--config", write(tmp_path / "c.yaml", text))
    assert r.returncode != 0
    assert f"c.yaml:{line}" in r.stderr
    assert text.split()[-2].rstrip(":") in r.stderr


@pytest.mark.parametrize("name,kind", [("cloudcore", "CloudCore"), ("edgecore", "EdgeCore")])
def test_a_file_that_is_not_yaml_is_refused_with_its_line(name, kind, tmp_path):
    r = run(name, "--config", write(tmp_path / "c.yaml", f"kind: {kind}\nmodules: [\n"))
    assert r.returncode != 0
    assert "c.yaml:" in r.stderr


def test_an_unknown_key_is_warned_about_by_name_and_line(cluster):
    cluster.start_cloud()
    node = EdgeNode(os.path.join(cluster.dir, "n"), cluster.cloud, "n", [], containerd=False)
    cluster.nodes.append(node)
    node.write_config(edged={"colour": "blue", "hostnameOverride": "n"})
    node.start_edgecore()
    wait_for("the warning", lambda: "modules.edged.colour" in node.process.log() and "edgecore.yaml:" in node.process.log())


def test_edgecore_without_a_token_or_certificate_says_what_to_do(tmp_path):
    config = {"kind": "EdgeCore", "database": {"dataSource": str(tmp_path / "e.db")}, "modules": {
        "edgeHub": {"enable": True, "token": "", "httpServer": f"https://127.0.0.1:{free_port()}",
                    "websocket": {"server": f"127.0.0.1:{free_port()}"}, "tlsCaFile": str(tmp_path / "ca"),
                    "tlsCertFile": str(tmp_path / "crt"), "tlsPrivateKeyFile": str(tmp_path / "key")},
        "edged": {"hostnameOverride": "lonely", "rootDirectory": str(tmp_path / "k")}}}
    path = write(tmp_path / "edgecore.yaml", json.dumps(config))
    r = run("edgecore", "--config", path)
    assert r.returncode != 0
    assert "token" in r.stderr.splitlines()[-1]


def test_a_missing_runtime_socket_is_told_once_and_in_the_node_condition(cluster):
    cluster.start_cloud()
    node = EdgeNode(os.path.join(cluster.dir, "n"), cluster.cloud, "no-runtime", [], containerd=False)
    cluster.nodes.append(node)
    node.write_config()
    node.start_edgecore()
    def not_ready():
        for c in cluster.cloud.get("node", "no-runtime")["status"]["conditions"]:
            if c["type"] == "Ready" and c["status"] == "False" and "no-such.sock" in c["message"]:
                return True
    wait_for("the condition to name the socket", not_ready)
    lines = [line for line in node.process.log().splitlines() if "no-such.sock" in line]
    assert len({line.split(" ", 1)[1] for line in lines}) == len(lines)  # no line twice
    assert node.process.alive()


def test_a_foreign_certificate_is_refused_and_told(cluster):
    """A node whose certificate is from another cloud's CA gets nothing, and its log says why."""
    cluster.start_cloud()
    other = Cluster()
    try:
        other.start_cloud()
        node = EdgeNode(os.path.join(other.dir, "n"), other.cloud, "stranger", [], containerd=False)
        other.nodes.append(node)
        node.write_config()
        node.start_edgecore()
        wait_for("its certificate", lambda: os.path.exists(f"{node.dir}/pki/server.crt"))
        node.process.stop()
        node.cloud = cluster.cloud
        node.token = other.cloud.join_token()
        node.write_config()
        node.start_edgecore()
        wait_for("the reason", lambda: "certificate" in node.process.log(), timeout=60)
        assert cluster.cloud.kubectl("get", "node", "stranger", check=False).returncode != 0
        node.stop()
    finally:
        other.close()
