"""What all tests share: the helpers beside the integration tests can be imported by name."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

# A shell without job control starts what it puts into the background with SIGINT ignored, and every child inherits
# that: the tests that press Ctrl-C would press it in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path[:0] = [str(Path(__file__).parent / folder) for folder in ("integration", "faults")]
