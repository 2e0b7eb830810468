"""A thin, fast client of the Kubernetes API for measuring and for tests that need what kubectl doesn't do."""

import base64
import http.client
import json
import os
import ssl
import tempfile
import urllib.parse

import yaml


class Api:
    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig
        with open(kubeconfig) as f:
            config = yaml.safe_load(f)
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]
        url = urllib.parse.urlsplit(cluster["server"])
        self.host, self.port = url.hostname, url.port or 443
        self.ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=self.ca)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(kubeconfig)) as f:
            f.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            f.flush()
            self.context.load_cert_chain(f.name)
        self.connection = None

    def connect(self):
        return http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=60)

    def request(self, method, path, body=None, content_type="application/json"):
        """Gives (status, parsed answer). One connection, kept alive."""
        for attempt in (1, 2):
            if self.connection is None:
                self.connection = self.connect()
            try:
                data = json.dumps(body) if body is not None and not isinstance(body, (str, bytes)) else body
                self.connection.request(method, path, data, {"Content-Type": content_type} if data else {})
                r = self.connection.getresponse()
                text = r.read()
                return r.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
            except (http.client.HTTPException, ConnectionError):
                self.connection = None
                if attempt == 2 or method != "GET":
                    raise

    def ok(self, method, path, body=None, content_type="application/json"):
        status, answer = self.request(method, path, body, content_type)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    def watch(self, path):
        """Yields the events of a watch, on a connection of its own."""
        connection = self.connect()
        connection.request("GET", path + ("&" if "?" in path else "?") + "watch=1")
        r = connection.getresponse()
        if r.status != 200:
            raise AssertionError(f"watch {path}: {r.status} {r.read()!r}")
        while True:
            line = r.readline()
            if not line:
                return
            yield json.loads(line)
