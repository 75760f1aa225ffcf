"""An edge of a cell and the operations it may hold."""

from __future__ import annotations

from dataclasses import dataclass

from dots_core.search_space.operations import in_order


@dataclass(frozen=True, order=True)
class Edge:
    """An edge from node ``source`` into node ``target``.

    Attributes
    ----------
    groups : tuple of groups of operation names
        Softmax runs within a group; the mixed operation sums over all groups.
    """

    source: int
    target: int
    groups: tuple[tuple[str, ...], ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """The edge's operations in canonical order."""
        return in_order(operation for group in self.groups for operation in group)

    @property
    def name(self) -> str:
        """Canonical name, for example ``"0-2"``."""
        return f"{self.source}-{self.target}"
