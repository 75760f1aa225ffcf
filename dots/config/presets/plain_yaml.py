"""YAML as settings are written in it: plain values, nothing that stands for more than what is written."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError

from dots_core.errors import quoted


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values.

    Raises
    ------
    ValueError
        If it is not such YAML. Aliases are not: a few hundred characters of them can stand for
        gigabytes. Nor is a key that is given twice, of which one value would be dropped.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(quoted(f"{problem or str(error).partition(chr(10))[0]}{place}")) from None


_DEPTH = 32
"""How deep values may be nested: settings are four deep."""


class _PlainLoader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ComposerError(None, None, "aliases such as *name are not read, write the value out", event.start_mark)
        if self.depth > _DEPTH:
            raise ComposerError(None, None, "it is nested too deeply", self.peek_event().start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise ComposerError(None, None, "a key is given twice", node.start_mark)
        return mapping
