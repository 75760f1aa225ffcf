"""Values of Python expressions that hold nothing but literals; names are never looked up, functions never called."""

from __future__ import annotations

import ast
from typing import Any

from dots_core.bounds import NODES
from dots_core.errors import quoted

DEPTH = 12
"""Nesting of values at most: a genotype's own is five."""

_COUNT = 1000
"""Numbers in a range at most."""

_CONTAINERS = ("list", "tuple", "set", "frozenset", "sorted", "array", "tensor", "OrderedDict", "dict")
_TEXTS = ("str", "str_")
_NUMBERS = ("int", "int8", "int16", "int32", "int64", "uint8", "float", "float16", "float32", "float64")


class NotLiteral(Exception):
    """An expression that says more than literals can; the message says what and where."""


def value_of(node: ast.expr, depth: int = 0) -> Any:
    """Return the value of literals, ``range(a, b)``, and numbers and lists as NumPy and PyTorch print them.

    Raises
    ------
    NotLiteral
        If the expression holds anything else, or is nested too deeply.
    """
    if depth > DEPTH:
        raise NotLiteral(f"values are nested more than {DEPTH} deep")
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [value_of(item, depth + 1) for item in node.elts]
    if isinstance(node, ast.Set):
        return _sorted([value_of(item, depth + 1) for item in node.elts], node)
    if isinstance(node, ast.Dict):
        return _dictionary(node, depth)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = value_of(node.operand, depth + 1)
        if type(number) in (int, float):
            return -number
    if isinstance(node, ast.Call):
        return _call(node, depth)
    raise _refused(node)


def called(node: ast.expr) -> str | None:
    """Return the name of the function that an expression calls, without its modules."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else None


def _call(node: ast.Call, depth: int) -> Any:
    name = called(node)
    # `array([2, 3], dtype=int64)`, `tensor(0.13, device='cuda:0')`: what else they say is no part of the value.
    if name in (*_CONTAINERS, *_NUMBERS, *_TEXTS) and len(node.args) == 1:
        value = value_of(node.args[0], depth + 1)
        if (name in _NUMBERS and type(value) not in (int, float)) or (name in _TEXTS and not isinstance(value, str)):
            raise _refused(node)
        return _sorted(value, node) if name in ("set", "frozenset", "sorted") else value
    if name == "range" and not node.keywords and 1 <= len(node.args) <= 3:
        bounds = [value_of(argument, depth + 1) for argument in node.args]
        if all(type(bound) is int for bound in bounds) and bounds[2:] != [0]:
            if any(abs(bound) > _COUNT for bound in bounds):
                raise NotLiteral(
                    f"{quoted(text_of(node))} (line {node.lineno}) goes beyond {_COUNT}, and a cell has at most "
                    f"{NODES} nodes; give a cell of no more"
                )
            return list(range(*bounds))
    raise _refused(node)


def _sorted(value: Any, node: ast.expr) -> list[Any]:
    """Return a set's members in order; the sets of a genotype are of node numbers."""
    if not isinstance(value, list) or any(type(member) is not int for member in value):
        raise _refused(node)
    return sorted(set(value))


def _dictionary(node: ast.Dict, depth: int) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            raise _refused(node)
        if key.value in record:
            raise NotLiteral(f"the key '{quoted(key.value)}' is repeated")
        record[key.value] = value_of(value, depth + 1)
    return record


def text_of(node: ast.expr) -> str:
    """Return an expression's text, in one way of writing it."""
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):  # deeply nested, or with a number of thousands of digits
        return f"<{type(node).__name__} in line {node.lineno}, column {node.col_offset}>"


def _refused(node: ast.expr) -> NotLiteral:
    return NotLiteral(
        f"only literals and range(a, b) may stand in it, not {quoted(text_of(node))} (line {node.lineno}); "
        "write out the value it has"
    )
