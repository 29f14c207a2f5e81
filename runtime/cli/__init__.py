"""The command line: `tagwerk COMMAND ...`. One file a group of commands; `app.py` ties them together."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; give its exit code."""
    from tagwerk.runtime.cli.app import run

    return run(sys.argv[1:])
