"""GRUB's ``test`` and ``[``.  Source: grub-core/commands/test.c, GRUB 2.12."""

from __future__ import annotations

import re
from collections.abc import Callable

from init.entries import version

_FILE_TESTS = ("-d", "-e", "-f", "-s")
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": int.__eq__, "-ne": int.__ne__, "-lt": int.__lt__, "-le": int.__le__, "-gt": int.__gt__, "-ge": int.__ge__,
}  # fmt: skip
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "=": str.__eq__, "==": str.__eq__, "!=": str.__ne__,
    "<": str.__lt__, "<=": str.__le__, ">": str.__gt__, ">=": str.__ge__,
    "-pgt": lambda left, right: version.key(left.lstrip("-")) > version.key(right.lstrip("-")),
    "-plt": lambda left, right: version.key(left.lstrip("-")) < version.key(right.lstrip("-")),
}  # fmt: skip
MAX_DEPTH = 16
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9A-Fa-f]+)|(0[0-7]*)|([1-9][0-9]*))")


class BadTest(Exception):
    """A test that GRUB would not understand, or that cannot be answered here."""


def evaluate(words: list[str], file_test: Callable[[str, str], bool]) -> bool:
    """Whether the expression ``words`` (without the brackets) holds; raises BadTest.

    ``file_test(operator, path)`` answers -d, -e, -f and -s, or raises BadTest.
    """
    if not words:
        return True  # as it is when an unquoted variable is empty
    result, at = _either(words, 0, file_test, 0)
    if at != len(words):
        raise BadTest(f"a test that is not understood: {' '.join(words)[:80]}")
    return result


def _either(words: list[str], at: int, file_test: Callable[[str, str], bool], depth: int) -> tuple[bool, int]:
    result, at = _both(words, at, file_test, depth)
    while at < len(words) and words[at] == "-o":
        other, at = _both(words, at + 1, file_test, depth)
        result = result or other
    return result, at


def _both(words: list[str], at: int, file_test: Callable[[str, str], bool], depth: int) -> tuple[bool, int]:
    result, at = _single(words, at, file_test, depth)
    while at < len(words) and words[at] not in ("-o", ")"):
        # Terms without anything between them count as joined by -a.
        other, at = _single(words, at + (words[at] == "-a"), file_test, depth)
        result = result and other
    return result, at


def _single(words: list[str], at: int, file_test: Callable[[str, str], bool], depth: int) -> tuple[bool, int]:
    if depth > MAX_DEPTH:
        raise BadTest("a test with too many parentheses")
    if at >= len(words):
        return False, at  # the empty expression
    word = words[at]
    if at + 2 < len(words) and (words[at + 1] in _TEXTS or words[at + 1] in _NUMBERS):
        left, operator, right = words[at : at + 3]
        if operator in _TEXTS:
            return _TEXTS[operator](left, right), at + 3
        return _NUMBERS[operator](number(left), number(right)), at + 3
    if word == "!":
        result, at = _single(words, at + 1, file_test, depth + 1)
        return not result, at
    if word == "(":
        result, at = _either(words, at + 1, file_test, depth + 1)
        if at >= len(words) or words[at] != ")":
            raise BadTest("a test with an open parenthesis")
        return result, at + 1
    if at + 1 < len(words) and word in ("-n", "-z"):
        return (words[at + 1] == "") == (word == "-z"), at + 2
    if at + 1 < len(words) and word in _FILE_TESTS:
        return file_test(word, words[at + 1]), at + 2
    if word.startswith("-") and len(word) > 1 and at + 1 < len(words):
        raise BadTest(f"the test {word} is not understood")
    return word != "", at + 1


def number(text: str) -> int:
    """As grub_strtol with base 0 (grub-core/kern/misc.c): hexadecimal behind "0x", octal behind "0", up to the first
    character that is no digit; 0 when there are none."""
    found = _NUMBER.match(text[:64])
    if found is None:
        return 0
    value = int(found[2], 16) if found[2] else int(found[3], 8) if found[3] else int(found[4] or "0")
    return -value if found[1] == "-" else value
