"""The cloud side of the wire, as much of it as a test of edgecore alone needs: /ca.crt, /edge.crt, and the WebSocket.

It answers as the specification says and remembers what it was sent; a test makes it misbehave."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import queue
import socket
import ssl
import struct
import subprocess
import threading
import time
import uuid


def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *args], input=stdin, check=True, capture_output=True).stdout


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Pki:
    """A CA, a server certificate for 127.0.0.1, and join tokens."""

    def __init__(self, folder):
        self.dir = folder
        os.makedirs(folder, exist_ok=True)
        f = self.path
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f("ca.key"))
        openssl("req", "-x509", "-new", "-key", f("ca.key"), "-subj", "/CN=KubeEdge", "-days", "3650", "-out", f("ca.crt"))
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f("server.key"))
        csr = openssl("req", "-new", "-key", f("server.key"), "-subj", "/O=KubeEdge/CN=KubeEdge")
        with open(f("server.ext"), "w") as ext:
            ext.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        openssl("x509", "-req", "-CA", f("ca.crt"), "-CAkey", f("ca.key"), "-CAcreateserial", "-days", "3650",
                "-extfile", f("server.ext"), "-out", f("server.crt"), stdin=csr)
        self.ca_der = openssl("x509", "-in", f("ca.crt"), "-outform", "DER")
        self.secret = os.urandom(32)

    def path(self, name):
        return os.path.join(self.dir, name)

    def token(self, secret=None):
        head = b64url(b'{"alg":"HS256","typ":"JWT"}')
        claims = b64url(json.dumps({"exp": int(time.time()) + 3600}).encode())
        mac = hmac.new(secret or self.secret, f"{head}.{claims}".encode(), hashlib.sha256).digest()
        return f"{hashlib.sha256(self.ca_der).hexdigest()}.{head}.{claims}.{b64url(mac)}"

    def jwt_is_ours(self, jwt):
        head, claims, mac = jwt.split(".")
        return hmac.compare_digest(mac, b64url(hmac.new(self.secret, f"{head}.{claims}".encode(), hashlib.sha256).digest()))

    def sign(self, csr_der, node, seconds=None):
        csr = openssl("req", "-inform", "DER", "-outform", "PEM", stdin=csr_der)
        ext = self.path("client.ext")
        with open(ext, "w") as f:
            f.write("extendedKeyUsage=clientAuth\n")
        pem = openssl("x509", "-req", "-CA", self.path("ca.crt"), "-CAkey", self.path("ca.key"), "-set_serial",
                      str(uuid.uuid4().int >> 70), "-days", "365", "-extfile", ext, stdin=csr)
        return openssl("x509", "-outform", "DER", stdin=pem)


class Session:
    """One accepted WebSocket."""

    def __init__(self, sock, headers, path):
        self.sock, self.headers, self.path = sock, headers, path
        self.received = []
        self.changed = threading.Condition()
        self.closed = False
        self.answer_pings = True
        self.write_lock = threading.Lock()

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def _frame(self):
        first, second = self._exactly(2)
        length = second & 127
        if length == 126:
            length = struct.unpack(">H", self._exactly(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self._exactly(8))[0]
        assert second & 128, "a client must mask"
        mask = self._exactly(4)
        data = self._exactly(length)
        return bool(first & 128), first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(data))

    def send_frame(self, opcode, data):
        head = bytes([128 | opcode])
        if len(data) < 126:
            head += bytes([len(data)])
        elif len(data) < 65536:
            head += bytes([126]) + struct.pack(">H", len(data))
        else:
            head += bytes([127]) + struct.pack(">Q", len(data))
        with self.write_lock:
            self.sock.sendall(head + data)

    def run(self, on_message):
        text = b""
        try:
            while True:
                final, opcode, data = self._frame()
                if opcode == 9:
                    if self.answer_pings:
                        self.send_frame(10, data)
                elif opcode == 8:
                    break
                elif opcode in (0, 1, 2):
                    text += data
                    if final:
                        message = json.loads(text)
                        text = b""
                        with self.changed:
                            self.received.append(message)
                            self.changed.notify_all()
                        on_message(self, message)
        except (OSError, ConnectionError):
            pass
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()

    def send(self, message):
        self.send_frame(1, json.dumps(message).encode() + b"\n")

    def cut(self):
        """As a cloudcore that dies: no close frame."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def wait(self, what, matches, timeout=60):
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                found = [m for m in self.received if matches(m)]
                if found:
                    return found[0]
                left = end - time.monotonic()
                if left <= 0 or self.closed:
                    raise TimeoutError(f"no {what}; closed={self.closed}, received {len(self.received)} messages")
                self.changed.wait(left)

    def acks(self):
        with self.changed:
            return [m["header"].get("parent_msg_id") for m in self.received if m["route"].get("operation") == "response"]


class FakeCloud:
    def __init__(self, folder, port=0, https_port=0):
        self.pki = Pki(os.path.join(folder, "cloud-pki"))
        self.sessions = queue.Queue()
        self.on_message = lambda session, message: None
        self.accepting, self.refused = True, 0
        self.certificate_requests = []
        self.alive = True
        self._listen(port)
        self._serve_https(https_port)

    # ---- certificates ----

    def _serve_https(self, port):
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = cloud._https(self, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self.https = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pki.path("server.crt"), self.pki.path("server.key"))
        context.load_verify_locations(self.pki.path("ca.crt"))
        context.verify_mode = ssl.CERT_OPTIONAL
        self.https.socket = context.wrap_socket(self.https.socket, server_side=True)
        self.https_port = self.https.server_address[1]
        threading.Thread(target=self.https.serve_forever, daemon=True).start()

    def _https(self, request, body):
        if request.path == "/ca.crt":
            return 200, self.pki.ca_der
        if request.path != "/edge.crt":
            return 404, b"404: Page Not Found"
        certificate = request.connection.getpeercert()
        self.certificate_requests.append({"node": request.headers.get("NodeName"), "certificate": bool(certificate)})
        if not certificate:
            jwt = (request.headers.get("Authorization") or " ").split(" ")[1]
            if not jwt or not self.pki.jwt_is_ours(jwt):
                return 401, b"token validation failure, err: token signature is invalid: signature is invalid"
        return 200, self.pki.sign(body, request.headers["NodeName"])

    # ---- the hub ----

    def _listen(self, port):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.pki.path("server.crt"), self.pki.path("server.key"))
        self.context.load_verify_locations(self.pki.path("ca.crt"))
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.alive:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(raw,), daemon=True).start()

    def _session(self, raw):
        if not self.accepting:
            self.refused += 1
            raw.close()
            return
        try:
            sock = self.context.wrap_socket(raw, server_side=True)
            request = b""
            while b"\r\n\r\n" not in request:
                piece = sock.recv(4096)
                if not piece:
                    return
                request += piece
        except OSError:
            return
        lines = request.decode().split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if ":" in line)}
        accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
                                               .encode()).digest()).decode()
        sock.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode())
        session = Session(sock, headers, lines[0].split()[1])
        self.sessions.put(session)
        session.run(lambda s, m: self.on_message(s, m))

    def session(self, timeout=60):
        """The next connection that the edge makes."""
        return self.sessions.get(timeout=timeout)

    def close(self):
        self.alive = False
        self.listener.close()
        self.https.shutdown()
        self.https.server_close()


def downstream(operation, resource, content, rv="1", source="edgecontroller", group="resource", msg_id=None, parent=None):
    header = {"msg_id": msg_id or str(uuid.uuid4()), "timestamp": int(time.time() * 1000), "resourceversion": rv}
    if parent:
        header["parent_msg_id"] = parent
    return {"header": header, "route": {"source": source, "group": group, "operation": operation, "resource": resource},
            "content": content}
