"""poolboot.lock= and poolboot.lock-password=: what people may not do without a password, and how that is known.

init/people/gate.py holds people against them.  What cannot be understood locks everything: whoever wrote it wanted
something locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

EDITOR, MENU, ALL = LEVELS = ("editor", "menu", "all")
"""Each locks what the one before it does, and more."""
PASSWORD = "lock_password"
FORMAT = "grub.pbkdf2.sha512"
"""As grub-mkpasswd-pbkdf2 prints it: FORMAT.ITERATIONS.SALT.HASH, the last two in hexadecimal digits."""
MAX_ITERATIONS = 1_000_000  # a second on a usual machine; more could keep even the owner out for hours
MAX_SALT = 256  # bytes
MIN_HASH, MAX_HASH = 16, 256  # bytes; a shorter one is guessed sooner than the password
ITERATIONS, SALT, SIZE = 210_000, 32, 64  # of a hash that we make; the last two in bytes
BLOCK, OUTPUT = 128, 64  # bytes of SHA-512


class Hash(NamedTuple):
    """What is known of a password: PBKDF2 with HMAC-SHA-512 (RFC 8018), its output as long as ``digest``."""

    iterations: int
    salt: bytes
    digest: bytes

    def matches(self, password: str) -> bool:
        """Whether it is that of ``password``; takes as long either way."""
        from hmac import compare_digest

        found = pbkdf2(password.encode("utf-8", "surrogateescape"), self.salt, self.iterations, len(self.digest))
        return compare_digest(found, self.digest)

    def __str__(self) -> str:
        """As FORMAT has it."""
        return f"{FORMAT}.{self.iterations}.{self.salt.hex().upper()}.{self.digest.hex().upper()}"


class Lock(NamedTuple):
    """What one source (command line, poolboot.conf, EFI variable) locks; without ``hashes`` nobody can open it."""

    level: str
    hashes: tuple[Hash, ...] = ()
    problems: tuple[str, ...] = ()  # what could not be understood

    def covers(self, level: str) -> bool:
        """Whether what is locked from ``level`` on is locked."""
        return LEVELS.index(level) <= LEVELS.index(self.level)


def understand(knobs: Sequence[tuple[str, str | None]]) -> Lock:
    """The lock that the knobs of one source ask for; each is "lock", PASSWORD, or what may be one of them misspelt."""
    levels: list[str] = []
    hashes: list[Hash] = []
    problems: list[str] = []
    for key, value in knobs:
        if key == "lock" and value in LEVELS:
            levels.append(value)
        elif key == PASSWORD:
            try:
                hashes.append(parse_hash(value or ""))
            except ValueError as error:
                problems.append(f"poolboot.lock-password: {error}")
        elif key == "lock":
            problems.append(f"poolboot.lock={value or ''}: wants one of {', '.join(LEVELS)}")
        else:
            problems.append(f"poolboot.{key} may be a lock")
    if hashes and not levels and not problems:
        problems.append("poolboot.lock-password without poolboot.lock=")
    if problems:
        return Lock(LEVELS[-1], tuple(hashes), tuple(problems))
    return Lock(max(levels, key=LEVELS.index), tuple(hashes))


def told(locks: Sequence[Lock]) -> Iterator[str]:
    """What a person should know of ``locks`` before needing it."""
    for lock in locks:
        yield from (f"{problem}: not understood, so everything is locked" for problem in lock.problems)
        if not lock.hashes:
            yield f"poolboot.lock={lock.level} has no password: nobody can open it"


def parse_hash(text: str) -> Hash:
    """Understand a hash as FORMAT has it.  Raises ValueError; the message does not quote the hash."""
    if not text.startswith(f"{FORMAT}."):
        raise ValueError(f"wants {FORMAT}.ITERATIONS.SALT.HASH")
    parts = text.removeprefix(f"{FORMAT}.").split(".")
    if len(parts) != 3 or not (parts[0].isascii() and parts[0].isdecimal()):
        raise ValueError(f"wants {FORMAT}.ITERATIONS.SALT.HASH")
    iterations = int(parts[0][:9])
    if not 1 <= iterations <= MAX_ITERATIONS or len(parts[0]) > 9:
        raise ValueError(f"wants 1 to {MAX_ITERATIONS} iterations")
    salt, digest = _hexadecimal(parts[1], "salt"), _hexadecimal(parts[2], "hash")
    if not 1 <= len(salt) <= MAX_SALT:
        raise ValueError(f"wants a salt of 1 to {MAX_SALT} bytes")
    if not MIN_HASH <= len(digest) <= MAX_HASH:
        raise ValueError(f"wants a hash of {MIN_HASH} to {MAX_HASH} bytes")
    return Hash(iterations, salt, digest)


def _hexadecimal(text: str, what: str) -> bytes:
    if not text.isascii() or not text.isalnum():  # bytes.fromhex() would pass over blanks
        raise ValueError(f"the {what} is not hexadecimal")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"the {what} is not hexadecimal") from None


def make_hash(password: str, iterations: int = ITERATIONS) -> Hash:
    """What to know of a new password."""
    import os

    salt = os.urandom(SALT)
    return Hash(iterations, salt, pbkdf2(password.encode("utf-8", "surrogateescape"), salt, iterations, SIZE))


def pbkdf2(password: bytes, salt: bytes, iterations: int, size: int) -> bytes:
    """``size`` bytes of PBKDF2 with HMAC-SHA-512 (RFC 8018, section 5.2; RFC 2104).

    hashlib.pbkdf2_hmac() is OpenSSL's, which the static program has not.  The states of both hashes behind the key are
    copied rather than computed anew: 100,000 iterations take 0.1 s on a usual machine.
    """
    from hashlib import sha512

    key = (sha512(password).digest() if len(password) > BLOCK else password).ljust(BLOCK, b"\0")
    inner, outer = (sha512(bytes(byte ^ pad for byte in key)).copy for pad in (0x36, 0x5C))

    def hmac(data: bytes) -> bytes:
        one = inner()
        one.update(data)
        other = outer()
        other.update(one.digest())
        return other.digest()

    found = b""
    for block in range(1, -(-size // OUTPUT) + 1):
        last = hmac(salt + block.to_bytes(4, "big"))
        mixed = int.from_bytes(last, "big")
        for _ in range(iterations - 1):
            last = hmac(last)
            mixed ^= int.from_bytes(last, "big")
        found += mixed.to_bytes(OUTPUT, "big")
    return found[:size]
