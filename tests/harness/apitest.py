"""What tests of the API server share: paths, small objects, raw requests, watches."""

import json
import socket
import ssl
import threading
import uuid

from .processes import wait_for

CM = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "img:1"}], **spec}}


def raw(api, method, path, body=None, headers=None):
    """(status, headers, text) on a connection of its own."""
    c = api.connect()
    data = json.dumps(body) if isinstance(body, (dict, list)) else body
    c.request(method, path, data, headers or ({"Content-Type": "application/json"} if data else {}))
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    return r.status, r.headers, text


def refused(answer, code, reason):
    status, body = answer
    assert (status, body["kind"], body["reason"], body["code"]) == (code, "Status", reason, code), body
    return body


class Watch:
    """A watch read on a thread of its own."""

    def __init__(self, api, path):
        self.events, self.ended = [], threading.Event()
        self.connection = api.connect()
        self.connection.request("GET", path + ("&" if "?" in path else "?") + "watch=1")
        self.response = self.connection.getresponse()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for line in self.response:
                self.events.append(json.loads(line))
        except (OSError, ValueError, ssl.SSLError):
            pass
        self.ended.set()

    def seen(self):
        return [(e["type"], e["object"]["metadata"].get("name")) for e in self.events]

    def wait(self, n, timeout=60):
        wait_for(f"{n} events", lambda: len(self.events) >= n, timeout)
        return self.events

    def close(self):
        """Only closes the socket: the reader thread holds the response."""
        try:
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass
