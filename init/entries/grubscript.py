"""GRUB's script language: text to commands.  What the commands mean is in grub.py.

Source: grub-core/script/yylex.l and parser.y, GRUB 2.12.  A backslash in front of "x" and two hexadecimal digits stays,
as in the GRUB of Fedora and its kin: scripts that have one outside of quotes are written for those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_DEPTH = 48  # blocks in blocks
MAX_TOKENS = 200_000  # some 30 MB of memory

# Parts of a word: (kind, text).
LITERAL, VARIABLE, QUOTED_VARIABLE = "literal", "variable", "quoted"
Word = tuple[tuple[str, str], ...]


class ScriptError(Exception):
    """The text is no script that GRUB would accept; says where."""


class Command(NamedTuple):
    """A command with its arguments, and the block behind them if there is one (menuentry, submenu)."""

    words: tuple[Word, ...]
    block: tuple[Statement, ...] | None
    line: int


class If(NamedTuple):
    """Conditions with what follows from each, in order; the last condition may be empty (else)."""

    branches: tuple[tuple[tuple[Statement, ...], tuple[Statement, ...]], ...]
    line: int


class Loop(NamedTuple):
    """while (``until`` false), until, or for (``variable`` over ``words``)."""

    condition: tuple[Statement, ...]
    until: bool
    variable: str
    words: tuple[Word, ...]
    body: tuple[Statement, ...]
    line: int


class Function(NamedTuple):
    """A definition."""

    name: str
    body: tuple[Statement, ...]
    line: int


Statement = Command | If | Loop | Function

_TOKEN = re.compile(
    r"""(?P<blank>(?:[ \t\r]++|\\\n)++) | (?P<end>[\n;]) | (?P<brace>[{}]) | (?P<operator>[|&<>]+)
      | '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]++|(?:\\.)++)*+)"
      | \$(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*?\#])|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*?\#])\})
      | (?P<hex>\\x[0-9A-Fa-f]{2}) | \\(?P<escaped>.) | (?P<plain>[^{}|&$;<>\s'"\\]+) | (?P<dollar>\$)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"#[^\n]*")
_IN_QUOTES = re.compile(
    r"""\$(?:([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*?\#])|\{([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*?\#])\})
      | \\(["\\$\n]) | ([^$\\]+|.)""",
    re.VERBOSE | re.DOTALL,
)

_WORD, _END, _OPEN, _CLOSE = "word", "end", "{", "}"
_Token = tuple[str, Word, int]  # kind, the word, its line


class Allowed:
    """How many more tokens there may be, of all scripts that are parsed in one go."""

    def __init__(self, tokens: int = MAX_TOKENS) -> None:
        self.tokens = tokens

    def take(self, count: int) -> None:
        """Count some.  Raises ScriptError."""
        self.tokens -= count
        if self.tokens < 0:
            raise ScriptError(f"more than {MAX_TOKENS} tokens")


def parse(text: str, allowed: Allowed | None = None) -> tuple[Statement, ...]:
    """The statements of a script; raises ScriptError."""
    parser = _Parser(list(_tokens(text, allowed or Allowed())))
    statements = parser.statements(frozenset(), 0)
    if parser.kind != "":
        raise ScriptError(f"line {parser.line}: unexpected {parser.text or parser.kind}")
    return statements


def _tokens(text: str, allowed: Allowed) -> Iterator[_Token]:
    position, line = 0, 1
    word: list[tuple[str, str]] = []
    in_word = False
    while position < len(text):
        if not in_word and text[position] == "#":
            found = _COMMENT.match(text, position)
            assert found is not None
            position = found.end()
            continue
        found = _TOKEN.match(text, position)
        if found is None:
            raise ScriptError(f"line {line}: a quote that does not end")
        kind, here = found.lastgroup, line
        line += found[0].count("\n")
        position = found.end()
        if kind in ("blank", "end", "brace", "operator"):
            if in_word:
                yield (_WORD, tuple(word), here)
                word, in_word = [], False
            if kind == "operator":
                raise ScriptError(f"line {here}: {found[0]} is nothing that GRUB knows")
            if kind != "blank":
                yield (_END if kind == "end" else found[0], (), here)
        else:
            in_word = True
            _add_part(word, kind or "", found, allowed)
        allowed.take(1)
    if in_word:
        yield (_WORD, tuple(word), line)


def _add_part(word: list[tuple[str, str]], kind: str, found: re.Match[str], allowed: Allowed) -> None:
    if kind in ("name", "braced"):
        word.append((VARIABLE, found[kind]))
    elif kind == "double":
        word.append((LITERAL, ""))  # "" is a word
        for part in _IN_QUOTES.finditer(found["double"]):
            allowed.take(1)
            if part[1] or part[2]:
                word.append((QUOTED_VARIABLE, part[1] or part[2]))
            else:
                word.append((LITERAL, (part[3] or "").replace("\n", "") or part[4] or ""))
    elif kind == "escaped":
        word.append((LITERAL, found["escaped"]))
    else:
        word.append((LITERAL, found[kind] if kind != "dollar" else "$"))


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at = tokens, 0

    @property
    def kind(self) -> str:
        """The kind of the next token, "" behind the last."""
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    @property
    def line(self) -> int:
        """The line of the next token."""
        return self._tokens[min(self._at, len(self._tokens) - 1)][2] if self._tokens else 1

    @property
    def text(self) -> str:
        """The next token when it is a plain word without quotes, else ""."""
        if self.kind != _WORD:
            return ""
        word = self._tokens[self._at][1]
        return word[0][1] if len(word) == 1 and word[0][0] == LITERAL else ""

    def statements(self, enders: frozenset[str], depth: int) -> tuple[Statement, ...]:
        """Statements up to a word in ``enders``, a closing brace or the end, which stays."""
        if depth > MAX_DEPTH:
            raise ScriptError(f"line {self.line}: more than {MAX_DEPTH} blocks in each other")
        found: list[Statement] = []
        while True:
            while self.kind == _END:
                self._at += 1
            if self.kind in ("", _CLOSE) or self.text in enders:
                return tuple(found)
            found.append(self._statement(depth))

    def _statement(self, depth: int) -> Statement:
        line, text = self.line, self.text
        if text == "if":
            return self._if(depth)
        if text in ("while", "until"):
            self._at += 1
            condition = self.statements(frozenset(("do",)), depth + 1)
            return Loop(condition, text == "until", "", (), self._body(depth), line)
        if text == "for":
            self._at += 1
            variable = self._plain()
            self._expect("in")
            words = self._words()
            self._skip_ends()
            return Loop((), False, variable, words, self._body(depth), line)
        if text == "function":
            self._at += 1
            name = self._plain()
            self._skip_ends()
            return Function(name, self._block(depth), line)
        if self.kind == _OPEN:
            raise ScriptError(f"line {line}: unexpected {{")
        words = self._words()
        block = self._block(depth) if self.kind == _OPEN else None
        return Command(words, block, line)

    def _if(self, depth: int) -> If:
        line = self.line
        branches: list[tuple[tuple[Statement, ...], tuple[Statement, ...]]] = []
        while self.text in ("if", "elif"):
            self._at += 1
            condition = self.statements(frozenset(("then",)), depth + 1)
            self._expect("then")
            branches.append((condition, self.statements(frozenset(("elif", "else", "fi")), depth + 1)))
        if self.text == "else":
            self._at += 1
            branches.append(((), self.statements(frozenset(("fi",)), depth + 1)))
        self._expect("fi")
        return If(tuple(branches), line)

    def _body(self, depth: int) -> tuple[Statement, ...]:
        self._expect("do")
        body = self.statements(frozenset(("done",)), depth + 1)
        self._expect("done")
        return body

    def _block(self, depth: int) -> tuple[Statement, ...]:
        if self.kind != _OPEN:
            raise ScriptError(f"line {self.line}: a block in braces was expected")
        self._at += 1
        body = self.statements(frozenset(), depth + 1)
        if self.kind != _CLOSE:
            raise ScriptError(f"line {self.line}: a block that does not end")
        self._at += 1
        return body

    def _words(self) -> tuple[Word, ...]:
        start = self._at
        while self.kind == _WORD:
            self._at += 1
        return tuple(token[1] for token in self._tokens[start : self._at])

    def _plain(self) -> str:
        text = self.text
        if not text:
            raise ScriptError(f"line {self.line}: a name was expected")
        self._at += 1
        return text

    def _expect(self, word: str) -> None:
        self._skip_ends()
        if self.text != word:
            raise ScriptError(f"line {self.line}: {word} was expected")
        self._at += 1

    def _skip_ends(self) -> None:
        while self.kind == _END:
            self._at += 1
