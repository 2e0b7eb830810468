"""The demo: one cloud, one edge node, one pod, driven by plain kubectl. `make demo` calls it."""

import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.cluster import Cluster, program  # noqa: E402
from harness.devices import Mapper, ModbusServer, device, model, reported  # noqa: E402
from harness.images import BUSYBOX  # noqa: E402
from harness.processes import rss_kib, wait_for  # noqa: E402

MANIFEST = f"""\
apiVersion: v1
kind: ConfigMap
metadata:
  name: greeting
data:
  index.html: |
    <h1>Hello from the edge</h1>
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    app: web
spec:
  containers:
  - name: httpd
    image: {BUSYBOX}
    imagePullPolicy: IfNotPresent
    command: ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p 8080 -h /srv & wait"]
    ports:
    - containerPort: 8080
    volumeMounts:
    - name: pages
      mountPath: /srv
  volumes:
  - name: pages
    configMap:
      name: greeting
"""


def say(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def step(text, action):
    print(f"  {text} ...", end="", flush=True)
    start = time.monotonic()
    result = action()
    print(f" {time.monotonic() - start:.2f} s", flush=True)
    return result


def show(cluster, *args):
    print("  $ kubectl " + " ".join(args), flush=True)
    for line in cluster.cloud.kubectl(*args).splitlines():
        print("  " + line)
    sys.stdout.flush()


def show_programs(cluster, node):
    for name, process in (("cloudcore", cluster.cloud.process), ("edgecore", node.process)):
        print(f"  {name:10} {rss_kib(process.pid) / 1024:6.1f} MB of memory, binary "
              f"{os.path.getsize(program(name)) / 1e6:.1f} MB (with debug information, if it has any)")


def demo(cluster):
    say("A cloud: cloudcore --standalone, with its own Kubernetes API")
    network = step("a network for the edge node", cluster.add_network)
    step("start cloudcore", lambda: cluster.start_cloud(advertise=network.host_ip))

    say("An edge node: containerd and edgecore, in a network namespace of its own")
    step("make two small images (nothing is pulled)", cluster.archives)
    node = cluster.add_node("edge-1", start=False, network=network)
    step("start containerd, import the images", lambda: node.containerd.start().import_images(node.archives))
    node.write_config()
    step("start edgecore: join with the token, register, be Ready", node.start)
    show(cluster, "get", "nodes")

    say("A pod, described with kubectl")
    path = os.path.join(cluster.dir, "web.yaml")
    with open(path, "w") as f:
        f.write(MANIFEST)
    show(cluster, "apply", "-f", path)
    pod = step("wait for it to run", lambda: cluster.wait_running("web"))
    show(cluster, "get", "nodes,pods", "-o", "wide")
    url = f"http://{pod['status']['podIP']}:8080/"
    wait_for("the page", lambda: node.fetch(url))
    print(f"  $ curl {url}\n  {node.fetch(url)}", end="")

    say("A ConfigMap changes; the running container sees it")
    page = "<h1>The edge heard you</h1>"
    show(cluster, "patch", "configmap", "greeting", "-p", '{"data":{"index.html":"' + page + '\\n"}}')
    step("wait for the new page", lambda: wait_for("the new page", lambda: page in node.fetch(url)))
    print(f"  $ curl {url}\n  {node.fetch(url)}", end="")
    return node


def meter(cluster, node):
    """A simulated Modbus meter on the node's network, and the mapper that reads it."""
    say("A meter, described with kubectl: a Modbus device on the edge node's network")
    server = ModbusServer(node.dir, "tcp", 1502, netns=node.netns)
    mapper = Mapper(node, "modbus").start()
    path = os.path.join(cluster.dir, "meter.yaml")
    objects = [
        model("meter", {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"}, "setpoint", protocol="modbus"),
        device("meter-1", "meter", node.name,
               {"name": "temperature", "collectCycle": 200, "visitors": {"protocolName": "modbus", "configData": {
                   "register": "InputRegister", "offset": 615, "dataType": "float", "scale": 0.1}}},
               {"name": "setpoint", "collectCycle": 200, "desired": {"value": "21"}, "visitors": {
                   "protocolName": "modbus", "configData": {"register": "HoldingRegister", "offset": 60}}},
               protocol="modbus", config={"communicateMode": "TCP", "ip": "127.0.0.1", "port": "1502", "slaveID": 1})]
    with open(path, "w") as f:
        json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, f, indent=1)
    try:
        show(cluster, "apply", "-f", path)
        step("wait for its reading", lambda: wait_for("the reading", lambda: reported(cluster.cloud, "meter-1").get(
            "temperature") == "61.5"))
        wait_for("its state", lambda: "ok" in cluster.cloud.kubectl("get", "device", "meter-1").split())
        show(cluster, "get", "devices")
        show(cluster, "patch", "device", "meter-1", "--type=json", "-p",
             '[{"op":"replace","path":"/spec/properties/1/desired/value","value":"24"}]')
        step("wait for the register to say so", lambda: wait_for("the register", lambda: reported(
            cluster.cloud, "meter-1").get("setpoint") == "24"))
        show(cluster, "get", "devicestatus", "meter-1", "-o",
             r'jsonpath={range .status.twins[*]}{.propertyName}={.reported.value}{"\n"}{end}')
        print(f"  modbus-mapper {rss_kib(mapper.process.pid) / 1024:.1f} MB of memory")
    finally:
        mapper.stop()
        server.stop()


def finish(cluster):
    say("The pod is deleted")
    start = time.monotonic()
    show(cluster, "delete", "pod", "web", "--timeout=30s")
    print(f"  gone after {time.monotonic() - start:.2f} s")


def stay(cluster, node):
    say("It stays up until you press Ctrl-C. In another terminal:")
    print(f"  export KUBECONFIG={cluster.cloud.kubeconfig}\n  kubectl get nodes,pods -o wide\n"
          f"  kubectl apply -f {cluster.dir}/web.yaml\n"
          f"  logs: {cluster.cloud.dir}/cloudcore.log {node.dir}/edgecore.log")
    sys.stdout.flush()
    try:
        while cluster.cloud.process.alive() and node.process.alive():
            time.sleep(0.5)
        print("a program ended by itself; its log says why:\n" + cluster.logs())
        return 1
    except KeyboardInterrupt:
        return 0


def main():
    if os.geteuid() != 0:
        print("demo: containers need root: run it as root, or with sudo", file=sys.stderr)
        return 1
    if shutil.which("kubectl") is None:
        print("demo: kubectl is not installed: script/bootstrap installs it", file=sys.stderr)
        return 1
    cluster = Cluster(prefix="svdemo")
    try:
        node = demo(cluster)
        meter(cluster, node)
        show_programs(cluster, node)
        finish(cluster)
        code = stay(cluster, node) if sys.stdin.isatty() and sys.stdout.isatty() else 0
    except KeyboardInterrupt:
        code = 130
    except (AssertionError, TimeoutError, subprocess.SubprocessError, OSError) as e:
        print(f"\ndemo: {e}\n{cluster.logs()}", file=sys.stderr)
        code = 1
    finally:
        say("Cleaning up")
        cluster.close()
    if code == 0:
        print("demo: done")
    return code


if __name__ == "__main__":
    sys.exit(main())
