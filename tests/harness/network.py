"""A machine at the edge of the network: a namespace of its own and a cable to us that can be cut."""

import itertools
import os
import subprocess

_numbers = itertools.count()


def _ip(*args, check=True):
    return subprocess.run(["ip", *args], check=check, capture_output=True, text=True)


class EdgeNetwork:
    """`host_ip` is our end, `edge_ip` the namespace's; `down()` cuts the cable, `up()` mends it."""

    def __init__(self):
        n = os.getpid() % 8192 * 8 + next(_numbers) % 8
        self.name = f"svns{n:x}"
        self.host_if, self.edge_if = f"svh{n:x}", f"sve{n:x}"
        base = f"10.{64 + n // 16384}.{n // 64 % 256}.{n % 64 * 4}".rsplit(".", 1)
        first = int(base[1])
        self.host_ip, self.edge_ip = f"{base[0]}.{first + 1}", f"{base[0]}.{first + 2}"
        _ip("netns", "add", self.name)
        _ip("link", "add", self.host_if, "type", "veth", "peer", "name", self.edge_if, "netns", self.name)
        _ip("addr", "add", self.host_ip + "/30", "dev", self.host_if)
        _ip("link", "set", self.host_if, "up")
        self._in("addr", "add", self.edge_ip + "/30", "dev", self.edge_if)
        self._in("link", "set", "lo", "up")
        self._in("link", "set", self.edge_if, "up")
        self._in("route", "add", "default", "via", self.host_ip)

    def _in(self, *args):
        return _ip("-n", self.name, *args)

    def down(self):
        """Our end goes down: the edge loses its carrier, as when a cable is pulled."""
        _ip("link", "set", self.host_if, "down")

    def up(self):
        _ip("link", "set", self.host_if, "up")

    def blackhole(self):
        """Nothing passes and nobody is told: what a broken radio link looks like."""
        subprocess.run(["iptables", "-w", "-I", "INPUT", "-i", self.host_if, "-j", "DROP"], check=True)

    def unblackhole(self):
        subprocess.run(["iptables", "-w", "-D", "INPUT", "-i", self.host_if, "-j", "DROP"], check=True)

    def deafen(self):
        """What the edge sends arrives, what we send is lost: a link that works one way."""
        subprocess.run(["iptables", "-w", "-I", "OUTPUT", "-o", self.host_if, "-j", "DROP"], check=True)

    def undeafen(self):
        subprocess.run(["iptables", "-w", "-D", "OUTPUT", "-o", self.host_if, "-j", "DROP"], check=True)

    def run(self, argv, **kwargs):
        return subprocess.run(["nsenter", "--net=/run/netns/" + self.name, "--", *argv], **kwargs)

    def remove(self):
        while subprocess.run(["iptables", "-w", "-D", "INPUT", "-i", self.host_if, "-j", "DROP"],
                             capture_output=True).returncode == 0:
            pass
        while subprocess.run(["iptables", "-w", "-D", "OUTPUT", "-o", self.host_if, "-j", "DROP"],
                             capture_output=True).returncode == 0:
            pass
        _ip("link", "del", self.host_if, check=False)
        _ip("netns", "del", self.name, check=False)
