"""kubectl logs and its kin against a pod behind the tunnel (embedded-api.md 10.9)."""

import os
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.cluster import pod  # noqa: E402
from harness.processes import wait_for  # noqa: E402

LINES = "for i in 1 2 3 4 5; do echo line $i; done; echo last; "
WAIT = "trap 'exit 0' TERM; sleep 1000000 & wait"


@pytest.fixture(scope="module")
def pods(joined):
    """A pod of one container, one of two, one whose container has ended once."""
    web = pod("web", LINES + "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait")
    two = pod("two", "echo from main; echo and errors >&2; " + WAIT)
    two["spec"]["containers"].append({**two["spec"]["containers"][0], "name": "other",
                                      "command": ["sh", "-c", "echo from other; " + WAIT]})
    again = pod("again", "if test -e /data/x; then echo second; " + WAIT + "; else echo first; touch /data/x; exit 1; fi",
                volumes=[{"name": "data", "emptyDir": {}}],
                container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]})
    joined.cloud.apply(web, two, again)
    for name in ("web", "two", "again"):
        joined.wait_running(name)
    wait_for("the last line", lambda: "last" in joined.cloud.kubectl("logs", "web"))
    return joined


def run(pods, *args, **kwargs):
    return subprocess.run([*pods.cloud.kubectl_argv(), *args], capture_output=True, text=True, timeout=60, **kwargs)


def test_171_logs_are_those_of_the_container(pods):
    assert pods.cloud.kubectl("logs", "web").splitlines() == [*(f"line {i}" for i in range(1, 6)), "last"]


def test_171_tail_since_timestamps_and_limit(pods):
    k = pods.cloud.kubectl
    assert k("logs", "web", "--tail=2") == "line 5\nlast\n"
    assert k("logs", "web", "--tail=0") == ""
    assert k("logs", "web", "--since=1h").count("\n") == 6
    assert k("logs", "web", "--since-time=2100-01-01T00:00:00Z") == ""
    assert k("logs", "web", "--limit-bytes=10") == "line 1\nlin"
    stamp, text = k("logs", "web", "--tail=1", "--timestamps").split(" ", 1)
    assert text == "last\n" and stamp.endswith("Z") and "." in stamp


def test_171_previous_containers_and_selectors(pods):
    k = pods.cloud.kubectl
    wait_for("the second start", lambda: "second" in k("logs", "again"))
    assert k("logs", "again", "--previous") == "first\n"
    assert k("logs", "two", "-c", "other") == "from other\n"
    assert set(k("logs", "two", "--all-containers").splitlines()) == {"from main", "and errors", "from other"}


def test_refusals_are_statuses_with_a_reason(pods):
    wrong = run(pods, "logs", "web", "-c", "nope")
    assert wrong.returncode == 1 and "container nope is not valid for pod web" in wrong.stderr
    none = run(pods, "logs", "web", "--previous")
    assert none.returncode == 1 and 'previous terminated container "main" in pod "web" not found' in none.stderr
    raw = run(pods, "get", "--raw", "/api/v1/namespaces/default/pods/two/log")
    assert raw.returncode == 1 and "a container name must be specified for pod two, choose one of: [main other]" in raw.stderr
    bad = run(pods, "get", "--raw", "/api/v1/namespaces/default/pods/web/log?tailLines=x")
    assert bad.returncode == 1 and "tailLines" in bad.stderr


def test_171_followed_logs_come_as_they_are_written_and_end_with_the_container(pods):
    pods.cloud.apply(pod("counter", "echo one; while ! test -e /tmp/go; do sleep 0.1; done; echo two", restartPolicy="Never"))
    wait_for("the first line", lambda: run(pods, "logs", "counter").stdout == "one\n")
    with subprocess.Popen([*pods.cloud.kubectl_argv(), "logs", "-f", "counter"], stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == "one\n"
        root = pods.nodes[0].containerd
        assert root.process.alive() and p.poll() is None
        pods.cloud.kubectl("delete", "pod", "counter", "--grace-period=1", "--wait=false")
        assert p.wait(60) == 0


def test_166_an_exit_code_is_the_command_s(pods):
    assert run(pods, "exec", "web", "--", "true").returncode == 0
    r = run(pods, "exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (r.returncode, r.stdout) == (3, "out\n") and "err\n" in r.stderr
    missing = run(pods, "exec", "web", "--", "no-such-program")
    assert missing.returncode != 0 and "no-such-program" in missing.stderr


def test_167_input_ends_when_the_client_s_does(pods):
    assert run(pods, "exec", "-i", "web", "--", "cat", input="x\ny\n").stdout == "x\ny\n"


def test_174_the_container_of_an_exec(pods):
    wrong = run(pods, "exec", "two", "-c", "nope", "--", "true")
    assert wrong.returncode == 1 and "nope" in wrong.stderr
    assert run(pods, "exec", "two", "-c", "other", "--", "echo", "here").stdout == "here\n"


def test_ten_megabytes_go_through_exec_both_ways(pods):
    data = os.urandom(10 << 20)
    r = subprocess.run([*pods.cloud.kubectl_argv(), "exec", "-i", "web", "--", "cat"], input=data, capture_output=True,
                       timeout=120)
    assert r.returncode == 0 and r.stdout == data


def test_170_port_forward_serves_parallel_requests_and_tells_of_a_refused_port(pods):
    with subprocess.Popen([*pods.cloud.kubectl_argv(), "port-forward", "pod/web", ":8080", ":1"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        try:
            ports = {}
            while len(ports) < 2:
                line = p.stdout.readline()
                assert line, "port-forward ended"
                if "127.0.0.1" in line:
                    local, remote = line.split("127.0.0.1:")[1].split(" -> ")
                    ports[int(remote)] = int(local)
            url = f"http://127.0.0.1:{ports[8080]}/"
            fetch = ["curl", "-s", "-w", "%{http_code}\n", "-m", "60"]
            clients = [subprocess.Popen([*fetch, *5 * ["-o", "/dev/null", url]], stdout=subprocess.PIPE, text=True) for _ in range(5)]
            for c in clients:
                codes = c.communicate(timeout=60)[0].split()
                assert len(codes) == 5 and set(codes) <= {"200", "404"}, codes
            # kubectl itself gives up its connection after this, so it comes last
            assert subprocess.run(["curl", "-sf", "-m", "60", f"http://127.0.0.1:{ports[1]}/"]).returncode != 0
            assert "refused" in p.stderr.readline()
        finally:
            p.terminate()


def test_175_a_vanished_client_s_streams_are_gone_and_others_go_on(pods):
    with subprocess.Popen([*pods.cloud.kubectl_argv(), "logs", "-f", "web"], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout.readline() == "line 1\n"
        with subprocess.Popen([*pods.cloud.kubectl_argv(), "exec", "-i", "web", "--", "cat"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as e:
            e.stdin.write("hello\n")
            e.stdin.flush()
            assert e.stdout.readline() == "hello\n"
            e.kill()
        # cat's input ends with its client; nothing else in the pod is called cat
        wait_for("cat to be gone", lambda: "cat" not in run(pods, "exec", "web", "--", "ps", "-o", "args").stdout.split())
        assert follower.poll() is None
        follower.terminate()


def test_a_node_s_summary_comes_through_its_proxy(pods):
    summary = pods.cloud.kubectl("get", "--raw", "/api/v1/nodes/edge-1/proxy/stats/summary")
    assert '"nodeName"' in summary and '"web"' in summary


def test_a_node_s_own_credentials_reach_no_stream(pods):
    r = run(pods, "exec", "web", "--as=system:node:edge-1", "--as-group=system:nodes", "--", "true")
    assert r.returncode != 0 and "cannot" in r.stderr


def test_173_on_an_offline_node_it_fails_soon_and_names_the_node(joined):
    """Last: it takes the node's edgecore away for a moment."""
    node = joined.nodes[0]
    node.process.stop()
    try:
        wait_for("the tunnel to be gone", lambda: "edge-1" in run(joined, "logs", "web").stderr)
        r = run(joined, "exec", "web", "--", "true")
        assert r.returncode != 0 and "edge-1" in r.stderr
    finally:
        node.start_edgecore()
        node.wait_ready()
    wait_for("logs to work again", lambda: "last" in run(joined, "logs", "web").stdout)
