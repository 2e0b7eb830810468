"""Processes, ports, waiting: what every part of the harness stands on. Everything is ended by process id."""

import itertools
import os
import signal
import socket
import subprocess
import time


# Below the range from which the system takes the ports of outgoing connections: those it would hand to somebody else
# while a server restarts. Each process of a parallel run has a slice of its own.
PORTS_FIRST, PORTS_SLICE, PORTS_SLICES = 12000, 400, 50
_ports = itertools.cycle(range(PORTS_FIRST + os.getpid() % PORTS_SLICES * PORTS_SLICE,
                               PORTS_FIRST + (os.getpid() % PORTS_SLICES + 1) * PORTS_SLICE))


def free_port(host="127.0.0.1"):
    for port in itertools.islice(_ports, PORTS_SLICE):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, port))
                return port
            except OSError:
                pass
    raise RuntimeError("no port is free")


def wait_for(what, condition, timeout=60.0, interval=0.05):
    """Calls condition until it gives something true, which is returned; says what was waited for when it does not."""
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, subprocess.CalledProcessError, AssertionError, KeyError, ValueError, LookupError) as e:
            last = e
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}; last: {last!r}")
        time.sleep(interval)


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise LookupError("no VmRSS")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Process:
    """A child whose output goes to a file; ended with SIGTERM, then SIGKILL."""

    def __init__(self, argv, log, env=None, cwd=None, netns=None):
        if netns:
            argv = ["nsenter", "--net=/run/netns/" + netns, "--"] + argv
        self.argv, self.log_path = argv, log
        self._log = open(log, "ab")
        self.started_at = time.monotonic()
        self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
                                      env=env, cwd=cwd, start_new_session=True)
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def kill(self):
        """SIGKILL, at once: what a power cut does to a process."""
        if self.alive():
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()
        self._log.close()

    def stop(self, timeout=60):
        """SIGTERM; returns the exit code. SIGKILL after the timeout."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.popen.send_signal(signal.SIGKILL)
        self._log.close()
        return self.popen.wait()
