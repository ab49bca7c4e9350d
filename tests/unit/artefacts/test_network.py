"""What a root of its own takes along of this machine's network."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from artefacts import network

_BUNDLE = "/etc/own.pem"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What ``pip config list`` and ``apt-config dump`` print; the machine has no variables and no bundle of its own."""
    says = {"pip": "", "apt": ""}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, says["apt" if command[0] == "apt-config" else "pip"], "")

    monkeypatch.setattr(network.subprocess, "run", run)
    monkeypatch.setattr(network.os, "environ", {})
    monkeypatch.setattr(network, "SYSTEM_BUNDLE", tmp_path / "none")
    return says


@pytest.mark.usefixtures("machine")
def test_a_machine_without_settings_gives_none() -> None:
    assert network.settings(_BUNDLE) == network.Settings({}, [], None, [])


@pytest.mark.usefixtures("machine")
def test_proxies_go_along_as_they_are_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = {"http_proxy": "http://proxy.example:3128", "HTTPS_PROXY": "http://proxy.example:3129", "no_proxy": ""}
    monkeypatch.setattr(network.os, "environ", proxies)
    assert network.settings(_BUNDLE).environment == {name: value for name, value in proxies.items() if value}


def test_everybody_is_told_of_the_bundle_in_the_root(
    machine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----")
    machine["pip"] = f"global.cert='{pem}'\n"
    machine["apt"] = f'Acquire::https::CaInfo "{pem}";\n'
    monkeypatch.setattr(network.os, "environ", {"SSL_CERT_FILE": "/gone.pem"})
    found = network.settings(_BUNDLE)
    assert found.certificates == pem
    assert set(found.environment.values()) == {_BUNDLE}
    assert {"PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} <= set(found.environment)
    assert found.apt == [f'Acquire::https::CaInfo "{_BUNDLE}";']
    assert found.directories == []  # it is copied


@pytest.mark.usefixtures("machine")
def test_the_bundle_of_the_system_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "ca-certificates.crt"
    system.touch()
    monkeypatch.setattr(network, "SYSTEM_BUNDLE", system)
    assert network.settings(_BUNDLE).certificates == system


def test_pips_files_and_variables_become_variables(
    machine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wheels", "index/simple"):
        (tmp_path / name).mkdir(parents=True)
    machine["pip"] = (
        f"global.extra-index-url='file://{tmp_path}/index/simple\\nhttps://pypi.example/simple'\n"
        "global.find-links='/nowhere'\n"
        "global.user='true'\n"
        "install.target='/opt'\n"
        ":env:.find-links='shown a second time'\n"
        "global.timeout='60'\n"
    )
    monkeypatch.setattr(network.os, "environ", {"PIP_FIND_LINKS": str(tmp_path / "wheels")})
    found = network.settings(_BUNDLE)
    assert found.environment == {
        "PIP_EXTRA_INDEX_URL": f"file://{tmp_path}/index/simple https://pypi.example/simple",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_TIMEOUT": "60",
    }
    assert found.directories == [tmp_path / "index", tmp_path / "wheels"]  # an index links to what is beside it


def test_apt_takes_proxies_and_patience_along_and_nothing_else(machine: dict[str, str]) -> None:
    wanted = [
        'Acquire::http::Proxy "http://proxy.example:3142";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    ]
    others = ['APT::Install-Recommends "false";', 'Acquire::Languages "none";', "Acquire::http;", 'Dir "/";']
    machine["apt"] = "\n".join([*others[:2], *wanted, *others[2:]])
    assert network.apt_options() == wanted
    assert network.for_mmdebstrap() == [f"--aptopt={line}" for line in wanted]


def test_a_machine_without_apt_has_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(network.subprocess, "run", run)
    assert network.apt_options() == []
