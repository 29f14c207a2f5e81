"""`python -m tagwerk.runtime.cli` is `tagwerk`."""

from __future__ import annotations

import sys

from tagwerk.runtime.cli import main

sys.exit(main())
