"""One target under atheris, in a process of its own: ``child.py TARGET DIRECTORY OPTION...``.

What is found is written to DIRECTORY, a file for each kind, and the search goes on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "unit")]
MOST = 5  # inputs of one kind that are kept


def main(arguments: list[str]) -> None:
    import atheris

    name, directory, *options = arguments
    room = Path(directory)
    with atheris.instrument_imports(include=["fsdrivers", "init"]):
        _take_sanitized()
        import targets
        import targets_native
        from target import execute, name_of

        targets_native.instrument = atheris.instrument_func
        target = targets.TARGETS[name]
        # Drivers import much of themselves when they are first used; and what is loaded once is nobody's memory.
        for seed in target.seeds():
            execute(target, seed)
    kinds: dict[str, int] = {}

    def one(data: bytes) -> None:
        found = execute(target, data)
        if found is None or kinds.get(found.kind, 0) >= (MOST if found.kind in ("slow", "large") else 1):
            return
        kinds[found.kind] = kinds.get(found.kind, 0) + 1
        path = room / f"{found.kind}-{name_of(data)}"
        path.write_bytes(data)
        path.with_name(path.name + ".txt").write_text(found.text + "\n", errors="replace")

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def _take_sanitized() -> None:
    """Put the modules that POOLBOOT_SANITIZED names in the place of the ordinary ones."""
    for name, path in json.loads(os.environ.get("POOLBOOT_SANITIZED", "{}")).items():
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
        setattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2], module)


if __name__ == "__main__":
    main(sys.argv[1:])
