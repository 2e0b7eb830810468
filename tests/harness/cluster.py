"""One cloud and its edge nodes, made of the real programs, as a user would start them."""

import json
import os
import shutil
import subprocess
import tempfile
import time

from . import images
from .containerd import Containerd, unmount_below
from .network import EdgeNetwork
from .processes import Process, free_port, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build_folder():
    """Where the programs are: SELVAGE_BUILD, else build/."""
    return os.path.abspath(os.environ.get("SELVAGE_BUILD") or os.path.join(ROOT, "build"))


def program(name):
    for folder in ("src/cloud", "src/edge", "src/mapper", "."):
        path = os.path.join(build_folder(), folder, name)
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(f"{name} is not built in {build_folder()}: run meson compile first")


class Cloud:
    """cloudcore --standalone, with a configuration file of its own and plain kubectl to talk to it."""

    def __init__(self, folder, advertise="127.0.0.1", netns=None):
        self.dir, self.advertise, self.netns = folder, advertise, netns
        os.makedirs(folder, exist_ok=True)
        self.port, self.https_port, self.api_port, self.monitor_port = (free_port() for _ in range(4))
        self.tunnel_port, self.stream_port = (free_port() for _ in range(2))
        self.kubeconfig = os.path.join(folder, "admin.kubeconfig")
        self.config = os.path.join(folder, "cloudcore.yaml")
        self.extra_args = []
        self.kube_api = {}
        self.write_config()
        self.process = None

    def write_config(self, **changes):
        config = {
            "apiVersion": "cloudcore.config.kubeedge.io/v1alpha1",
            "kind": "CloudCore",
            "kubeAPIConfig": self.kube_api,
            "commonConfig": {"monitorServer": {"bindAddress": f"127.0.0.1:{self.monitor_port}"}},
            "modules": {"cloudHub": {
                "advertiseAddress": [self.advertise],
                "nodeLimit": 1000,
                "tlsCAFile": f"{self.dir}/pki/rootCA.crt", "tlsCAKeyFile": f"{self.dir}/pki/rootCA.key",
                "tlsCertFile": f"{self.dir}/pki/server.crt", "tlsPrivateKeyFile": f"{self.dir}/pki/server.key",
                "unixsocket": {"enable": False, "address": f"unix://{self.dir}/kubeedge.sock"},
                "websocket": {"enable": True, "address": "0.0.0.0", "port": self.port},
                "https": {"enable": True, "address": "0.0.0.0", "port": self.https_port},
                **changes,
            }, "cloudStream": {"enable": True, "tunnelPort": self.tunnel_port, "streamPort": self.stream_port}},
        }
        with open(self.config, "w") as f:
            json.dump(config, f, indent=1)  # JSON is YAML

    def arguments(self):
        return ["--standalone", "--config", self.config, "--data-dir", os.path.join(self.dir, "data"),
                "--apiserver-address", "127.0.0.1", "--apiserver-port", str(self.api_port),
                "--admin-kubeconfig", self.kubeconfig, *self.extra_args]

    def start(self, wait=True):
        self.process = Process([program("cloudcore"), *self.arguments()], os.path.join(self.dir, "cloudcore.log"),
                               netns=self.netns)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=60):
        def ready():
            if not self.process.alive():
                raise RuntimeError("cloudcore ended:\n" + self.process.log()[-3000:])
            return (os.path.exists(self.kubeconfig) and self.kubectl("get", "--raw", "/readyz").strip() == "ok"
                    and subprocess.run(["curl", "-sfk", f"https://127.0.0.1:{self.https_port}/readyz"],
                                       capture_output=True).returncode == 0)
        wait_for("cloudcore to be ready", ready, timeout)

    def kubectl_argv(self):
        return [os.environ.get("KUBECTL", "kubectl"), "--kubeconfig", self.kubeconfig,
                "--cache-dir", os.path.join(self.dir, "kubectl-cache")]

    def kubectl(self, *args, stdin=None, check=True, timeout=60):
        """Runs kubectl; gives its standard output. stdin: text, or an object that is sent as JSON."""
        if stdin is not None and not isinstance(stdin, str):
            stdin = json.dumps(stdin)
        r = subprocess.run([*self.kubectl_argv(), *args], input=stdin, capture_output=True, text=True, timeout=timeout)
        if check and r.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(args)} failed: {r.stderr}{r.stdout}")
        return r.stdout if check else r

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def apply(self, *objects):
        return self.kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def join_token(self):
        import base64
        secret = wait_for("the join token", lambda: self.get("secret", "-n", "kubeedge", "tokensecret"))
        return base64.b64decode(secret["data"]["tokendata"]).decode()

    def metrics(self):
        out = subprocess.run(["curl", "-sf", f"http://127.0.0.1:{self.monitor_port}/metrics"], check=True,
                             capture_output=True, text=True).stdout
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in out.splitlines()
                if line and not line.startswith("#")}

    def restart(self):
        self.process.stop()
        return self.start()

    def stop(self):
        return self.process.stop() if self.process else 0


class PlainCloud(Cloud):
    """cloudcore on somebody else's API server."""

    def __init__(self, folder, kubeconfig, **kwargs):
        super().__init__(folder, **kwargs)
        self.kubeconfig = kubeconfig
        self.kube_api = {"kubeConfig": kubeconfig}
        self.write_config()

    def arguments(self):
        return ["--config", self.config]


class EdgeNode:
    """edgecore with a containerd of its own; with network=True in a network namespace of its own."""

    def __init__(self, folder, cloud, name, archives, network=None, token=None, containerd=True):
        self.dir, self.cloud, self.name, self.network = folder, cloud, name, network
        self.netns = network.name if network else None
        os.makedirs(folder, exist_ok=True)
        self.archives = archives
        self.containerd = Containerd(os.path.join(folder, "c"), netns=self.netns) if containerd else None
        self.token = token
        self.config = os.path.join(folder, "edgecore.yaml")
        self.process = None

    def write_config(self, edged=None, edge_hub=None, **modules):
        host = self.network.host_ip if self.network else "127.0.0.1"
        socket = "unix://" + (self.containerd.socket if self.containerd else self.dir + "/no-such.sock")
        config = {
            "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
            "kind": "EdgeCore",
            "database": {"dataSource": f"{self.dir}/edgecore.db"},
            "modules": {
                "edgeHub": {
                    "enable": True, "token": self.token or self.cloud.join_token(),
                    "httpServer": f"https://{host}:{self.cloud.https_port}",
                    "websocket": {"enable": True, "server": f"{host}:{self.cloud.port}"},
                    "tlsCaFile": f"{self.dir}/pki/rootCA.crt", "tlsCertFile": f"{self.dir}/pki/server.crt",
                    "tlsPrivateKeyFile": f"{self.dir}/pki/server.key", **(edge_hub or {}),
                },
                "edged": {
                    "enable": True, "hostnameOverride": self.name, "rootDirectory": f"{self.dir}/kubelet",
                    "nodeIP": self.network.edge_ip if self.network else "127.0.0.1",
                    "tailoredKubeletConfig": {
                        "containerRuntimeEndpoint": socket, "imageServiceEndpoint": socket,
                        "podLogsDir": f"{self.dir}/pods", "staticPodPath": f"{self.dir}/manifests",
                        "readOnlyPort": 0, "cgroupRoot": "/",
                    },
                    **(edged or {}),
                },
                "edgeStream": {"enable": True, "server": f"{host}:{self.cloud.tunnel_port}"},
                "eventBus": {"enable": False}, "metaManager": {"enable": True},
                "deviceTwin": {"dmiSockPath": self.dir}, **modules,
            },
        }
        with open(self.config, "w") as f:
            json.dump(config, f, indent=1)

    def start(self, wait=True):
        if self.containerd and not self.containerd.process:
            self.containerd.start().import_images(self.archives)
        if not os.path.exists(self.config):
            self.write_config()
        self.start_edgecore()
        if wait:
            self.wait_ready()
        return self

    def start_edgecore(self):
        self.process = Process([program("edgecore"), "--config", self.config], os.path.join(self.dir, "edgecore.log"),
                               netns=self.netns)
        return self

    def wait_ready(self, timeout=60):
        def ready():
            if not self.process.alive():
                raise RuntimeError("edgecore ended:\n" + self.process.log()[-3000:])
            return node_ready(self.cloud.get("node", self.name))
        wait_for(f"node {self.name} to be Ready", ready, timeout)

    def run(self, argv, **kwargs):
        """Runs a command as if on the node."""
        return (self.network.run if self.network else subprocess.run)(argv, **kwargs)

    def fetch(self, url, timeout=5):
        return self.run(["curl", "-sf", "-m", str(timeout), url], check=True, capture_output=True, text=True).stdout

    def stop(self):
        if self.process:
            self.process.stop()
        if self.containerd:
            self.containerd.stop()
        unmount_below(self.dir)


def condition(obj, kind):
    for c in obj.get("status", {}).get("conditions", []):
        if c["type"] == kind:
            return c["status"]
    return None


def node_ready(node):
    return condition(node, "Ready") == "True"


class Cluster:
    """A folder, a cloud, nodes; everything is gone after close()."""

    def __init__(self, prefix="sv"):
        # Short: unix socket paths end at 107 bytes.
        self.dir = tempfile.mkdtemp(prefix=prefix)
        self.nodes, self.networks, self.cloud = [], [], None
        self._archives = None

    def archives(self):
        if self._archives is None:
            self._archives = images.make_all(os.environ.get("SELVAGE_IMAGES") or os.path.join(self.dir, "images"))
        return self._archives

    def add_cloud(self, **kwargs):
        self.cloud = Cloud(os.path.join(self.dir, "cloud"), **kwargs)
        return self.cloud

    def start_cloud(self, **kwargs):
        return self.add_cloud(**kwargs).start()

    def add_network(self):
        network = EdgeNetwork()
        self.networks.append(network)
        return network

    def add_node(self, name="edge-1", start=True, **kwargs):
        node = EdgeNode(os.path.join(self.dir, name), self.cloud, name, self.archives(), **kwargs)
        self.nodes.append(node)
        return node.start() if start else node

    def pod_phase(self, name, ns="default"):
        return self.cloud.get("pod", name, "-n", ns).get("status", {}).get("phase")

    def wait_running(self, name, ns="default", timeout=60):
        def running():
            pod = self.cloud.get("pod", name, "-n", ns)
            return pod if condition(pod, "Ready") == "True" else None
        return wait_for(f"pod {ns}/{name} to run", running, timeout)

    def logs(self):
        out = []
        for what in ([self.cloud] if self.cloud else []) + self.nodes:
            if what.process:
                out.append(f"---- {what.process.argv[0]} ({what.dir})\n" + what.process.log()[-6000:])
        return "\n".join(out)

    def close(self):
        for node in self.nodes:
            node.stop()
        if self.cloud:
            self.cloud.stop()
        for network in self.networks:
            network.remove()
        for _ in range(20):
            unmount_below(self.dir)
            try:
                shutil.rmtree(self.dir)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.1)


def pod(name, command=None, node=None, **spec):
    """A pod with one busybox container called main."""
    container = {"name": "main", "image": images.BUSYBOX, "imagePullPolicy": "IfNotPresent"}
    if command:
        container["command"] = command if isinstance(command, list) else ["sh", "-c", command]
    container.update(spec.pop("container", {}))
    metadata = {"name": name, "namespace": spec.pop("namespace", "default")}
    for key in ("labels", "annotations"):
        if key in spec:
            metadata[key] = spec.pop(key)
    body = {"containers": [container], **spec}
    if node:
        body["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


SERVE = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"
SLEEP = "trap 'exit 0' TERM; sleep 1000000 & wait"
