"""What this machine's network needs: proxies, a certificate authority of its own, pip's and apt's settings.

Whatever fetches in a root of its own (mmdebstrap's, or a bare root of tests/systems) does not see the machine's files.
Its settings are taken along, or every download there fails behind a proxy that has its own certificate authority, or
from a mirror that stands still.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")

# Who reads which: pip, requests, OpenSSL and Python's ssl, curl, git.
_BUNDLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")

SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where Debian's ca-certificates collects what the machine trusts."""

# Where packages come from and how to get there; what else pip can be told (--user, --target) is about this machine.
_PIP = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "constraint", "proxy", "client-cert",
    "timeout", "default-timeout", "retries", "prefer-binary", "only-binary", "no-binary", "use-feature",
)  # fmt: skip

# Of proxies, certificates, and mirrors whose lists are older than their authors allow.
_APT = re.compile(r'Acquire::(?:https?::.+|Check-Valid-Until|Check-Date|Retries) ".+";')
_APT_BUNDLE = "Acquire::https::CaInfo"


class Settings(NamedTuple):
    """What a root needs to reach what this machine reaches."""

    environment: dict[str, str]
    """Variables; those about certificates say ``bundle``."""
    apt: list[str]
    """Lines of apt.conf."""
    certificates: Path | None
    """The machine's bundle, which is to lie at ``bundle`` in the root."""
    directories: list[Path]
    """Files and directories that pip's settings name, to be visible in the root under the same names."""


def settings(bundle: str) -> Settings:
    """This machine's settings; ``bundle`` is where its certificates will lie in the root, an absolute path."""
    pip = _pip_settings(_pip_config(), os.environ)
    certificates = _certificates(pip, os.environ)
    pip.pop("PIP_CERT", None)
    variables = {name: os.environ[name] for name in _both_cases(_PROXIES) if os.environ.get(name)}
    apt = [line for line in apt_options() if not line.startswith(f"{_APT_BUNDLE} ")]
    if certificates:
        variables |= dict.fromkeys(_BUNDLES, bundle)
        apt.append(f'{_APT_BUNDLE} "{bundle}";')
    return Settings(variables | pip, apt, certificates, _named_paths(pip))


def apt_options() -> list[str]:
    """This machine's settings of apt that are about its network, as lines of apt.conf."""
    try:
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []  # not a Debian: nothing to take along
    return [line for line in done.stdout.splitlines() if _APT.fullmatch(line)]


def for_mmdebstrap() -> list[str]:
    """Options that make mmdebstrap's own apt fetch as this machine's does.  They do not change what it makes."""
    return [f"--aptopt={line}" for line in apt_options()]


def _pip_config() -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _pip_settings(listed: str, environment: Mapping[str, str]) -> dict[str, str]:
    """pip's settings as variables, from what ``pip config list`` prints and from what the environment says already."""
    found = {}
    for line in listed.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if separator and option in (*_PIP, "cert") and section != ":env:":
            found[_variable(option)] = " ".join(str(ast.literal_eval(value)).split())
    names = [_variable(option) for option in (*_PIP, "cert")]
    return found | {name: environment[name] for name in names if environment.get(name)}


def _variable(option: str) -> str:
    return "PIP_" + option.upper().replace("-", "_")


def _certificates(pip: Mapping[str, str], environment: Mapping[str, str]) -> Path | None:
    named = [pip.get("PIP_CERT"), *(environment.get(name) for name in _BUNDLES)]
    for place in [*(Path(name) for name in named if name), SYSTEM_BUNDLE]:
        if place.is_file():
            return place
    return None


def _named_paths(pip: Mapping[str, str]) -> list[Path]:
    found = set()
    for word in (word for value in pip.values() for word in value.split()):
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            # The pages of an index lie in a directory "simple" and link to files beside it.
            found.add(path.parent if word.startswith("file://") and path.parent != Path("/") else path)
    return sorted(found)


def _both_cases(names: Iterable[str]) -> list[str]:
    return [spelt for name in names for spelt in (name, name.upper())]
