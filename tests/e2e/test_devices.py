"""Devices over MQTT: a real broker, its own clients, kubectl."""

import os
import uuid

import pytest

from harness.cluster import Cluster
from harness.devices import DeviceNode, device, model, reported
from harness.processes import wait_for


@pytest.fixture(scope="module")
def world():
    """A cloud and a node that has devices but no containers."""
    c = Cluster()
    try:
        c.start_cloud()
        node = DeviceNode(os.path.join(c.dir, "e"), c.cloud, "edge-1")
        c.nodes.append(node)
        node.start()
        yield c
    finally:
        c.close()


@pytest.fixture
def node(world):
    return world.nodes[0]


@pytest.fixture
def meter(world, node):
    """A device of the node, known there; gives its name."""
    name = f"m-{uuid.uuid4().hex[:8]}"
    world.cloud.apply(model(name, "temperature", "valve"),
                      device(name, name, node.name, "temperature", "valve"))
    node.knows(name)
    return name


def twin(**values):
    return {"event_id": "u-9", "timestamp": 1, "twin": {k: {"actual": {"value": v}} for k, v in values.items()}}


def test_a_reading_published_with_mqtt_is_seen_with_kubectl(world, node, meter):
    base = f"$hw/events/device/default/{meter}"
    s = node.subscribe(base + "/#")
    node.publish(base + "/twin/update", {"event_id": "u-9", "timestamp": 1, "twin": {
        "temperature": {"actual": {"value": "61.5"}, "metadata": {"type": "float"}}}})
    result = s.wait(base + "/twin/update/result")
    assert result["event_id"] == "u-9" and "code" not in result
    assert result["twin"]["temperature"]["actual"]["value"] == "61.5"
    document = s.wait(base + "/twin/update/document")
    assert document["twin"]["temperature"]["last"] is None
    assert document["twin"]["temperature"]["current"]["metadata"] == {"type": "float"}
    wait_for("the reading in the cloud", lambda: reported(world.cloud, meter) == {"temperature": "61.5"})
    wait_for("the reading on the Device", lambda: "61.5" in world.cloud.kubectl("get", "device", meter, "-o", "yaml"))
    node.publish(base + "/twin/get", {"event_id": "q-2"})
    assert s.wait(base + "/twin/get/result")["twin"]["temperature"]["actual"]["value"] == "61.5"
    s.close()


def test_a_difference_is_told_as_a_delta_until_it_is_gone(node, meter):
    base = f"$hw/events/device/default/{meter}"
    s = node.subscribe(base + "/#")
    node.publish(base + "/twin/update", {"event_id": "", "twin": {"valve": {"expected": {"value": "1"}}}})
    assert s.wait(base + "/twin/update/delta")["delta"] == {"valve": "1"}
    node.publish(base + "/twin/update", {"event_id": "last", "twin": {"valve": {"actual": {"value": "1"}}}})
    s.wait(base + "/twin/update/document", lambda p: p["event_id"] == "last")
    assert not [m for m in s.messages if m[0].endswith("/delta")]
    s.close()


@pytest.mark.parametrize("payload", ["not json", "[]", '{"event_id":"x"}', '{"twin":{"a b":{"actual":{"value":"1"}}}}',
                                     '{"twin":{"t":{"actual":{"value":"two words"}}}}',
                                     '{"twin":{"t":{"actual":{"value":1}}}}',
                                     '{"twin":{"t":{"actual":{"value":"x"},"metadata":{"type":"int"}}}}',
                                     '{"twin":{"t":{"actual":{"value":"x"},"metadata":{"type":"colour"}}}}',
                                     "[" * 1000, '{"twin":{"t":{"actual":{}}}}'])
def test_a_payload_that_cannot_be_is_answered_with_400_and_why(node, meter, payload):
    base = f"$hw/events/device/default/{meter}"
    s = node.subscribe(base + "/twin/update/result")
    node.publish(base + "/twin/update", payload)
    answer = s.wait(base + "/twin/update/result")
    assert answer["code"] == 400 and answer["reason"]
    s.close()


def test_an_unknown_device_is_answered_with_404(node):
    s = node.subscribe("$hw/events/device/#")
    node.publish("$hw/events/device/dev/node/twin/get", {"event_id": "q"})
    answer = s.wait("$hw/events/device/dev/node/twin/get/result")
    assert answer["code"] == 404 and answer["event_id"] == "q"
    s.close()


def test_a_state_is_stored_and_shown(world, node, meter):
    base = f"$hw/events/device/default/{meter}"
    s = node.subscribe(base + "/state/update/result")
    node.publish(base + "/state/update", {"event_id": "", "state": "ok"})
    answer = s.wait(base + "/state/update/result")
    assert answer["device"]["state"] == "ok" and answer["device"]["lastOnlineTime"]
    wait_for("the state in the list", lambda: " ok " in world.cloud.kubectl("get", "device", meter))
    s.close()


def test_names_that_occur_in_topics_are_names_like_others(world, node):
    world.cloud.kubectl("create", "namespace", "dev")
    world.cloud.apply(model("m", "t", ns="dev"), device("node", "m", node.name, "t", ns="dev"))
    node.knows("node", "dev")
    node.publish("$hw/events/device/dev/node/twin/update", twin(t="1"))
    wait_for("the reading", lambda: reported(world.cloud, "node", "dev") == {"t": "1"})


def test_a_deleted_device_is_gone_from_the_node(world, node, meter):
    world.cloud.kubectl("delete", "device", meter)
    s = node.subscribe(f"$hw/events/device/default/{meter}/twin/get/result")

    def gone():
        node.publish(f"$hw/events/device/default/{meter}/twin/get", {"event_id": "q"})
        return s.wait(f"$hw/events/device/default/{meter}/twin/get/result").get("code") == 404
    wait_for("the node to forget it", gone)
    s.close()


def test_what_is_reported_while_edgecore_and_cloud_are_apart_arrives_afterwards(world, node, meter):
    base = f"$hw/events/device/default/{meter}"
    world.cloud.process.kill()
    s = node.subscribe(base + "/twin/update/result")
    for i in range(20):
        node.publish(base + "/twin/update", twin(temperature=str(i)))
    s.wait(base + "/twin/update/result", lambda p: p["twin"]["temperature"]["actual"]["value"] == "19")
    s.close()
    node.process.kill()
    world.cloud.start()
    node.start()
    wait_for("the newest value", lambda: reported(world.cloud, meter).get("temperature") == "19")


def test_a_broker_that_is_killed_comes_back(node, meter):
    base = f"$hw/events/device/default/{meter}"
    before = node.process.log().count("internal MQTT broker started")
    pid = int(node.process.log().rsplit("internal MQTT broker started pid=", 1)[1].split()[0])
    os.kill(pid, 9)
    wait_for("the next broker", lambda: node.process.log().count("internal MQTT broker started") > before)
    wait_for("a client to reach it", lambda: node.publish(base + "/twin/update", twin(valve="1")) or True)

    def answered():
        s = node.subscribe(base + "/twin/get/result")
        try:
            node.publish(base + "/twin/get", {"event_id": "q"})
            return s.wait(base + "/twin/get/result", timeout=5)
        except TimeoutError:
            return None
        finally:
            s.close()
    wait_for("an answer", answered)
