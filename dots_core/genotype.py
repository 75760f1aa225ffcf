"""Genotype: the cell a search found, as an immutable value with a strict text form."""

from __future__ import annotations

import ast
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dots_core.errors import CorruptFile, UsageError, nearest
from dots_core.operations import NONE, OPERATIONS
from dots_core.space import CELL_TYPES, CellSpec, Edge

FORMAT = "dots-genotype"
VERSION = 1
_SIZE_LIMIT = 1 << 20

Node = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Genotype:
    """The operations and edges of a normal and a reduction cell.

    Attributes
    ----------
    normal, reduce : tuple of nodes
        For each intermediate node, in order, its incoming edges as (operation, source node),
        sorted by source. Every node has at least one and names a source once.
    normal_concat, reduce_concat : tuple of int
        The nodes whose outputs form the cell's output.

    Raises
    ------
    UsageError
        If an operation is unknown or ``none``, a source does not come before its node, or a
        node has no edge.
    """

    normal: tuple[Node, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Node, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for kind in CELL_TYPES:
            nodes = tuple(
                tuple(sorted(((o, s) for o, s in node), key=lambda pair: (pair[1], pair[0])))
                for node in getattr(self, kind)
            )
            object.__setattr__(self, kind, nodes)
            object.__setattr__(self, f"{kind}_concat", tuple(getattr(self, f"{kind}_concat")))
            for number, node in enumerate(nodes, start=2):
                if not node:
                    raise UsageError(f"{kind} cell: node {number} has no incoming edge")
                for operation, _ in node:
                    if operation == NONE:
                        raise UsageError(f"{kind} cell: node {number} holds 'none', which a derived cell cannot")
                    if operation not in OPERATIONS:
                        hint = nearest(operation, OPERATIONS)
                        raise UsageError(f"{kind} cell: node {number}: unknown operation '{operation}'{hint}")
            if any(type(source) is not int for node in nodes for _, source in node):
                raise UsageError(f"{kind} cell: a source node is not an integer")
            self.cell(kind)  # checks sources, repeated edges and concat

    def cell(self, kind: str) -> CellSpec:
        """Return the derived cell of the given type, ``"normal"`` or ``"reduce"``."""
        nodes: tuple[Node, ...] = getattr(self, kind)
        edges = [Edge(s, j, ((o,),)) for j, node in enumerate(nodes, start=2) for o, s in node]
        return CellSpec(len(nodes), tuple(edges), getattr(self, f"{kind}_concat"), mixed=False)

    def to_json(self) -> str:
        """Return the strict JSON form, ending in a newline; equal genotypes give equal text."""
        return json.dumps(self.to_record(), indent=2) + "\n"

    def to_record(self) -> dict[str, Any]:
        """Return the genotype as plain lists and names, ready for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "normal": [[list(edge) for edge in node] for node in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [[list(edge) for edge in node] for node in self.reduce],
            "reduce_concat": list(self.reduce_concat),
        }

    @classmethod
    def from_record(cls, record: Any) -> Genotype:
        """Read what `to_record` wrote.

        Raises
        ------
        UsageError
            If a key is missing, unknown or of the wrong form.
        """
        keys = {"format", "version", "normal", "normal_concat", "reduce", "reduce_concat"}
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise UsageError(f'not a genotype: expected an object with "format": "{FORMAT}"')
        if type(record.get("version")) is not int or record["version"] != VERSION:
            raise UsageError(f"genotype version {record.get('version')!r} is not known; this release reads {VERSION}")
        if set(record) != keys:
            odd = sorted(set(record) ^ keys)
            raise UsageError(f"genotype has missing or unknown keys: {', '.join(map(str, odd))}")
        fields: dict[str, Any] = {}
        for kind in CELL_TYPES:
            fields[kind] = _nodes(record[kind], kind)
            fields[f"{kind}_concat"] = _concat(record[f"{kind}_concat"], kind)
        return cls(**fields)

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Read the strict JSON form."""
        try:
            record = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"not a genotype: the text is not JSON ({error})") from None
        return cls.from_record(record)

    @classmethod
    def from_darts_text(cls, text: str) -> Genotype:
        """Read the form DARTS prints, ``Genotype(normal=[('sep_conv_3x3', 1), …], …)``, without evaluating it.

        The flat lists hold two edges a node, as in the published genotypes.
        """
        try:
            statements = ast.parse(text.strip()).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            statements = []
        # Both `Genotype(…)` and `DARTS_V1 = Genotype(…)` are found in print.
        statement = statements[0] if len(statements) == 1 else None
        if not isinstance(statement, (ast.Expr, ast.Assign)):
            raise UsageError("not a genotype: the text is neither JSON nor of the form Genotype(normal=[…], …)")
        tree = statement.value
        if (
            not isinstance(tree, ast.Call)
            or not isinstance(tree.func, ast.Name)
            or tree.func.id != "Genotype"
            or tree.args
        ):
            raise UsageError("not a genotype: expected Genotype(normal=…, normal_concat=…, reduce=…, reduce_concat=…)")
        fields: dict[str, Any] = {}
        for keyword in tree.keywords:
            if keyword.arg is None or keyword.arg in fields:
                raise UsageError("not a genotype: an argument is repeated or unnamed")
            fields[keyword.arg] = _literal(keyword.value)
        expected = {"normal", "normal_concat", "reduce", "reduce_concat"}
        if set(fields) != expected:
            odd = sorted(set(fields) ^ expected)
            raise UsageError(f"genotype has missing or unknown arguments: {', '.join(odd)}")
        return cls.from_pairs(**fields)

    @classmethod
    def from_pairs(cls, normal: Any, normal_concat: Any, reduce: Any, reduce_concat: Any) -> Genotype:
        """Read flat lists of (operation, source) with two edges a node, the published form."""
        nodes = {}
        for kind, flat in (("normal", normal), ("reduce", reduce)):
            if not isinstance(flat, (list, tuple)) or len(flat) == 0 or len(flat) % 2:
                raise UsageError(f"{kind} cell: expected a flat list with two edges a node")
            nodes[kind] = _nodes([flat[i : i + 2] for i in range(0, len(flat), 2)], kind)
        return cls(nodes["normal"], _concat(normal_concat, "normal"), nodes["reduce"], _concat(reduce_concat, "reduce"))

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Read either form: strict JSON or the DARTS text."""
        return cls.from_json(text) if text.lstrip().startswith("{") else cls.from_darts_text(text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Genotype:
        """Read a genotype file in either form.

        Raises
        ------
        CorruptFile
            If the file is not text, too large, or not a genotype; the message names it.
        """
        path = Path(path)
        try:
            if path.stat().st_size > _SIZE_LIMIT:
                raise CorruptFile(f"{path} is larger than any genotype ({_SIZE_LIMIT} bytes); give a genotype.json")
            return cls.parse(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            raise CorruptFile(f"{path} is a binary file, not a genotype; give a genotype.json") from None
        except UsageError as error:
            raise CorruptFile(f"{path}: {error}") from None
        except OSError as error:
            raise UsageError(f"cannot read the genotype {path}: {error.strerror}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key is repeated")
    return record


def _nodes(value: Any, kind: str) -> tuple[Node, ...]:
    ok = isinstance(value, (list, tuple)) and all(
        isinstance(node, (list, tuple))
        and all(
            isinstance(e, (list, tuple)) and len(e) == 2 and isinstance(e[0], str) and type(e[1]) is int for e in node
        )
        for node in value
    )
    if not ok:
        raise UsageError(f"{kind} cell: expected, for each node, a list of [operation, source node]")
    return tuple(tuple((operation, source) for operation, source in node) for node in value)


def _concat(value: Any, kind: str) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or any(type(node) is not int for node in value):
        raise UsageError(f"{kind}_concat: expected a list of node numbers")
    return tuple(value)


def _literal(node: ast.expr) -> Any:
    """Read literals and ``range(a, b)``, the two things published genotypes hold."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [_literal(argument) for argument in node.args]
        if not node.keywords and 1 <= len(bounds) <= 2 and all(type(b) is int and 0 <= b < 100 for b in bounds):
            return list(range(*bounds))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):
        raise UsageError("not a genotype: only literals and range(a, b) may stand in it") from None
