"""`python -m fsdrivers`: the desk tool."""

from __future__ import annotations

import sys

from fsdrivers.cli import main

sys.exit(main())
