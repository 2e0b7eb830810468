"""The embedded API server of cloudcore --standalone, by HTTP: lists and watches.

The numbers are those of the conformance checklist that it is built against."""

import json
import re
import selectors
import socket
import ssl
import subprocess
import time

import pytest

from harness.api import Api
from harness.apitest import CM, MERGE, PODS, TABLE, Watch, config_map, pod, raw, refused, unique
from harness.processes import wait_for


@pytest.fixture(scope="module")
def api(cloud_only):
    return Api(cloud_only.cloud.kubeconfig)


def test_70_71_watch_from_a_revision_and_from_the_start(api):
    mark = unique()
    rv = api.ok("GET", CM)["metadata"]["resourceVersion"]
    for i in range(3):
        c = config_map(f"{mark}-{i}")
        c["metadata"]["labels"] = {"mark": mark}
        api.ok("POST", CM, c)
    api.ok("DELETE", f"{CM}/{mark}-1")
    resumed = Watch(api, f"{CM}?labelSelector=mark={mark}&resourceVersion={rv}")
    fresh = Watch(api, f"{CM}?labelSelector=mark={mark}")
    resumed.wait(4)
    assert resumed.seen() == [("ADDED", f"{mark}-0"), ("ADDED", f"{mark}-1"), ("ADDED", f"{mark}-2"),
                              ("DELETED", f"{mark}-1")]
    rvs = [int(e["object"]["metadata"]["resourceVersion"]) for e in resumed.events]
    assert rvs == sorted(set(rvs))
    fresh.wait(2)
    assert fresh.seen() == [("ADDED", f"{mark}-0"), ("ADDED", f"{mark}-2")]
    assert all(e["object"]["kind"] == "ConfigMap" for e in fresh.events)


def test_73_a_watch_ends_when_it_said(api):
    begun = time.monotonic()
    w = Watch(api, f"{CM}?timeoutSeconds=2&labelSelector=none={unique()}")
    assert w.ended.wait(60) and time.monotonic() - begun >= 1.5 and w.response.isclosed()


def test_74_75_bookmarks_come_when_asked_for(api):
    def watch():
        query = f"{CM}?timeoutSeconds=2&labelSelector=none={unique()}&resourceVersion=" \
                f"{api.ok('GET', CM)['metadata']['resourceVersion']}"
        asked, plain = Watch(api, query + "&allowWatchBookmarks=true"), Watch(api, query)
        made = api.ok("POST", CM, config_map(unique()))
        return not asked.ended.is_set() and (asked, plain, made)
    asked, plain, made = wait_for("a write while they last", watch)
    assert asked.ended.wait(60) and plain.ended.wait(60)
    assert [e["type"] for e in asked.events] == ["BOOKMARK"] and plain.events == []
    mark = asked.events[0]["object"]
    assert mark["kind"] == "ConfigMap"
    assert int(mark["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])


def test_78_79_the_future_is_refused(api):
    for query in ("resourceVersion=99999999999", "resourceVersion=99999999999&watch=1"):
        body = refused(api.request("GET", f"{CM}?{query}"), 504, "Timeout")
        assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_80_initial_events_end_with_a_bookmark(api):
    mark = unique()
    c = config_map(mark)
    c["metadata"]["labels"] = {"mark": mark}
    api.ok("POST", CM, c)
    w = Watch(api, f"{CM}?labelSelector=mark={mark}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
                   "&allowWatchBookmarks=true")
    w.wait(2)
    assert [e["type"] for e in w.events] == ["ADDED", "BOOKMARK"]
    assert w.events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize("query", [
    "watch=1&sendInitialEvents=true", "resourceVersionMatch=Exact&resourceVersion=0", "resourceVersionMatch=Exact",
    "resourceVersionMatch=Sometimes&resourceVersion=5", "sendInitialEvents=true",
    "watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=5",
])
def test_82_83_wrong_list_options_are_422(api, query):
    body = refused(api.request("GET", f"{CM}?{query}"), 422, "Invalid")
    assert body["details"]["kind"] == "ListOptions" and body["details"]["causes"]


def test_84_selector_transitions(api):
    name, mark = unique(), unique()
    rv = api.ok("GET", CM)["metadata"]["resourceVersion"]
    w = Watch(api, f"{CM}?labelSelector=mark={mark}&resourceVersion={rv}")
    api.ok("POST", CM, config_map(name, a="1"))
    gained = api.ok("PATCH", f"{CM}/{name}", {"metadata": {"labels": {"mark": mark}}}, MERGE)
    lost = api.ok("PATCH", f"{CM}/{name}", {"metadata": {"labels": None}, "data": {"a": "2"}}, MERGE)
    w.wait(2)
    assert w.seen() == [("ADDED", name), ("DELETED", name)]
    assert w.events[0]["object"] == gained
    old = w.events[1]["object"]
    assert old["data"] == {"a": "1"} and old["metadata"]["labels"] == {"mark": mark}
    assert old["metadata"]["resourceVersion"] == lost["metadata"]["resourceVersion"]


def test_85_122_binding_is_an_event_for_the_nodes_watch(api):
    name, node = unique(), unique("n")
    api.ok("POST", PODS, pod(name, schedulerName="nobody"))
    w = Watch(api, f"/api/v1/pods?fieldSelector=spec.nodeName={node}")
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
               "target": {"kind": "Node", "name": node}}
    status, body = api.request("POST", f"{PODS}/{name}/binding", binding)
    assert (status, body["status"]) == (201, "Success")
    assert w.wait(1)[0]["type"] == "ADDED" and w.seen() == [("ADDED", name)]
    refused(api.request("POST", f"{PODS}/{name}/binding", binding), 409, "Conflict")
    # 123: grace
    deleting = api.ok("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 30})
    assert deleting["metadata"]["deletionGracePeriodSeconds"] == 30
    assert api.ok("GET", f"{PODS}/{name}")["metadata"]["deletionTimestamp"]
    api.ok("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
    refused(api.request("GET", f"{PODS}/{name}"), 404, "NotFound")


def test_86_87_88_selectors(api):
    name = unique()
    c = config_map(name)
    c["metadata"]["labels"] = {"k": name}
    api.ok("POST", CM, c)

    def names(query):
        return [o["metadata"]["name"] for o in api.ok("GET", f"{CM}?{query}")["items"]]
    assert names(f"fieldSelector=metadata.name={name}") == [name]
    assert names(f"labelSelector=k%20in%20({name},x)") == [name]
    assert name not in names(f"labelSelector=k%20notin%20({name})") and name not in names("labelSelector=!k")
    assert name not in names(f"labelSelector=k!={name}") and names(f"labelSelector=k%3D%3D{name}") == [name]
    refused(api.request("GET", f"{CM}?labelSelector=a%20in"), 400, "BadRequest")
    body = refused(api.request("GET", f"{CM}?fieldSelector=spec.x=1"), 400, "BadRequest")
    assert body["message"] == "field label not supported: spec.x"


def test_89_list_revisions(api):
    path = "/api/v1/namespaces/kube-public/secrets"  # there are none
    first = api.ok("GET", path)["metadata"]["resourceVersion"]
    made = api.ok("POST", CM, config_map(unique()))["metadata"]["resourceVersion"]
    assert int(api.ok("GET", path)["metadata"]["resourceVersion"]) >= int(made) > int(first)
    exact = api.ok("GET", f"{path}?resourceVersion={made}&resourceVersionMatch=Exact")
    assert exact["items"] == []


def marked(api, count):
    """So many ConfigMaps with a label of their own; gives the path that lists them."""
    mark = unique()
    for i in range(count):
        c = config_map(f"{mark}-{i}")
        c["metadata"]["labels"] = {"mark": mark}
        api.ok("POST", CM, c)
    return mark, f"{CM}?labelSelector=mark={mark}"


def pages(api, path, limit):
    """All pages of a list, one after the other."""
    token = ""
    while True:
        page = api.ok("GET", f"{path}&limit={limit}&continue={token}")
        yield page
        token = page["metadata"].get("continue")
        if not token:
            return


def names(listing):
    return [o["metadata"]["name"].rsplit("-", 1)[1] for o in listing["items"]]


def test_91_a_list_comes_in_pages_of_one_revision(api):
    _, path = marked(api, 5)
    got = list(pages(api, path, 2))
    assert [names(p) for p in got] == [["0", "1"], ["2", "3"], ["4"]]
    assert len({p["metadata"]["resourceVersion"] for p in got}) == 1
    # without selectors the rest is counted
    every = len(api.ok("GET", CM)["items"])
    first = api.ok("GET", f"{CM}?limit=2")
    assert first["metadata"]["remainingItemCount"] == every - 2
    table = json.loads(raw(api, "GET", f"{CM}?limit=2", headers={"Accept": TABLE})[2])
    assert len(table["rows"]) == 2 and table["metadata"]["continue"]
    # a limit is not for those who take any state (informers)
    assert "continue" not in api.ok("GET", f"{CM}?limit=2&resourceVersion=0")["metadata"]


def test_92_what_changes_between_pages_is_not_seen(api):
    mark, path = marked(api, 4)
    walk = pages(api, path, 2)
    first = next(walk)
    api.ok("DELETE", f"{CM}/{mark}-2")
    api.ok("PATCH", f"{CM}/{mark}-3", {"data": {"changed": "yes"}}, MERGE)
    api.ok("POST", CM, {**config_map(f"{mark}-4"), "metadata": {"name": f"{mark}-4", "labels": {"mark": mark}}})
    rest = list(walk)
    assert [names(p) for p in rest] == [["2", "3"]] and not rest[0]["items"][1].get("data")
    assert rest[0]["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert names(api.ok("GET", path)) == ["0", "1", "3", "4"]
    # the same by asking for that revision
    past = api.ok("GET", f"{path}&resourceVersion={first['metadata']['resourceVersion']}&resourceVersionMatch=Exact")
    assert names(past) == ["0", "1", "2", "3"]


def forget_history(api):
    """Writes more than the history holds (16 MiB of superseded objects)."""
    name = unique("big")
    api.ok("POST", CM, config_map(name, a="x"))
    for i in range(24):
        api.ok("PUT", f"{CM}/{name}", config_map(name, a=chr(97 + i) * 900_000))
    api.ok("DELETE", f"{CM}/{name}")


def test_76_93_what_is_forgotten_is_410_and_lists_go_on_with_another_token(api):
    mark, path = marked(api, 3)
    first = api.ok("GET", f"{path}&limit=1")
    rv = first["metadata"]["resourceVersion"]
    forget_history(api)
    body = refused(api.request("GET", f"{path}&limit=1&continue={first['metadata']['continue']}"), 410, "Expired")
    api.ok("DELETE", f"{CM}/{mark}-1")
    rest = api.ok("GET", f"{path}&limit=1&continue={body['metadata']['continue']}")
    assert names(rest) == ["2"] and int(rest["metadata"]["resourceVersion"]) > int(rv)
    refused(api.request("GET", f"{path}&resourceVersion={rv}&resourceVersionMatch=Exact"), 410, "Expired")
    watch = Watch(api, f"{CM}?resourceVersion={rv}")
    event = watch.wait(1)[0]
    assert event["type"] == "ERROR" and (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert watch.ended.wait(60) and len(watch.events) == 1


def test_94_a_continue_token_is_good_for_its_own_list_only(api):
    mark, path = marked(api, 2)
    token = api.ok("GET", f"{path}&limit=1")["metadata"]["continue"]
    for bad in (f"{CM}?continue=xyz&limit=1", f"{CM}?limit=1&continue={token}", f"{path}&continue={token[:-4]}",
                f"{path}&continue={token}&resourceVersion=5"):
        refused(api.request("GET", bad), 400, "BadRequest")


def test_72_the_headers_of_a_watch_come_before_any_event(api):
    c = api.connect()
    c.request("GET", f"{CM}?watch=1&labelSelector=none={unique()}")
    r = c.getresponse()  # waits for the head
    assert r.status == 200 and r.headers["Transfer-Encoding"] == "chunked"
    c.close()


def test_90_kubectl_follows_changes(cloud_only, api):
    name = unique()
    api.ok("POST", CM, config_map(name))
    p = subprocess.Popen([*cloud_only.cloud.kubectl_argv(), "get", "configmap", name, "-w", "-o", "json"],
                         stdout=subprocess.PIPE, text=True)
    try:
        decoder, text = json.JSONDecoder(), ""

        def following():
            nonlocal text
            while True:
                try:
                    obj, end = decoder.raw_decode(text.lstrip())
                    text = text.lstrip()[end:]
                    return obj
                except ValueError:
                    text += p.stdout.readline()
        assert following()["metadata"]["name"] == name
        api.ok("PATCH", f"{CM}/{name}", {"data": {"a": "1"}}, MERGE)
        assert following()["data"] == {"a": "1"}
    finally:
        p.kill()
        p.wait()


def test_95_a_watcher_that_does_not_read_hurts_nobody(api):
    name = unique()
    api.ok("POST", CM, config_map(name))
    before = re.search(r"^apiserver_watches_cut_off_total (\d+)", api.ok("GET", "/metrics"), re.M)[1]
    slow = api.connect()
    slow.request("GET", f"{CM}?watch=1")
    slow.getresponse()  # and never reads
    w = Watch(api, f"{CM}?fieldSelector=metadata.name={name}")
    for i in range(40):
        api.ok("PUT", f"{CM}/{name}", config_map(name, a=str(i) * 500_000))
    w.wait(41)
    assert w.events[-1]["object"]["data"]["a"].startswith("39")

    # it is not waited for: what it was not told is forgotten, and its connection is cut
    def cut_off():
        return re.search(r"^apiserver_watches_cut_off_total (\d+)", api.ok("GET", "/metrics"), re.M)[1] != before
    wait_for("the slow watch to be cut off", cut_off, 60)
    slow.close()


def test_96_a_thousand_watches_see_every_change_in_order(api):
    name, changes = unique(), 20
    rv = api.ok("POST", CM, config_map(name, n="-1"))["metadata"]["resourceVersion"]
    selector = selectors.DefaultSelector()
    texts, wanted = {}, changes * 1000
    for _ in range(1000):
        sock = api.context.wrap_socket(socket.create_connection((api.host, api.port)), server_hostname=api.host)
        sock.sendall(f"GET {CM}?watch=1&resourceVersion={rv}&fieldSelector=metadata.name={name} HTTP/1.1\r\n"
                     f"Host: {api.host}\r\n\r\n".encode())
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
        texts[sock] = bytearray()
    for n in range(changes):
        api.ok("PUT", f"{CM}/{name}", config_map(name, n=str(n)))
    end = time.monotonic() + 120
    while sum(t.count(b'"type":"MODIFIED"') for t in texts.values()) < wanted and time.monotonic() < end:
        for key, _ in selector.select(1):
            try:
                while data := key.fileobj.recv(1 << 16):
                    texts[key.fileobj] += data
            except (ssl.SSLWantReadError, BlockingIOError):
                pass
    for sock, text in texts.items():
        assert re.findall(rb'"n":"(\d+)"', text) == [str(n).encode() for n in range(changes)]
        sock.close()


def test_99_reads_follow_writes_on_any_connection(api):
    other = Api.__new__(Api)
    other.__dict__.update(api.__dict__, connection=None)
    for _ in range(20):
        name = unique()
        api.ok("POST", CM, config_map(name))
        assert other.ok("GET", f"{CM}/{name}")
