"""Every fuzz target reads its seeds, what was found before stays mended, and findings are seen: without atheris."""

from __future__ import annotations

import random

import pytest
import target as target_module
from target import FINDINGS, Disk, Target, execute, past_findings
from targets import TARGETS

from fsdrivers.errors import FsError


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds(target: Target) -> None:
    read = 0
    for seed in target.seeds():
        assert len(seed) <= target.room
        assert execute(target, seed) is None
        try:
            read += bool(target.run(seed))
        except (FsError, *target.expected):
            continue
    assert read, "no seed is read to its end: the fuzzer would only see errors"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_some_mutants(target: Target) -> None:
    """A handful, always the same ones: what breaks at once is seen at once."""
    chance = random.Random(target.name)
    seeds = target.seeds()
    for _ in range(12):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 2, 8))):
            if data:
                data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        cut = len(data) if chance.random() < 0.7 else chance.randrange(len(data) + 1)
        assert execute(target, bytes(data[:cut])) is None


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_past_findings(target: Target) -> None:
    for path in past_findings(target):
        assert execute(target, path.read_bytes()) is None, path.name


def test_past_findings_belong_to_targets() -> None:
    assert {path.name for path in FINDINGS.iterdir() if path.is_dir()} <= set(TARGETS)


def test_findings_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of them."""
    monkeypatch.setattr(target_module, "SECONDS", 0.2)
    monkeypatch.setattr(target_module, "PATIENCE", 2)

    def run(data: bytes) -> None:
        if data == b"error":
            raise KeyError("x")
        if data == b"bound":
            Disk(b"").read(0, 1)
        if data == b"slow":
            for _ in range(1 << 40):
                pass
        if data == b"large":
            _ = bytearray(b"x") * (target_module.MEBIBYTES + 32 << 20)
        assert data != b"wrong"

    def kind(data: bytes) -> str:
        found = execute(Target("test", run, list), data)
        return found.kind if found is not None else ""

    assert kind(b"fine") == kind(b"bound") == ""
    assert kind(b"error").startswith("KeyError-test_fuzz_targets.py")
    assert kind(b"wrong").startswith("AssertionError-")
    assert kind(b"large") == "large"
    assert kind(b"slow").startswith("slow")
