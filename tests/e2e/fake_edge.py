"""An edge made of a few lines: it joins, connects, and says exactly what a test wants it to say."""

import base64
import datetime
import http.client
import json
import ssl
import tempfile
import time
import uuid

import websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# "Try again later" is a proper reason to close (1013, registered), which this client took for a mistake.
websocket._abnf.VALID_CLOSE_STATUS = (*websocket._abnf.VALID_CLOSE_STATUS, 1013)

PROJECT = "e632aba927ea4ac2b575ec1603d56f10"


def subject(common_name, organization="system:nodes"):
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(names)


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                             serialization.NoEncryption())


def csr_der(key, name):
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


def pem_of(der):
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


DAY = 24 * 3600


def sign(ca_cert, ca_key, key, name, start=-DAY, end=DAY):
    """A client certificate made by hand, by a CA whose key the test has; valid between seconds from now."""
    now = datetime.datetime.utcnow()
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(ca_cert.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now + datetime.timedelta(seconds=start))
            .not_valid_after(now + datetime.timedelta(seconds=end))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            .sign(ca_key, hashes.SHA256()))
    return cert.public_bytes(serialization.Encoding.PEM)


def https(cloud, method, path, body=None, headers=None, cert=None, key=None):
    """One call to port 10002; gives (status, body)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if cert:
        load_pair(context, cert, key)
    c = http.client.HTTPSConnection("127.0.0.1", cloud.https_port, context=context, timeout=60)
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def fleet_ca(cloud):
    """Certificate and key of the CA that signs the edges' certificates, from where cloudcore keeps them."""
    data = cloud.get("secret", "-n", "kubeedge", "casecret")["data"]
    return (x509.load_der_x509_certificate(base64.b64decode(data["cadata"])),
            serialization.load_der_private_key(base64.b64decode(data["cakeydata"]), None))


def load_pair(context, cert, key):
    with tempfile.NamedTemporaryFile() as f:
        f.write(cert + b"\n" + key_pem(key))
        f.flush()
        context.load_cert_chain(f.name)


def message(operation, resource, content=None, source="edged", group="meta", parent="", rv=""):
    header = {"msg_id": str(uuid.uuid4()), "timestamp": int(time.time() * 1000)}
    if parent:
        header["parent_msg_id"] = parent
    if rv:
        header["resourceversion"] = rv
    return {"header": header, "route": {"source": source, "group": group, "operation": operation, "resource": resource},
            "content": content}


class Edge:
    """One node. ack=True: every object that comes is acknowledged when it is read."""

    def __init__(self, cloud, name):
        self.cloud, self.name = cloud, name
        self.key = new_key()
        self.cert = None
        self.ws = None
        self.seen = []  # read while waiting for something else
        self.ack = True

    # ---- certificates ----
    def ask_certificate(self, token=None, name=None, csr_name=None, cert=None, key=None, headers=None):
        h = {"NodeName": name or self.name, **(headers or {})}
        if token:
            h["Authorization"] = "Bearer " + token
        body = csr_der(self.key, subject(csr_name or f"system:node:{name or self.name}"))
        return https(self.cloud, "GET", "/edge.crt", body, h, cert, key)

    def join(self):
        token = self.cloud.join_token().split(".", 1)[1]
        status, body = self.ask_certificate(token)
        assert status == 200, body
        self.cert = pem_of(body)
        return self

    # ---- connection ----
    def connect(self, node_id=None, path=None, headers=None, wait=True):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.cert:
            load_pair(context, self.cert, self.key)
        header = {"node_id": node_id or self.name, "project_id": PROJECT, "ConnectionUse": "msg", **(headers or {})}
        self.ws = websocket.WebSocket(sslopt={"context": context})
        self.ws.settimeout(60)
        self.ws.connect(f"wss://127.0.0.1:{self.cloud.port}{path or f'/{PROJECT}/{self.name}/events'}",
                        header=[f"{k}: {v}" for k, v in header.items() if v is not None])
        self.send(message("keepalive", "node", "ping", "websocket", "resource"))
        if wait:
            self.settle()
        return self

    def settle(self):
        """Waits until the session is in: a ping of the message channel comes back."""
        self.request(message("ping", "node"))

    def send(self, m):
        self.ws.send(json.dumps(m) + "\n")
        return m

    def read(self, timeout=60):
        """The next message that is no acknowledged copy; None after the timeout; EOFError when closed."""
        self.ws.settimeout(timeout)
        try:
            opcode, data = self.ws.recv_data()
        except (websocket.WebSocketTimeoutException, ssl.SSLWantReadError):
            return None
        except (websocket.WebSocketConnectionClosedException, ConnectionError, ssl.SSLError) as e:
            raise EOFError(str(e))
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise EOFError(data[2:].decode())
        m = json.loads(data)
        if self.ack and "parent_msg_id" not in m["header"]:
            self.send_ack(m)
        return m

    def send_ack(self, m):
        self.send(message("response", m["route"]["resource"], "OK", m["route"]["source"], m["route"]["group"],
                          parent=m["header"]["msg_id"]))

    def request(self, m, timeout=60):
        """Sends and gives the answer's content."""
        self.send(m)
        return self.answer(m, timeout)["content"]

    def answer(self, m, timeout=60):
        return self.wait(lambda a: a["header"].get("parent_msg_id") == m["header"]["msg_id"], timeout,
                         f"an answer to {m['route']}")

    def wait(self, fits, timeout=60, what="a message"):
        for m in self.seen:
            if fits(m):
                self.seen.remove(m)
                return m
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            m = self.read(left) if left > 0 else None
            if m is None:
                raise TimeoutError(f"{self.name} waited for {what}; seen: {[x['route'] for x in self.seen]}")
            if fits(m):
                return m
            self.seen.append(m)

    def object(self, resource, operation=None, timeout=60):
        return self.wait(lambda m: m["route"]["resource"] == resource and "parent_msg_id" not in m["header"]
                         and operation in (None, m["route"]["operation"]), timeout, f"{operation} {resource}")

    def nothing(self, resource, seconds=1.0):
        """Nothing about that resource comes."""
        try:
            m = self.object(resource, timeout=seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"{self.name} got {m['route']}")

    def closed(self, timeout=60):
        """Reads until the cloud closes; gives the reason."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                self.read(1)
            except EOFError as e:
                return str(e)
        raise TimeoutError("the connection is still open")

    def close(self):
        if self.ws:
            self.ws.close(timeout=1)
            self.ws = None

    def cut(self):
        """As if the link broke: no close frame."""
        self.ws.sock.close()
        self.ws = None

    # ---- what every edge does ----
    def register(self, labels=None):
        node = {"metadata": {"name": self.name, "labels": {"node-role.kubernetes.io/edge": "",
                                                           "kubernetes.io/hostname": self.name, **(labels or {})}},
                "spec": {}, "status": {}}
        answer = self.request(message("insert", f"null/node/{self.name}", node))
        assert answer["Err"] is None, answer
        self.object(f"null/node/{self.name}", "update")
        return answer["Object"]
