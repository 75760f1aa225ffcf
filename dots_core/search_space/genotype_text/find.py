"""Finding the genotypes in a text: a literal, a line of a log, a ``genotypes.py``. Nothing is evaluated."""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from dots_core.errors import quoted
from dots_core.search_space.genotype_text import nni
from dots_core.search_space.genotype_text.edges import FIELDS
from dots_core.search_space.genotype_text.values import DEPTH, NotLiteral, called, text_of, value_of

EXPECTED = (
    "expected a genotype.json of dots, Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=…, "
    "reduce=[…], reduce_concat=…), or an architecture that NNI exported"
)

_MODULE_LIMIT = 1 << 18
"""Characters that are parsed as Python at most, which takes some hundred bytes and microseconds each."""

_NAME = "Genotype"
_BEGIN = re.compile(r"(?<!\w)Genotype\s*\(|\{\s*['\"]normal['\"]\s*:")
_BEFORE = re.compile(r"(?<!\w)(\w+)['\"]?\s*[=:]\s*['\"]?[\w.]*$")
_TOKEN = re.compile(r"'(?:[^'\\\n]|\\.){0,100}'|\"(?:[^\"\\\n]|\\.){0,100}\"|#[^\n]*|[()\[\]{}]")
_ESCAPED = re.compile(r"\\(['\"])")
_STEPS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_HUGE = re.compile(r"(?<!\w)\d{300,}")  # Python's parser takes at most some thousand digits
# What, after a genotype's last bracket, would make another value of it.
_OPERATOR = re.compile(r"[ \t]*(?:\.[ \t]*\w|[\[(+\-*/%&|^@>=!]|<(?!/|[a-z]+>)|(?:or|and|if|for|is|not|in)\b)")
# What colours a log in a terminal, and how a page in HTML writes quotation marks.
_COLOURS = re.compile(r"\x1b\[[\d;]{0,20}[mK]")
_ENTITIES = re.compile(r"&(?:#0?39|#x27|apos|(#34|#x22|quot));", re.IGNORECASE)
_TYPOGRAPHIC = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " "})


@dataclass(frozen=True)
class Found:
    """A genotype in a text.

    Attributes
    ----------
    name : str or None
        What it is assigned to.
    line : int
        The line on which it begins, from 1.
    literal : expression or str
        It, or its text.
    problem : str
        Why it cannot be read; empty if nothing is known against it.
    order : tuple of str
        The names of positional arguments.
    """

    name: str | None
    line: int
    literal: ast.expr | str
    problem: str = ""
    order: tuple[str, ...] = FIELDS

    @property
    def key(self) -> str:
        """Equal where two are the same."""
        return "".join(self.literal.split()) if isinstance(self.literal, str) else text_of(self.literal)

    @property
    def place(self) -> str:
        """Where it stands, for a message."""
        name = "" if self.name is None else f"'{quoted(self.name)}' "
        return f"{name}(line {self.line}): " if name or self.line > 1 else ""

    def fields(self) -> dict[str, Any]:
        """Return its fields by name; of those that no genotype of ours has, the value is None.

        Raises
        ------
        NotLiteral
            If it is no literal.
        """
        if self.problem:
            raise NotLiteral(self.problem)
        node = _expression(self.literal) if isinstance(self.literal, str) else self.literal
        if not isinstance(node, ast.Call):
            value = value_of(node)
            return dict(zip(FIELDS, value, strict=True)) if isinstance(value, list) else dict(value)
        if len(node.args) > len(self.order):
            raise NotLiteral(
                f"{len(node.args)} arguments without a name, where {quoted(', '.join(self.order))} are known; name them"
            )
        given: list[tuple[str | None, ast.expr]] = list(zip(self.order, node.args, strict=False))
        given += [(keyword.arg, keyword.value) for keyword in node.keywords]
        record: dict[str, Any] = {}
        for name, expression in given:
            if name is None or name in record:
                raise NotLiteral(f"an argument is repeated or unnamed: {quoted(name or '**')}; give each once, by name")
            record[name] = value_of(expression) if name in FIELDS else None
        return record


def find(text: str) -> list[Found]:
    """Return the genotypes in a text in their order, none twice.

    Python is read as such, so that comments and strings do not count; any other text is searched
    for ``Genotype(…)`` and for dictionaries.
    """
    text = _COLOURS.sub("", text.translate(_TYPOGRAPHIC))
    text = _ENTITIES.sub(lambda found: '"' if found[1] else "'", text)
    if _NAME not in text and "normal" not in text and text.lstrip()[:1] not in ("(", "["):
        return []
    module = _parsed(text.strip()) if len(text) <= _MODULE_LIMIT else None
    before = text[: len(text) - len(text.lstrip())].count("\n")
    found = [] if module is None else list(_in_module(module, 1 + before))
    return found or list(_in_lines(text))


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the text's style
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _in_module(module: ast.Module, first_line: int) -> Iterator[Found]:
    """Find what a module's own statements assign or show."""
    order = _order(module)
    values: dict[str, ast.expr] = {}
    for statement in module.body:
        names, value = _assigned(statement)
        if isinstance(value, ast.Name):  # DARTS = DARTS_V2
            value = values.get(value.id, value)
        if value is None:
            continue
        values.update(dict.fromkeys(names, value))
        line = statement.lineno + first_line - 1
        for key, member in _members(value):
            if _is_genotype(member) or (not names and _is_bare(member)):
                for name in [key] if key is not None else names or [None]:
                    at = line if key is None else member.lineno + first_line - 1
                    yield Found(name, at, _text(member) or member, order=order)
            elif key is None and _mentions(member):
                problem = f"it is computed, {quoted(text_of(member))}; write out the Genotype(…) it gives"
                for name in names:
                    yield Found(name, line, member, problem)


def _assigned(statement: ast.stmt) -> tuple[list[Any], ast.expr | None]:
    """Return the names and the value of an assignment, or no name and the value of an expression."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign):
        # A log's `genotype: Genotype(…)` is, read as Python, an annotation.
        targets, value = [statement.target], statement.value or statement.annotation
    elif isinstance(statement, ast.Expr):
        return [], statement.value
    else:
        return [], None
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names, value if len(names) == len(targets) else None


def _members(value: ast.expr) -> Iterator[tuple[str | None, ast.expr]]:
    """Return the value itself, or the members of a dictionary of genotypes by their keys."""
    if isinstance(value, ast.Dict) and not _is_genotype(value) and any(_is_genotype(m) for m in value.values):
        for key, member in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, member
    else:
        yield None, value


def is_record(value: Any) -> bool:
    """Whether a dictionary with such keys can be a genotype's."""
    if not isinstance(value, (dict, list)):
        return False
    keys = [key for key in value if isinstance(key, str)]
    return set(FIELDS) <= set(keys) or "format" in keys or nni.exported(keys)


def _is_genotype(value: ast.expr) -> bool:
    if isinstance(value, ast.Dict):
        return is_record([key.value for key in value.keys if isinstance(key, ast.Constant)])
    return called(value) == _NAME or _text(value) is not None


def _text(value: ast.expr) -> str | None:
    """Return the text of a genotype that is written as a string."""
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        return None
    text = value.value.strip()
    return text if text.startswith(f"{_NAME}(") else None


def _is_bare(value: ast.expr) -> bool:
    """Whether it can be the named tuple without its name."""
    if not isinstance(value, (ast.List, ast.Tuple)) or len(value.elts) != len(FIELDS):
        return False
    return isinstance(value.elts[0], (ast.List, ast.Tuple))


def _mentions(value: ast.expr) -> bool:
    """Whether a genotype is made, and something is done with it."""
    return not isinstance(value, (ast.Dict, ast.List, ast.Tuple, ast.Lambda)) and any(
        called(node) == _NAME for node in ast.walk(value) if isinstance(node, ast.Call)
    )


def _order(module: ast.Module) -> tuple[str, ...]:
    """Return the order of a genotype's fields, from the module's definition of its named tuple."""
    for statement in module.body:
        if isinstance(statement, ast.ClassDef) and statement.name == _NAME:
            fields = [
                s.target.id for s in statement.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
            ]
            if fields:
                return tuple(fields)
        names, value = _assigned(statement)
        if names == [_NAME] and isinstance(value, ast.Call) and called(value) == "namedtuple" and len(value.args) >= 2:
            try:
                described = value_of(value.args[1])
            except NotLiteral:
                continue
            if isinstance(described, str):
                described = described.replace(",", " ").split()
            if isinstance(described, list) and all(isinstance(name, str) for name in described):
                return tuple(described)
    return FIELDS


def _in_lines(text: str) -> Iterator[Found]:
    """Find every ``Genotype(…)`` and ``{'normal': …}`` in a text that is no Python, such as a log."""
    begins = list(_BEGIN.finditer(text))
    starts = [0, *(at + 1 for at, character in enumerate(text) if character == "\n")]
    for number, begin in enumerate(begins):
        line = bisect_right(starts, begin.start())
        limit = begins[number + 1].start() if number + 1 < len(begins) else len(text)
        before = _BEFORE.search(text[max(starts[line - 1], begin.start() - 200) : begin.start()])
        name = before[1] if before else None
        end = _closing(text, begin.start(), limit)
        if end is None:
            shown = quoted(text[begin.start() : begin.start() + 60])
            problem = f"{shown} … is not closed; give all of it, up to its last bracket"
            yield Found(name, line, text[begin.start() : limit], problem)
            continue
        literal, problem = text[begin.start() : end], ""
        if _OPERATOR.match(text, end):
            after = quoted(text[end : end + 40].strip())
            problem = f"something follows the genotype, {after}; give the Genotype(…) alone"
        yield Found(name, line, literal, problem)


def _closing(text: str, at: int, limit: int) -> int | None:
    """Return where the first bracket after a place closes, or None."""
    depth = 0
    for token in _TOKEN.finditer(text, at, limit):
        step = _STEPS.get(token[0], 0)
        depth += step
        if step and not depth:
            return token.end()
    return None


def _deepest(text: str) -> int:
    return max(accumulate(_STEPS.get(token[0], 0) for token in _TOKEN.finditer(text)), default=0)


def _expression(literal: str) -> ast.expr:
    module = _parsed(literal) if len(literal) <= _MODULE_LIMIT else None
    if module is None and _ESCAPED.search(literal):  # a string within a string
        return _expression(_ESCAPED.sub(r"\1", literal))
    if number := _HUGE.search(literal):
        raise NotLiteral(f"it holds a number of {len(number[0])} digits; sources are node numbers")
    if module is None and (depth := _deepest(literal)) > DEPTH:
        raise NotLiteral(f"its values are nested {depth} deep, where a genotype's are at most five")
    if module is None or not isinstance(module.body[0], ast.Expr):
        raise NotLiteral(f"{quoted(literal)} is not Python; give it as it was printed, Genotype(normal=[…], …)")
    return module.body[0].value
