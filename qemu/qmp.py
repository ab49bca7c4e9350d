"""A machine's control panel: QEMU's machine protocol (docs/interop/qmp-spec.txt, 7.2) over a socket.

panel = Panel(tmp_path / "qmp")
with Machine(..., options=panel.options) as guest:
    panel.press("ctrl", "alt", "delete")
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any, TextIO

_SECONDS = 30
_HOLD = 0.02  # seconds that a key is down
_PAUSE = 0.2  # seconds after which QEMU has let it go for sure


class Panel:
    """The control panel of a Machine that is given ``options``; ``path`` is where the socket goes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.options = ("-qmp", f"unix:{path},server=on,wait=off")

    def ask(self, command: str, **arguments: object) -> Any:
        """Give one command, with "_" in the names of its ``arguments`` for "-"; what it returns.  Raises OSError."""
        details = {name.replace("_", "-"): value for name, value in arguments.items()}
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_SECONDS)
            link.connect(str(self._path))
            with link.makefile("rw") as stream:
                _message(stream)  # the greeting
                _execute(stream, "qmp_capabilities", {})
                return _execute(stream, command, details)

    def press(self, *names: str) -> None:
        """Press keys of the keyboard together, by QEMU's names (QKeyCode)."""
        keys = [{"type": "qcode", "data": name} for name in names]
        self.ask("send-key", keys=keys, hold_time=int(_HOLD * 1000))
        time.sleep(_PAUSE)

    def type(self, *names: str) -> None:
        """Press keys one after the other."""
        for name in names:
            self.press(name)


def _execute(stream: TextIO, command: str, arguments: dict[str, object]) -> Any:
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    while "event" in (answer := _message(stream)):
        continue
    if "error" in answer:
        raise OSError(f"{command}: {answer['error'].get('desc', answer['error'])}")
    return answer["return"]


def _message(stream: TextIO) -> dict[str, Any]:
    """The next message.  Raises OSError when QEMU is gone."""
    line = stream.readline()
    if not line:
        raise ConnectionError("QEMU closed its control socket")
    message: dict[str, Any] = json.loads(line)
    return message
