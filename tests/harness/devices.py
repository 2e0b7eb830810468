"""What stands around devices: MQTT clients, and a node that has devices but no containers."""

import json
import os
import socket
import subprocess
import threading
import time

from .cluster import EdgeNode, program
from .processes import Process, free_port, wait_for

API = "devices.kubeedge.io/v1beta1"


def model(name, *properties, protocol="virtual", ns="default", **spec):
    """properties: names, or dictionaries of their fields."""
    full = [{"type": "INT", "accessMode": "ReadWrite", **(p if isinstance(p, dict) else {"name": p})} for p in properties]
    return {"apiVersion": API, "kind": "DeviceModel", "metadata": {"name": name, "namespace": ns},
            "spec": {"protocol": protocol, "properties": full, **spec}}


def device(name, model_name, node, *properties, protocol="virtual", ns="default", config=None, **spec):
    full = [{"reportToCloud": True, "visitors": {"protocolName": protocol, "configData": {}},
             **(p if isinstance(p, dict) else {"name": p})} for p in properties]
    return {"apiVersion": API, "kind": "Device", "metadata": {"name": name, "namespace": ns},
            "spec": {"deviceModelRef": {"name": model_name}, "nodeName": node,
                     "protocol": {"protocolName": protocol, "configData": config or {}}, "properties": full, **spec}}


def reported(cloud, name, ns="default"):
    """{property: value} as the DeviceStatus shows it."""
    status = cloud.get("devicestatus", "-n", ns, name).get("status", {})
    return {t["propertyName"]: t["reported"]["value"] for t in status.get("twins", [])}


class Subscriber:
    """mosquitto_sub on some topics; keeps what comes as (topic, payload)."""

    def __init__(self, port, *topics, options=()):
        argv = ["stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-d", "-F", "=%t %p", *options]
        for t in topics:
            argv += ["-t", t]
        self.messages, self.subscribed = [], threading.Event()
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        end = time.monotonic() + 60
        while not self.subscribed.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > end:  # the broker may be starting: try again
                self.close()
                raise ConnectionError("mosquitto_sub is not subscribed")

    def read(self):
        for line in self.process.stdout:
            if line.startswith("="):
                self.messages.append(tuple(line[1:].rstrip("\n").split(" ", 1)))
            elif "received SUBACK" in line:
                self.subscribed.set()

    def wait(self, topic, fits=lambda payload: True, timeout=60):
        """The parsed payload of a message on the topic; it is taken out."""
        def look():
            for m in list(self.messages):
                payload = json.loads(m[1])
                if m[0] == topic and fits(payload):
                    self.messages.remove(m)
                    return payload
            return None
        return wait_for(f"a message on {topic}; seen: {self.messages[-5:]}", look, timeout)

    def close(self):
        self.process.terminate()
        self.process.wait()


class DeviceNode(EdgeNode):
    """edgecore with its internal broker and without containers."""

    def __init__(self, folder, cloud, name):
        super().__init__(folder, cloud, name, [], containerd=False)
        self.mqtt_port = free_port()

    def start(self, wait=True, **event_bus):
        if not os.path.exists(self.config) or event_bus:
            self.write_config(edged={"enable": False}, eventBus={
                "enable": True, "mqttMode": 0, "mqttServerInternal": f"tcp://127.0.0.1:{self.mqtt_port}", **event_bus})
        mark = "connected to the MQTT broker"
        before = self.process.log().count(mark) if self.process else 0
        self.start_edgecore()
        if wait:
            wait_for("the broker", lambda: self.process.log().count(mark) > before)
        return self

    def publish(self, topic, payload, *options):
        text = payload if isinstance(payload, str) else json.dumps(payload)
        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.mqtt_port), "-q", "1", "-t", topic,
                        "-m", text, *options], check=True, timeout=60)

    def subscribe(self, *topics):
        return Subscriber(self.mqtt_port, *topics)

    def knows(self, name, ns="default"):
        """Waits until the node has the device."""
        def asked():
            s = self.subscribe(f"$hw/events/node/{self.name}/membership/get/result")
            try:
                self.publish(f"$hw/events/node/{self.name}/membership/get", {"event_id": "q"})
                answer = s.wait(f"$hw/events/node/{self.name}/membership/get/result", timeout=20)
                return any(d["id"] == f"{ns}/{name}" for d in answer["devices"])
            finally:
                s.close()
        return wait_for(f"{self.name} to know {name}", asked, interval=0.2)


def now_ms():
    return int(time.time() * 1000)


class Mapper:
    """One of our mappers, connected to a node's edgecore."""

    def __init__(self, node, kind):
        self.node, self.kind = node, kind
        self.config = os.path.join(node.dir, f"{kind}.yaml")
        with open(self.config, "w") as f:
            json.dump({"grpc_server": {"socket_path": os.path.join(node.dir, f"{kind}.sock")},
                       "common": {"name": f"{kind}-mapper", "edgecore_sock": os.path.join(node.dir, "dmi.sock")}}, f)

    def start(self):
        self.process = Process([program(f"{self.kind}-mapper"), "--config-file", self.config],
                               os.path.join(self.node.dir, f"{self.kind}-mapper.log"), netns=self.node.netns)
        return self

    def stop(self):
        self.process.stop()


class ModbusServer:
    """A simulated meter; registers are read and written by the tests as any other client would."""

    def __init__(self, folder, kind, where, netns=None):
        self.netns = netns
        self.argv = ["/usr/bin/python3", os.path.join(os.path.dirname(os.path.abspath(__file__)), "modbus_server.py"),
                     kind, str(where)]
        self.log = os.path.join(folder, f"modbus-{kind}.log")
        self.port = where if kind == "tcp" else None
        self.start()

    def start(self):
        self.process = Process(self.argv, self.log, netns=self.netns)
        if self.port and not self.netns:
            wait_for("the Modbus server", lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() or True)
        return self

    def client(self):
        from pymodbus.client import ModbusTcpClient
        c = ModbusTcpClient("127.0.0.1", port=self.port)
        c.connect()
        return c

    def write(self, offset, *values):
        c = self.client()
        c.write_registers(offset, list(values), slave=1)
        c.close()

    def read(self, offset, count=1):
        c = self.client()
        try:
            return c.read_holding_registers(offset, count, slave=1).registers
        finally:
            c.close()

    def stop(self):
        self.process.stop()
