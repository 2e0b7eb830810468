"""Mappers over DMI: a simulated meter on TCP and on a serial line, its readings and its desired values seen with kubectl."""

import os
import subprocess
import uuid

import pytest

from harness.cluster import Cluster
from harness.devices import DeviceNode, Mapper, ModbusServer, device, model, reported
from harness.processes import Process, free_port, wait_for


@pytest.fixture(scope="module")
def world():
    c = Cluster()
    try:
        c.start_cloud()
        node = DeviceNode(os.path.join(c.dir, "e"), c.cloud, "edge-1")
        c.nodes.append(node)
        node.start()
        c.mapper = Mapper(node, "modbus").start()
        c.meter = ModbusServer(c.dir, "tcp", free_port())
        yield c
    finally:
        for part in ("mapper", "meter"):
            if hasattr(c, part):
                getattr(c, part).stop()
        c.close()


def visitor(register="HoldingRegister", **config):
    return {"protocolName": "modbus", "configData": {"register": register, **config}}


def prop(name, cycle=100, desired=None, **config):
    p = {"name": name, "reportToCloud": True, "collectCycle": cycle, "visitors": visitor(**config)}
    if desired is not None:
        p["desired"] = {"value": desired}
    return p


def meter_device(world, name, *properties, port=None, **spec):
    return device(name, name, "edge-1", *properties, protocol="modbus",
                  config={"communicateMode": "TCP", "ip": "127.0.0.1", "port": str(port or world.meter.port),
                          "slaveID": 1, "timeout": 2}, **spec)


def fresh():
    return f"m-{uuid.uuid4().hex[:8]}"


def says(world, name, text):
    wait_for(f"the status of {name} to say {text!r}",
             lambda: text in world.cloud.get("device", name).get("status", {}).get("message", ""))


def test_the_readings_of_a_modbus_meter_are_seen_with_kubectl(world):
    name = fresh()
    world.meter.write(40, 615)
    world.meter.write(50, 0x4248, 0xF5C3)  # 50.24 as IEEE
    world.meter.write(52, 0xFFFE)
    world.cloud.apply(
        model(name, {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"},
              {"name": "power", "type": "FLOAT", "accessMode": "ReadOnly"},
              {"name": "balance", "type": "INT", "accessMode": "ReadOnly"},
              {"name": "count", "type": "INT", "accessMode": "ReadOnly"},
              {"name": "alarm", "type": "BOOLEAN", "accessMode": "ReadOnly"}, protocol="modbus"),
        meter_device(world, name, prop("temperature", dataType="float", offset=40, scale=0.1),
                     prop("power", dataType="float", offset=50, limit=2), prop("balance", offset=52, isSigned=True),
                     prop("count", register="InputRegister", offset=7),
                     prop("alarm", register="DiscreteInputRegister", offset=3)))
    wait_for("the readings", lambda: reported(world.cloud, name) == {
        "temperature": "61.5", "power": "50.24", "balance": "-2", "count": "7", "alarm": "true"})
    world.meter.write(40, 700)
    wait_for("the next reading", lambda: reported(world.cloud, name)["temperature"] == "70")
    wait_for("the state", lambda: " ok " in world.cloud.kubectl("get", "device", name))


def test_a_desired_value_set_with_kubectl_changes_the_register(world):
    name = fresh()
    world.cloud.apply(model(name, "setpoint", protocol="modbus"),
                      meter_device(world, name, prop("setpoint", offset=60, desired="7")))
    wait_for("the register", lambda: world.meter.read(60) == [7])
    world.cloud.kubectl("patch", "device", name, "--type=json", "-p",
                        '[{"op":"replace","path":"/spec/properties/0/desired/value","value":"21"}]')
    wait_for("the register", lambda: world.meter.read(60) == [21])
    wait_for("the reading", lambda: reported(world.cloud, name)["setpoint"] == "21")


def test_what_is_wrong_with_a_device_stands_in_its_status_and_harms_no_other(world):
    good, no_model, no_property, refused, absent, nested = (fresh() for _ in range(6))
    world.cloud.apply(model(good, "t", {"name": "limited", "maximum": "5"}, protocol="modbus"),
                      meter_device(world, good, prop("t", offset=70)))
    bad = [meter_device(world, no_model, prop("t", offset=70)),
           meter_device(world, no_property, prop("t", offset=70), prop("colour", offset=1)),
           meter_device(world, refused, prop("t", offset=60000), prop("limited", offset=80, desired="6")),
           meter_device(world, absent, prop("t", offset=70), port=free_port()),
           meter_device(world, nested, prop("t", offset={"nested": 1}))]
    for d in bad[1:]:
        d["spec"]["deviceModelRef"]["name"] = good
    world.cloud.apply(*bad)
    says(world, no_model, "there is no DeviceModel")
    says(world, no_property, "property colour: the DeviceModel has no such property")
    says(world, refused, "greater than the maximum 5")
    says(world, absent, "no connection to 127.0.0.1")
    says(world, nested, "visitors.configData of property t.offset must be a text, a number, true or false")
    world.meter.write(70, 123)
    wait_for("the good one's reading", lambda: reported(world.cloud, good) == {"t": "123"})
    wait_for("the reading beside the unknown property", lambda: reported(world.cloud, no_property) == {"t": "123"})


def test_a_protocol_without_a_mapper_is_told(world):
    name = fresh()
    world.cloud.apply(model(name, "t", protocol="telepathy"), device(name, name, "edge-1", "t", protocol="telepathy"))
    says(world, name, 'no mapper for the protocol "telepathy"')


def test_meter_mapper_and_edgecore_may_each_be_killed(world):
    name = fresh()
    world.cloud.apply(model(name, "t", protocol="modbus"), meter_device(world, name, prop("t", offset=90)))
    world.meter.write(90, 1)
    wait_for("the reading", lambda: reported(world.cloud, name) == {"t": "1"})
    for value, part in ((2, world.mapper), (3, world.nodes[0]), (4, world.meter)):
        part.process.kill()
        part.start()
        world.meter.write(90, value)
        wait_for(f"the reading after {part.__class__.__name__} was killed",
                 lambda: reported(world.cloud, name) == {"t": str(value)}, 90)


def test_a_deleted_device_is_no_longer_read(world):
    name = fresh()
    world.cloud.apply(model(name, "t", protocol="modbus"), meter_device(world, name, prop("t", offset=95)))
    wait_for("the mapper to have it", lambda: f"device added device=default/{name}" in world.mapper.process.log())
    world.cloud.kubectl("delete", "device", name)
    wait_for("the mapper to drop it", lambda: f"device removed device=default/{name}" in world.mapper.process.log())


def test_a_meter_on_a_serial_line_is_read(world):
    name, ours, theirs = fresh(), os.path.join(world.dir, "tty-a"), os.path.join(world.dir, "tty-b")
    line = Process(["socat", f"pty,raw,echo=0,link={ours}", f"pty,raw,echo=0,link={theirs}"],
                   os.path.join(world.dir, "socat.log"))
    wait_for("the line", lambda: os.path.exists(ours) and os.path.exists(theirs))
    server = ModbusServer(world.dir, "rtu", theirs)
    try:
        world.cloud.apply(
            model(name, "count", "setpoint", protocol="modbus"),
            device(name, name, "edge-1", prop("count", register="InputRegister", offset=11),
                   prop("setpoint", offset=5, desired="9"), protocol="modbus",
                   config={"communicateMode": "RTU", "serialName": ours, "baudRate": 9600, "dataBits": 8, "stopBits": 1,
                           "parity": "none", "slaveID": 1}))
        wait_for("the readings", lambda: reported(world.cloud, name) == {"count": "11", "setpoint": "9"}, 90)
    finally:
        server.stop()
        line.stop()


def test_a_virtual_device_counts(world):
    name = fresh()
    mapper = Mapper(world.nodes[0], "virtual").start()
    try:
        world.cloud.apply(model(name, {"name": "n", "type": "INT", "accessMode": "ReadOnly"},
                                {"name": "label", "type": "STRING"}),
                          device(name, name, "edge-1", {"name": "n", "collectCycle": 100},
                                 {"name": "label", "desired": {"value": "two words"}}))
        wait_for("it to count", lambda: int(reported(world.cloud, name).get("n", "0")) > 2)
        wait_for("its label", lambda: reported(world.cloud, name).get("label") == "two words")
    finally:
        mapper.stop()


def test_programs_say_what_they_are():
    for kind in ("modbus", "virtual"):
        from harness.cluster import program
        text = subprocess.run([program(f"{kind}-mapper"), "--help"], capture_output=True, text=True, check=True).stdout
        assert "--config-file" in text
