"""Where tests find what is not code, whichever folder they are in."""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).resolve().parent
DATA = UNIT / "data"
PROJECT = UNIT.parents[1]
