"""What all tests share: the helpers beside the integration tests can be imported by name."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

# A shell without job control starts what it puts into the background with SIGINT ignored, and every child inherits
# that: the tests that press Ctrl-C would press it in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path[:0] = [str(Path(__file__).parent / folder) for folder in ("integration", "faults", "unit")]

LONG_S = 3 * 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.timeout(LONG_S))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what failed at once: a run that is cut short never comes to its summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stdout.write(f"\nFAILED {report.nodeid} ({report.when})\n")
        sys.stdout.flush()
