"""The order of kernel versions: what dpkg and rpm agree on, with release candidates before the release."""

from __future__ import annotations

import re

# What a part of a version is, in rising order: "6.12~rc1" < "6.12" < "6.12-1" < "6.12+" < "6.12a" < "6.12.1".
_BEFORE, _END, _DASH, _PLUS, _WORD, _NUMBER = range(6)

Key = tuple[tuple[int, int, str], ...]

_TOKEN = r"[0-9]+|[A-Za-z]+|[~+-]"
# "-rc3" and ".old" come before what they are a candidate for or an older copy of.
_EARLIER = r"(?i)(?<![-._~+])[-._~+]*(?<![A-Za-z])(rc(?=\.?[0-9])|old(?![A-Za-z0-9])|bak(?![A-Za-z0-9]))"
_ZERO_RC = r"-0\.(?=rc[0-9])"


def key(version: str) -> Key:
    """A sort key: of two versions the newer one has the larger key.

    Runs of digits count as numbers, runs of letters as text, all separators but "-", "+" and "~" alike.
    Sources: deb-version(7), rpm's lib/rpmvercmp.c:rpmvercmp, and systemd's and GRUB's need to see that
    6.12 is newer than 6.9 and 6.12-rc1 older than 6.12.
    """
    parts = []
    # Fedora writes 6.12.0-0.rc3 for what others call 6.12.0-rc3.
    for token in re.findall(_TOKEN, re.sub(_EARLIER, r"~\1", re.sub(_ZERO_RC, "-", version[:256]))):
        if token[0].isdigit():
            parts.append((_NUMBER, int(token), ""))
        elif token == "~":
            parts.append((_BEFORE, 0, ""))
        elif token == "-":
            parts.append((_DASH, 0, ""))
        elif token == "+":
            parts.append((_PLUS, 0, ""))
        else:
            parts.append((_WORD, 0, token))
    return (*parts, (_END, 0, ""))
