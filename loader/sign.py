"""Secure Boot: signing the EFI file with the owner's key."""

from __future__ import annotations

from pathlib import Path

from artefacts.steps import BuildError, run, step

_HINT = "apt install sbsigntool; the key and the certificate are PEM files that belong together"


def sign(path: Path, key: Path, certificate: Path, log: Path) -> None:
    """Replace ``path`` by itself with a signature, and check that with the certificate.  Raises BuildError."""
    for given in (key, certificate):
        if not given.is_file():
            raise BuildError(f"{given} is missing", _HINT)
    fresh = path.with_name(f".{path.name}.signed")
    with step(f"signing {path.name}", log):
        run(["sbsign", "--key", key, "--cert", certificate, "--output", fresh, path], log=log, hint=_HINT)
        run(["sbverify", "--cert", certificate, fresh], log=log, hint=_HINT)
    fresh.rename(path)
