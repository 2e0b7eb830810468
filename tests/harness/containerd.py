"""A containerd of one's own: its own state folder, socket, network bridge. The system's is not touched."""

import glob
import itertools
import json
import os
import subprocess
import time

from . import images
from .processes import Process, wait_for

CONFIG = """\
version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "/usr/sbin/runc"
        SystemdCgroup = false
"""

CNI = """\
{{"cniVersion": "0.4.0", "name": "selvage-{bridge}", "plugins": [
  {{"type": "bridge", "bridge": "{bridge}", "isGateway": true, "ipMasq": false, "hairpinMode": true,
    "ipam": {{"type": "host-local", "dataDir": "{dir}/ipam", "ranges": [[{{"subnet": "{subnet}"}}]],
              "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "loopback"}}
]}}
"""

_numbers = itertools.count()


class Containerd:
    def __init__(self, folder, netns=None):
        # Unix socket paths are short: the folder must be too.
        self.dir, self.netns = folder, netns
        self.socket = os.path.join(folder, "c.sock")
        # A bridge and a subnet of its own, so that several may run side by side.
        n = os.getpid() % 4096 * 16 + next(_numbers) % 16
        self.bridge = f"svbr{n:x}"
        self.subnet = f"10.{80 + n // 4096}.{n // 16 % 256}.{n % 16 * 16}/28"
        os.makedirs(os.path.join(folder, "cni"), exist_ok=True)
        with open(os.path.join(folder, "config.toml"), "w") as f:
            f.write(CONFIG.format(dir=folder, socket=self.socket, pause=images.PAUSE))
        with open(os.path.join(folder, "cni", "10-selvage.conflist"), "w") as f:
            f.write(CNI.format(bridge=self.bridge, dir=folder, subnet=self.subnet))
        self.process = None

    def start(self):
        self.process = Process(["containerd", "--config", os.path.join(self.dir, "config.toml")],
                               os.path.join(self.dir, "containerd.log"), netns=self.netns)
        wait_for("containerd to answer", lambda: self.ctr("version") is not None)
        return self

    def ctr(self, *args):
        return subprocess.run(["ctr", "-a", self.socket, "-n", "k8s.io", *args], check=True, capture_output=True,
                              text=True).stdout

    def import_images(self, archives):
        for archive in archives:
            self.ctr("images", "import", archive)
            name = os.path.basename(archive).split(".")[0]
            wait_for(f"image {name} to be known to the CRI", lambda: any(
                "/" + name + ":" in line and "managed" in line for line in self.ctr("images", "ls").splitlines()))
        return self

    def containers(self):
        """Ids of running containers, sandboxes included."""
        lines = self.ctr("tasks", "ls").splitlines()[1:]
        return sorted(line.split()[0] for line in lines if "RUNNING" in line)

    def restart(self):
        self.process.stop()
        return self.start()

    def kill(self):
        self.process.kill()

    def _shims(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    argv = f.read().split(b"\0")
            except OSError:
                continue
            if argv[0].endswith(b"containerd-shim-runc-v2") and self.socket.encode() in argv:
                yield int(pid)

    def kill_containers(self):
        """Ends every container and shim at once: what a reboot does."""
        pids = []
        for shim in list(self._shims()):
            pids.append(shim)
            try:
                with open(f"/proc/{shim}/task/{shim}/children") as f:
                    pids += [int(p) for p in f.read().split()]
            except OSError:
                pass
        for pid in reversed(pids):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass

    def _pod_networks(self):
        """Names of the network namespaces that CNI made for pods that are still there."""
        names = set()
        for path in glob.glob(os.path.join(self.dir, "state/io.containerd.runtime.v2.task/k8s.io/*/config.json")):
            with open(path) as f:
                namespaces = json.load(f)["linux"]["namespaces"]
            names.update(os.path.basename(n["path"]) for n in namespaces if n["type"] == "network" and n.get("path"))
        return {name for name in names if name.startswith("cni-")}

    def stop(self):
        """Ends containers, containerd, its mounts, namespaces and bridge; leaves the folder for whoever reads logs."""
        networks = self._pod_networks()
        self.kill_containers()
        time.sleep(0.1)
        if self.process:
            self.process.stop()
        self.kill_containers()
        unmount_below(self.dir)
        for name in networks:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        prefix = ["nsenter", "--net=/run/netns/" + self.netns, "--"] if self.netns else []
        subprocess.run(prefix + ["ip", "link", "del", self.bridge], capture_output=True)


def unmount_below(folder):
    """Takes off every mount below folder, newest first."""
    with open("/proc/self/mounts") as f:
        points = [line.split()[1].encode().decode("unicode_escape") for line in f]
    for point in reversed([p for p in points if p.startswith(folder + "/")]):
        subprocess.run(["umount", "-l", point], capture_output=True)
