"""DeviceController, seen by kubectl on one side and by an edge that says exactly what it wants to on the other."""

import time
import uuid

import pytest

from fake_edge import Edge, message
from harness.api import Api
from harness.processes import wait_for

GROUP = "/apis/devices.kubeedge.io/v1beta1/namespaces/default"


@pytest.fixture(scope="module")
def cloud(cloud_only):
    return cloud_only.cloud


@pytest.fixture(scope="module")
def api(cloud):
    return Api(cloud.kubeconfig)


@pytest.fixture
def edge(cloud):
    e = Edge(cloud, f"e-{uuid.uuid4().hex[:8]}").join()
    e.connect()
    e.register()
    yield e
    e.close()


def model(name, *properties):
    return {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"protocol": "modbus",
                     "properties": [{"name": p, "type": "INT", "accessMode": "ReadWrite"} for p in properties]}}


def device(name, model_name, node, *properties):
    return {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
            "metadata": {"name": name, "namespace": "default", "labels": {"description": "in-hall-2"}},
            "spec": {"deviceModelRef": {"name": model_name}, "nodeName": node,
                     "protocol": {"protocolName": "modbus", "configData": {"slaveID": 1}},
                     "properties": [{"name": p, "reportToCloud": True, "visitors": {"protocolName": "modbus",
                                                                                    "configData": {"offset": 1}}}
                                    for p in properties]}}


def fresh():
    return f"d-{uuid.uuid4().hex[:8]}"


def put(api, plural, obj):
    return api.ok("POST", f"{GROUP}/{plural}", obj)


def twin_report(name, **values):
    now = int(time.time() * 1000)
    twins = {k: {"expected": {"value": "", "metadata": {"timestamp": now}},
                 "actual": {"value": v, "metadata": {"timestamp": now}},
                 "optional": True, "metadata": {"type": "string"},
                 "expected_version": {"cloud": 0, "edge": 1}, "actual_version": {"cloud": 0, "edge": 1}}
             for k, v in values.items()}
    return message("update", f"device/default/{name}/twin/edge_updated",
                   {"event_id": str(uuid.uuid4()), "timestamp": now, "twin": twins}, source="twin", group="resource")


def is_about(m, resource, operation=None):
    return m["route"]["resource"] == resource and operation in (None, m["route"]["operation"])


def reported(api, name):
    status = api.request("GET", f"{GROUP}/devicestatuses/{name}")
    if status[0] != 200:
        return {}
    return {t["propertyName"]: t["reported"]["value"] for t in status[1].get("status", {}).get("twins", [])}


def confirmed(edge, sent):
    return edge.wait(lambda m: m["header"].get("parent_msg_id") == sent["header"]["msg_id"], 60)


def test_a_device_reaches_its_node_after_its_model(api, edge):
    name = fresh()
    put(api, "devicemodels", model(name, "t"))
    put(api, "devices", device(name, name, edge.name, "t"))
    m = edge.wait(lambda m: is_about(m, f"default/devicemodel/{name}"), 60)
    assert m["route"]["source"] == "devicecontroller" and m["route"]["group"] == "resource"
    d = edge.wait(lambda m: is_about(m, f"default/device/{name}"), 60)
    assert d["content"]["spec"]["deviceModelRef"]["name"] == name and d["header"]["resourceversion"]
    membership = edge.wait(lambda m: is_about(m, "membership"), 60)
    assert membership["content"]["added_devices"] == [
        {"id": f"default/{name}", "name": name, "description": "in-hall-2"}]
    assert membership["content"]["removed_devices"] is None


def test_the_first_report_is_not_lost_and_is_confirmed(api, edge):
    name = fresh()
    put(api, "devicemodels", model(name, "t"))
    put(api, "devices", device(name, name, edge.name, "t"))
    sent = twin_report(name, t="61", unknown="1")
    edge.send(sent)
    assert confirmed(edge, sent)["content"] == "OK"
    assert reported(api, name) == {"t": "61"}
    status = api.ok("GET", f"{GROUP}/devicestatuses/{name}")
    owner = status["metadata"]["ownerReferences"][0]
    assert owner["kind"] == "Device" and owner["name"] == name
    wait_for("the value on the Device itself", lambda: api.ok("GET", f"{GROUP}/devices/{name}").get(
        "status", {}).get("twins", [{}])[0].get("reported", {}).get("value") == "61", 60)


def test_many_reports_at_once_end_with_the_newest_of_each_property(api, edge):
    name = fresh()
    put(api, "devicemodels", model(name, "a", "b"))
    put(api, "devices", device(name, name, edge.name, "a", "b"))
    for i in range(200):
        edge.send(twin_report(name, **{"ab"[i % 2]: str(i)}))
    wait_for("the newest values", lambda: reported(api, name) == {"a": "198", "b": "199"}, 60)


def test_a_state_is_shown_and_the_last_online_time_stays(api, edge):
    name = fresh()
    put(api, "devicemodels", model(name, "t"))
    put(api, "devices", device(name, name, edge.name, "t"))
    for state, online in (("ok", "2026-03-01T08:15:00Z"), ("offline", "")):
        edge.send(message("update", f"device/default/{name}/state/update",
                          '{"event_id":"1","timestamp":1,"device":{"name":"%s","state":"%s","lastOnlineTime":"%s",'
                          '"message":"%s is what it is"}}' % (name, state, online, state),
                          source="twin", group="resource"))
        wait_for("the state", lambda: api.ok("GET", f"{GROUP}/devices/{name}").get("status", {}).get("state") == state,
                 60)
    status = api.ok("GET", f"{GROUP}/devices/{name}")["status"]
    assert status["lastOnlineTime"] == "2026-03-01T08:15:00Z" and status["message"] == "offline is what it is"


def test_a_node_reports_on_its_own_devices_only(api, edge, cloud):
    name = fresh()
    put(api, "devicemodels", model(name, "t"))
    put(api, "devices", device(name, name, "another-node", "t"))
    sent = twin_report(name, t="stolen")
    edge.send(sent)
    confirmed(edge, sent)  # so that it is not sent for ever
    assert reported(api, name) == {}
    sent = twin_report("no-such-device", t="1")
    edge.send(sent)
    confirmed(edge, sent)


def test_a_device_that_moves_leaves_one_node_and_comes_to_the_other(api, edge, cloud):
    name = fresh()
    put(api, "devicemodels", model(name, "t"))
    put(api, "devices", device(name, name, edge.name, "t"))
    edge.wait(lambda m: is_about(m, f"default/device/{name}", "insert"), 60)
    other = Edge(cloud, f"e-{uuid.uuid4().hex[:8]}").join()
    try:
        other.connect()
        other.register()
        api.ok("PATCH", f"{GROUP}/devices/{name}", {"spec": {"nodeName": other.name}},
               content_type="application/merge-patch+json")
        other.wait(lambda m: is_about(m, f"default/device/{name}"), 60)
        edge.wait(lambda m: is_about(m, f"default/device/{name}", "delete"), 60)
        edge.wait(lambda m: is_about(m, f"default/devicemodel/{name}", "delete"), 60)
    finally:
        other.close()


def test_a_node_that_comes_back_is_told_all_its_devices_and_which_they_are(api, edge):
    name = fresh()
    put(api, "devicemodels", model(name, "t"))
    put(api, "devices", device(name, name, edge.name, "t"))
    edge.close()
    edge.connect()
    edge.wait(lambda m: is_about(m, f"default/device/{name}"), 60)
    question = message("get", "membership/detail", '{"event_type":"group_membership_event","event_id":"1"}',
                       source="twin", group="resource")
    edge.send(question)
    confirmed(edge, question)
    edge.wait(lambda m: is_about(m, "membership/detail")
              and [d["id"] for d in m["content"]["devices"]] == [f"default/{name}"], 60)


def test_a_model_that_comes_late_or_changes_is_sent_to_the_nodes_that_use_it(api, edge):
    name = fresh()
    put(api, "devices", device(name, name, edge.name, "t"))
    wait_for("the missing model to be told", lambda: "no DeviceModel" in api.ok("GET", f"{GROUP}/devices/{name}").get(
        "status", {}).get("message", ""), 60)
    put(api, "devicemodels", model(name, "t"))
    edge.wait(lambda m: is_about(m, f"default/devicemodel/{name}", "insert"), 60)
    api.ok("PATCH", f"{GROUP}/devicemodels/{name}", {"spec": {"protocol": "opcua"}},
           content_type="application/merge-patch+json")
    edge.wait(lambda m: is_about(m, f"default/devicemodel/{name}", "update"), 60)
    wait_for("the complaint to go", lambda: not api.ok("GET", f"{GROUP}/devices/{name}")["status"].get("message"), 60)


def test_a_deleted_device_takes_its_status_with_it(api, edge):
    name = fresh()
    put(api, "devices", device(name, name, edge.name))
    wait_for("its DeviceStatus", lambda: api.request("GET", f"{GROUP}/devicestatuses/{name}")[0] == 200, 60)
    api.ok("DELETE", f"{GROUP}/devices/{name}")
    wait_for("its DeviceStatus to go", lambda: api.request("GET", f"{GROUP}/devicestatuses/{name}")[0] == 404, 60)


def test_a_device_of_the_older_version_is_refused_with_what_to_do(cloud):
    text = ('apiVersion: devices.kubeedge.io/v1alpha2\nkind: Device\nmetadata: {name: old}\n'
            'spec: {nodeSelector: {nodeSelectorTerms: []}}\n')
    result = cloud.kubectl("apply", "-f", "-", stdin=text, check=False)
    assert result.returncode != 0 and "write devices.kubeedge.io/v1beta1" in result.stderr
