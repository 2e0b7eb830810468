"""Fixtures for the end-to-end tests: real programs, real containers, real kubectl."""

import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.cluster import Cluster  # noqa: E402


def pytest_configure():
    """SIGTERM ends a run as Ctrl-C does: fixtures are closed, so that no program stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows the logs of the programs that it ran."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for value in getattr(item, "funcargs", {}).values():
            cluster = value if isinstance(value, Cluster) else getattr(value, "cluster", None)
            if isinstance(cluster, Cluster):
                report.sections.append(("logs", cluster.logs()))
                break


@pytest.fixture
def cluster():
    """An empty cluster; the test starts what it needs."""
    c = Cluster()
    yield c
    c.close()


@pytest.fixture(scope="module")
def cloud_only():
    """A cloudcore --standalone, shared by the tests of a file."""
    c = Cluster()
    try:
        # The nodes of these tests say what a test wants to be said, and nothing to show that they live.
        c.add_cloud().extra_args = ["--node-monitor-grace-period", "3600"]
        c.cloud.start()
        yield c
    finally:
        c.close()


@pytest.fixture(scope="module")
def joined():
    """A cloud and one node, edge-1, in a network namespace of its own; shared by the tests of a file."""
    c = Cluster()
    try:
        network = c.add_network()
        c.start_cloud(advertise=network.host_ip)
        c.add_node("edge-1", network=network)
        yield c
    finally:
        c.close()
