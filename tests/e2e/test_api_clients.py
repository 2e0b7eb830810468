"""The official clients, as their users run them, through a restart of the server and a history that is gone."""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import uuid

import kubernetes
import pytest
import urllib3
from kubernetes.client.rest import ApiException

from harness.processes import wait_for

JS = os.path.join(os.path.dirname(__file__), "..", "js")
MODULES = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "selvage/js/node_modules")


@pytest.fixture(scope="module")
def cloud(cloud_only):
    return cloud_only.cloud


@pytest.fixture(scope="module")
def client(cloud):
    return kubernetes.config.new_client_from_config(cloud.kubeconfig)


@pytest.fixture(scope="module")
def core(client):
    return kubernetes.client.CoreV1Api(client)


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def namespace(core):
    name = unique("ns")
    core.create_namespace({"metadata": {"name": name}})
    return name


def config_map(name, **data):
    return {"metadata": {"name": name}, "data": data}


def again(call):
    """The server may be on its way back."""
    def attempt():
        try:
            return call() or True
        except (ApiException, urllib3.exceptions.HTTPError) as e:
            if isinstance(e, ApiException) and e.status not in (0, 429, 503):
                raise
            return None
    return wait_for("the server's answer", attempt)


class Informer(threading.Thread):
    """List, then watch, then watch on from the last resourceVersion; all over again after 410, as the documentation shows."""

    def __init__(self, core, namespace):
        super().__init__(daemon=True)
        self.core, self.namespace, self.held, self.stopped, self.lists = core, namespace, {}, False, 0
        self.start()

    def run(self):
        while not self.stopped:
            try:
                listing = self.core.list_namespaced_config_map(self.namespace)
                self.held = {o.metadata.name: o for o in listing.items}
                self.lists += 1
                self.follow(listing.metadata.resource_version)
            except (ApiException, urllib3.exceptions.HTTPError): # the server is away, or the history is gone
                continue

    def follow(self, version):
        while not self.stopped:
            stream = kubernetes.watch.Watch().stream(self.core.list_namespaced_config_map, self.namespace,
                                                     resource_version=version, timeout_seconds=2)
            for event in stream:
                o = event["object"]
                version = o.metadata.resource_version
                if event["type"] == "DELETED":
                    self.held.pop(o.metadata.name, None)
                else:
                    self.held[o.metadata.name] = o


def test_python_lists_watches_and_patches(client, core, namespace):
    core.create_namespaced_config_map(namespace, config_map("a", x="1"))
    assert core.patch_namespaced_config_map("a", namespace, {"data": {"y": "2"}}).data == {"x": "1", "y": "2"}
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_config_map(namespace, config_map("a"))
    assert refused.value.status == 409 and json.loads(refused.value.body)["reason"] == "AlreadyExists"
    core.delete_namespaced_config_map("a", namespace)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("a", namespace)
    assert gone.value.status == 404


def test_python_dynamic_client_finds_kinds_and_patches(client, namespace):
    dynamic = kubernetes.dynamic.DynamicClient(client)
    roles = dynamic.resources.get(api_version="rbac.authorization.k8s.io/v1", kind="Role")
    made = roles.create(namespace=namespace, body={
        "metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]})
    assert made.metadata.uid and roles.get(name="r", namespace=namespace).rules[0].verbs == ["get"]
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    maps.create(namespace=namespace, body=config_map("m", k="v"))
    patched = maps.patch(namespace=namespace, body={"metadata": {"name": "m"}, "data": {"k": "w"}},
                         content_type="application/merge-patch+json")
    assert patched.data.k == "w"


def test_a_pod_s_token_authenticates_the_python_client(core, cloud, client, namespace):
    """What a container has in its projected volume is enough to talk to the server."""
    pod = core.create_namespaced_pod(namespace, {"metadata": {"name": "p"}, "spec": {
        "nodeName": "nowhere", "containers": [{"name": "c", "image": "x"}]}})
    token = core.create_namespaced_service_account_token("default", namespace, {"spec": {
        "audiences": [], "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod.metadata.uid}}})
    config = kubernetes.client.Configuration()
    config.host, config.ssl_ca_cert = client.configuration.host, client.configuration.ssl_ca_cert
    config.api_key, config.api_key_prefix = {"authorization": token.status.token}, {"authorization": "Bearer"}
    inside = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(config))
    with pytest.raises(ApiException) as refused:
        inside.list_namespaced_pod(namespace)
    assert refused.value.status == 403 and f"system:serviceaccount:{namespace}:default" in refused.value.body
    cloud.kubectl("create", "rolebinding", "view", "--clusterrole=view", f"--serviceaccount={namespace}:default", "-n", namespace)
    assert [p.metadata.name for p in inside.list_namespaced_pod(namespace).items] == ["p"]


class JsInformer:
    def __init__(self, cloud, namespace, folder):
        script = os.path.join(folder, "informer.mjs")
        shutil.copy(os.path.join(JS, "informer.mjs"), script)
        os.symlink(MODULES, os.path.join(folder, "node_modules"))
        self.process = subprocess.Popen(["node", script, cloud.kubeconfig, namespace], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def held(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        while True:
            told = self.lines.get(timeout=60)
            if told["event"] == "held":
                return told["value"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def outlive_the_history(core, namespace):
    """Changes so much that the server forgets what was before."""
    core.create_namespaced_config_map(namespace, config_map("big"))
    for i in range(48):
        core.patch_namespaced_config_map("big", namespace, {"data": {"x": f"{i:08d}" * 50000}})
    core.delete_namespaced_config_map("big", namespace)


def follow_through_a_restart(cloud, core, namespace, held):
    """held() is what an informer holds of the namespace; it has to come to hold what there is."""
    def expect(what):
        def same():
            there = {o.metadata.name for o in core.list_namespaced_config_map(namespace).items}
            return set(held()) == there and there
        return wait_for(what, same)
    core.create_namespaced_config_map(namespace, config_map("first"))
    assert "first" in expect("the first object")
    cloud.restart()
    again(lambda: core.create_namespaced_config_map(namespace, config_map("second")))
    core.delete_namespaced_config_map("first", namespace)
    names = expect("what happened after the restart")
    assert "second" in names and "first" not in names


def test_the_python_client_follows_through_a_restart(cloud, core, namespace):
    informer = Informer(core, namespace)
    try:
        follow_through_a_restart(cloud, core, namespace, lambda: informer.held)
    finally:
        informer.stopped = True


def test_the_python_client_is_told_that_the_history_is_gone(core, namespace):
    old = core.create_namespaced_config_map(namespace, config_map("first")).metadata.resource_version
    outlive_the_history(core, namespace)

    def told():
        try:
            for _ in kubernetes.watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version=old,
                                                     timeout_seconds=1):
                pass
        except ApiException as e:
            return e.status
    assert wait_for("410", told) == 410


needs_js = pytest.mark.skipif(not os.path.isdir(MODULES) or not shutil.which("node"),
                    reason="the JavaScript client is not at hand: script/bootstrap fetches it")


@needs_js
def test_the_javascript_informer_follows_through_a_restart(cloud, core, namespace, tmp_path):
    informer = JsInformer(cloud, namespace, str(tmp_path))
    try:
        follow_through_a_restart(cloud, core, namespace, informer.held)
    finally:
        informer.stop()


@needs_js
def test_the_javascript_informer_starts_anew_when_the_history_is_gone(cloud, core, namespace, tmp_path):
    informer = JsInformer(cloud, namespace, str(tmp_path))
    try:
        core.create_namespaced_config_map(namespace, config_map("first"))
        wait_for("the first object", lambda: "first" in informer.held())
        informer.process.send_signal(signal.SIGSTOP)
        outlive_the_history(core, namespace)
        core.create_namespaced_config_map(namespace, config_map("second"))
        core.delete_namespaced_config_map("first", namespace)
        informer.process.send_signal(signal.SIGCONT)
        wait_for("what there is now", lambda: {"first", "second", "big"} & set(informer.held()) == {"second"})
    finally:
        informer.process.send_signal(signal.SIGCONT)
        informer.stop()
