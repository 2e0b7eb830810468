"""Small OCI images, made here: nothing is pulled from anywhere.

`pause` holds a pod's namespaces; `busybox` is Debian's static busybox with its applets and a few web pages.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile

PAUSE = "localhost/pause:selvage"
BUSYBOX = "localhost/busybox:selvage"


def _layer(files):
    """A tar of {path: (mode, bytes) | symlink target | None for a folder}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, what in sorted(files.items()):
            info = tarfile.TarInfo(path)
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
                tar.addfile(info)
            elif isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
                tar.addfile(info)
            else:
                info.mode, data = what[0], what[1]
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write_archive(path, name, files, config):
    """Writes an OCI image archive that `ctr images import` takes."""
    layer = _layer(files)
    packed = gzip.compress(layer, mtime=0)
    blobs = {}

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": "sha256:" + digest, "size": len(data)}

    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    image = {
        "architecture": arch,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(json.dumps(image).encode())},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(packed)}],
    }
    described = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        **blob(json.dumps(manifest).encode()),
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]},
        "platform": {"architecture": arch, "os": "linux"},
    }
    with tarfile.open(path, "w") as tar:
        def add(member, data):
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [described]}).encode())
        for digest, data in blobs.items():
            add("blobs/sha256/" + digest, data)


def _pause_binary():
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pause.c")
    with tempfile.TemporaryDirectory() as tmp:
        binary = os.path.join(tmp, "pause")
        subprocess.run(["gcc", "-static", "-Os", "-s", "-o", binary, source], check=True)
        with open(binary, "rb") as f:
            return f.read()


def _busybox_files():
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    with open(busybox, "rb") as f:
        binary = f.read()
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    files = {d: None for d in ("bin", "etc", "tmp", "root", "var", "www", "proc", "sys", "dev")}
    files["bin/busybox"] = (0o755, binary)
    for applet in applets:
        if applet != "busybox":
            files["bin/" + applet] = "busybox"
    files["etc/passwd"] = (0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n")
    files["etc/group"] = (0o644, b"root:x:0:\nnogroup:x:65534:\n")
    files["www/index.html"] = (0o644, b"<h1>Hello from the edge</h1>\n")
    return files


def make_all(folder):
    """Writes both archives into folder; returns their paths."""
    os.makedirs(folder, exist_ok=True)
    pause, busybox = os.path.join(folder, "pause.tar"), os.path.join(folder, "busybox.tar")
    if not os.path.exists(pause):
        write_archive(pause, PAUSE, {"pause": (0o755, _pause_binary())}, {"Entrypoint": ["/pause"]})
    if not os.path.exists(busybox):
        write_archive(busybox, BUSYBOX, _busybox_files(),
                      {"Cmd": ["sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"})
    return [pause, busybox]
