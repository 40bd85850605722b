"""The text form of compositions: `stack(lang/de, average(a, b, weights=[0.7, 0.3]))`, block names in any case."""

from __future__ import annotations

import re
from typing import NoReturn

from hubcli.composition import BLOCKS, MAX_DEPTH, NONE, Block, Expr, Sized
from hubcli.errors import ExpressionError

_TOKEN = re.compile(r"""\s*(?:(?P<word>[^\s,()\[\]="'\\]+)|(?P<quote>["'])|(?P<mark>[,()\[\]=])|(?P<end>\Z))""")
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{0,30})?([eE][+-]?\d{1,3})?|[+-]?\.\d{1,30}")


def read(source: str) -> Expr:
    """The composition that `source` spells; errors as `hubcli.composition.parse`."""
    return _Parser(source).whole()


class _Parser:
    """Recursive descent over tokens (kind, text, position); kinds word, text, mark, end."""

    def __init__(self, source: str):
        self.source, self.at, self.depth = source, 0, 0
        self.token = self._read()

    def whole(self) -> Expr:
        expr = self.expression()
        if self.token[0] != "end":
            self.fail("the end")
        return expr

    def fail(self, expected: str) -> NoReturn:
        kind, found, position = self.token
        shown = "the end" if kind == "end" else repr(found)
        raise ExpressionError(
            f"position {position + 1}: expected {expected}, found {shown}",
            hint="for example stack(lang/de, average(a, b, weights=[0.7, 0.3])); quote a ref with spaces or commas",
        )

    def _read(self) -> tuple[str, str, int]:
        match = _TOKEN.match(self.source, self.at)
        if match is None:
            raise ExpressionError(f"position {self.at + 1}: unexpected {self.source[self.at :].lstrip()[:1]!r}")
        kind = str(match.lastgroup)
        start, self.at = match.start(kind), match.end()
        return self._string(match[kind], start) if kind == "quote" else (kind, match[kind], start)

    def _string(self, quote: str, start: int) -> tuple[str, str, int]:
        out: list[str] = []
        while self.at < len(self.source):
            char = self.source[self.at]
            self.at += 1
            if char == quote:
                return "text", "".join(out), start
            if char == "\\" and self.at < len(self.source):
                char = self.source[self.at]
                self.at += 1
            out.append(char)
        raise ExpressionError(f"position {start + 1}: the quote that opens here is never closed")

    def take(self, mark: str) -> bool:
        """Go past a mark if it is next."""
        if self.token[:2] != ("mark", mark):
            return False
        self.token = self._read()
        return True

    def expression(self) -> Expr:
        kind, word, position = self.token
        if kind not in ("word", "text"):
            self.fail("a block or a ref")
        self.token = self._read()
        if kind == "word" and self.take("("):
            return self.block(word, position)
        if not word.strip():
            raise ExpressionError(f"position {position + 1}: an empty name is no adapter")
        return None if kind == "word" and word.lower() in NONE else word

    def block(self, name: str, position: int) -> Block:
        made = BLOCKS.get(name.lower())
        if made is None:
            raise ExpressionError(
                f"position {position + 1}: no block is called '{name}'", hint=f"the blocks are {', '.join(BLOCKS)}"
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"position {position + 1}: nested more than {MAX_DEPTH} deep")
        children: list[Expr] = []
        options: dict[str, object] = {}
        while not self.take(")"):
            self.item(made, children, options)
            if not self.take(",") and self.token[:2] != ("mark", ")"):
                self.fail("',' or ')'")
        self.depth -= 1
        return self.build(made, position, children, options)

    def item(self, made: type[Block], children: list[Expr], options: dict[str, object]) -> None:
        before = self.token
        child = self.expression()
        if not self.take("="):
            if options:
                raise ExpressionError(f"position {before[2] + 1}: a child comes before the options")
            children.append(child)
            return
        if before[0] != "word" or before[1] not in made.options or before[1] in options:
            allowed = ", ".join(made.options) or "no options"
            raise ExpressionError(f"position {before[2] + 1}: {made.__name__} takes {allowed}, found '{before[1]}='")
        options[before[1]] = self.numbers() if self.take("[") else self.expression()

    def numbers(self) -> list[float]:
        values: list[float] = []
        while not self.take("]"):
            kind, word, _ = self.token
            if kind != "word" or not _NUMBER.fullmatch(word):
                self.fail("a number")
            values.append(int(word) if word.lstrip("+-").isdecimal() else float(word))
            self.token = self._read()
            if not self.take(",") and self.token[:2] != ("mark", "]"):
                self.fail("',' or ']'")
        return values

    def build(self, made: type[Block], position: int, children: list[Expr], options: dict[str, object]) -> Block:
        for name, value in options.items():
            if isinstance(value, list) is (name == "by"):
                raise ExpressionError(f"position {position + 1}: {made.__name__}: {name}= can't be {value!r}")
        if issubclass(made, Sized) and "sizes" not in options:
            raise ExpressionError(f"position {position + 1}: {made.__name__} needs sizes=[…]")
        try:
            return made(*children, **options)
        except ExpressionError as error:
            raise ExpressionError(f"position {position + 1}: {error.message}", hint=error.hint) from None
