"""The doubles and samples that tests share are found from every room: pytest puts this folder into the import path,
and what a test of one room lends to another's is found in its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += sorted({str(test.parent) for test in Path(__file__).parent.rglob("test_*.py")})
