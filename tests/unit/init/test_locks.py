"""poolboot.lock= and its password: what is understood, and that what is not understood locks."""

from __future__ import annotations

import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from init import config, locks
from loader.__main__ import main as loader

# grub-mkpasswd-pbkdf2 --iteration-count=1000 of GRUB 2.06-13+deb12u2
ROSEBUD = (
    "grub.pbkdf2.sha512.1000."
    "A480B11E4DA2056D90A49F6A9D3507C25B2EE25E7019EBCA1E3C03702E14F7D80BAF0B7AB6705A572EE0325621B111C6609931E91DA726831"
    "0AFFD147CE2F90F."
    "5CA99A86CC171419B0F2996B0A9D6B238A713AB846FC9F1B888385982A440A97917F755723A761DC3D50A7D3E951DCB94A1B6A7E8A4B4A97EE"
    "754F4889713C19"
)


def knob(password: str = "rosebud", iterations: int = 10) -> str:
    return f"poolboot.lock-password={locks.make_hash(password, iterations)}"


# The inputs of RFC 6070, which has SHA-1 only, with SHA-512: these outputs are what OpenSSL and others test with
VECTORS = [
    (b"password", b"salt", 1,
     "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"
     "c02d470a285a0501bad999bfe943c08f050235d7d68b1da55e63f73b60a57fce"),
    (b"password", b"salt", 2,
     "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e9f0040713f18aefdb866d53c"
     "f76cab2868a39b9f7840edce4fef5a82be67335c77a6068e04112754f27ccf4e"),
    (b"password", b"salt", 4096,
     "d197b1b33db0143e018b12f3d1d1479e6cdebdcc97c5c0f87f6902e072f457b5"
     "143f30602641b3d55cd335988cb36b84376060ecd532e039b742a239434af2d5"),
    (b"passwordPASSWORDpassword", b"saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
     "8c0511f4c6e597c6ac6315d8f0362e225f3c501495ba23b868c005174dc4ee71"
     "115b59f9e60cd9532fa33e0f75aefe30225c583a186cd82bd4daea9724a3d3b8"),
]  # fmt: skip


@pytest.mark.parametrize(("password", "salt", "iterations", "wanted"), VECTORS)
def test_vectors(password: bytes, salt: bytes, iterations: int, wanted: str) -> None:
    assert locks.pbkdf2(password, salt, iterations, 64).hex() == wanted


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=80), st.integers(1, 5), st.integers(16, 256))
@settings(max_examples=60)
def test_it_is_what_openssl_has(password: bytes, salt: bytes, iterations: int, size: int) -> None:
    wanted = hashlib.pbkdf2_hmac("sha512", password, salt, iterations, size)
    assert locks.pbkdf2(password, salt, iterations, size) == wanted


def test_what_grubs_own_tool_makes_is_taken() -> None:
    made = locks.parse_hash(ROSEBUD)
    assert made.iterations == 1000
    assert made.matches("rosebud")
    assert not made.matches("Rosebud")


def test_a_hash_reads_as_it_is_written() -> None:
    made = locks.make_hash("pässword", 3)
    assert locks.parse_hash(str(made)) == made
    assert made.matches("pässword")
    assert str(made).startswith("grub.pbkdf2.sha512.3.")


def test_a_lock_with_its_password() -> None:
    (lock,) = config.read(f"poolboot.lock=menu {knob()}").locks
    assert lock.level == "menu"
    assert [lock.covers(level) for level in locks.LEVELS] == [True, True, False]
    assert lock.hashes[0].matches("rosebud")
    assert list(locks.told([lock])) == []


SALT, DIGEST = "AA" * 8, "BB" * 64


@pytest.mark.parametrize("text", [
    "poolboot.lock", "poolboot.lock=", "poolboot.lock=none", "poolboot.lock=off", "poolboot.lock=Editor", knob(),
    "poolboot.lock=editor poolboot.lock-password=rosebud",
    f"poolboot.lock=editor poolboot.lock_password=grub.pbkdf2.sha256.1000.{SALT}.{DIGEST}",
    f"poolboot.lock=editor poolboot.lock-password=grub.pbkdf2.sha512.0.{SALT}.{DIGEST}",
    f"poolboot.lock=editor poolboot.lock-password=grub.pbkdf2.sha512.1000001.{SALT}.{DIGEST}",
    f"poolboot.lock=editor poolboot.lock-password=grub.pbkdf2.sha512.{'9' * 5000}.{SALT}.{DIGEST}",
    f"poolboot.lock=editor poolboot.lock-password=grub.pbkdf2.sha512.1000.{SALT}.BBBB",
    f"poolboot.lock=editor poolboot.lock-password=grub.pbkdf2.sha512.1000..{DIGEST}",
    f"poolboot.lock=editor poolboot.lock-password=grub.pbkdf2.sha512.1000.{SALT}",
    f"poolboot.lock=editor poolboot.lock-password=grub.pbkdf2.sha512.1000.{SALT}.{DIGEST}.",
    f'poolboot.lock=editor poolboot.lock-password="grub.pbkdf2.sha512.1000.{SALT}.{DIGEST[:-2]} B"',
    "poolboot.lokc=editor", "poolboot.lock-pasword=x", "poolboot.Lock=editor", "poolboot.LOCK=all",
    "Poolboot.lock=all", "POOLBOOT.LOCK=ALL", "poolboot.lock:all", "poolboot.lock_level=editor",
    "poolboot.locks=editor",
])  # fmt: skip
def test_what_cannot_be_understood_locks_everything(text: str) -> None:
    (lock,) = config.read(text).locks
    assert lock.level == "all"
    told = list(locks.told([lock]))
    assert any("not understood, so everything is locked" in line for line in told)
    assert not any(DIGEST in line for line in told)


@given(st.text(max_size=40))
def test_whatever_the_value_it_locks_at_least_what_it_says(value: str) -> None:
    found = config.of((("poolboot.lock", value),)).locks
    assert found[0].covers(value if value in locks.LEVELS else "all")
    assert config.of((("poolboot.lock-password", value),)).locks[0].covers("all")


def test_other_unknown_knobs_lock_nothing() -> None:
    assert config.read("poolboot.nonsense=1 poolboot.tiemout=3").locks == ()


def test_locks_come_on_top_of_locks() -> None:
    base = config.read("poolboot.lock=all")
    assert [lock.level for lock in config.more(base, "poolboot.lock=editor").locks] == ["all", "editor"]
    assert config.more(base, "poolboot.timeout=3").locks == base.locks


def test_the_desk_makes_the_knob(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("rosebud\n"))
    assert loader(["password", "--iterations", "5"]) == 0
    (lock,) = config.read(f"poolboot.lock=all {capsys.readouterr().out}").locks
    assert lock.hashes[0].matches("rosebud")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert loader(["password"]) == 1
    assert loader(["password", "--iterations", "0"]) == 2
