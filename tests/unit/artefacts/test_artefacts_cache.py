"""The cache: entries are whole or absent, and made once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from artefacts import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POOLBOOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_made_once() -> None:
    made = []

    def make(work: Path) -> None:
        made.append(work)
        (work / "file").write_text("content")

    first = cache.entry("kind", "name", make)
    assert cache.entry("kind", "name", make) == first
    assert len(made) == 1
    assert (first / "file").read_text() == "content"


def test_a_failure_leaves_nothing(own_cache: Path) -> None:
    def fail(work: Path) -> None:
        (work / "half").write_text("a part")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        cache.entry("kind", "name", fail)
    assert [path.name for path in (own_cache / "kind").iterdir() if path.is_dir()] == []
    assert cache.entry("kind", "name", lambda work: None).is_dir()


def test_two_at_once_make_it_once() -> None:
    made = []

    def make(work: Path) -> None:
        made.append(work)
        time.sleep(0.2)

    threads = [threading.Thread(target=cache.entry, args=("kind", "name", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_keys_depend_on_every_part() -> None:
    keys = {cache.key("a", ["b"]), cache.key("a", ["c"]), cache.key("ab"), cache.key("a", "b")}
    assert len(keys) == 4
    assert cache.key("a", ["b"]) == cache.key("a", ["b"])


def test_the_place_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POOLBOOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg/poolboot"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.root() == tmp_path / "home/.cache/poolboot"


def test_what_a_killed_build_left_is_swept_away(own_cache: Path) -> None:
    shelf = own_cache / "kind"
    for name in (".name.abcd1234", ".name-2.abcd1234", ".name.1.abcd1234"):
        (shelf / name).mkdir(parents=True)
        (shelf / name / "half").write_text("a part")
    cache.entry("kind", "name", lambda work: None)
    left = {path.name for path in shelf.iterdir() if path.is_dir()}
    assert left == {"name", ".name-2.abcd1234", ".name.1.abcd1234"}
