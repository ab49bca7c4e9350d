"""docs/support-btrfs.md says what the tests show."""

from __future__ import annotations

import btrfs_matrix


def test_the_page_is_up_to_date() -> None:
    assert btrfs_matrix.PAGE.read_text() == btrfs_matrix.page(), "run: python tests/images/btrfs_matrix.py"
