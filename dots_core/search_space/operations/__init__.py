"""The candidate operations of an edge: what there is, and in which order.

How the papers group them, and which they take, says `dots_core.search_space.operations.groupings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dots_core.errors import UsageError, nearest, quoted
from dots_core.search_space.operations.darts import DilatedConvolution, Nothing, Pooling, SeparableConvolution, Skip
from dots_core.search_space.operations.legality import check_operation
from dots_core.search_space.operations.operation import Operation
from dots_core.search_space.registry import Registry

__all__ = ["DARTS", "NONE", "OPERATIONS", "SKIP", "UNSUPPORTED", "Operation", "check_operations", "in_order"]


class _Operations(Registry[Operation]):
    """Operations, of which every engine can run each; no two are called alike in any library."""

    def __init__(self, group: str) -> None:
        super().__init__("operation", group, Operation, self._check_legal)

    def _check_legal(self, operation: Operation) -> None:
        if operation not in self._members.values():
            check_operation(operation, self._taken())

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order in which α's columns stand (`in_order`)."""
        return in_order(super().names)

    def __iter__(self) -> Iterator[Operation]:
        return iter([self[name] for name in self.names])

    @property
    def spellings(self) -> dict[str, str]:
        """The operations' names in other libraries, each with the name here."""
        return {spelling: member.name for member in self for spelling in member.spellings}

    def _taken(self) -> dict[str, str]:
        return {name: each.name for each in self._members.values() for name in (each.name, *each.spellings)}


OPERATIONS = _Operations("dots.operations")
"""All operations; a package adds its own by an entry point of the group ``dots.operations``."""

for _operation in (
    Nothing(),
    Pooling("max"),
    Pooling("avg"),
    Skip(),
    SeparableConvolution(3),
    SeparableConvolution(5),
    DilatedConvolution(3),
    DilatedConvolution(5),
):
    OPERATIONS.register(_operation)

NONE, SKIP = Nothing.name, Skip.name

DARTS = (
    *(NONE, "max_pool_3x3", "avg_pool_3x3", SKIP),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
"""The operations of the DARTS space (Liu et al., ICLR 2019), in their order."""

UNSUPPORTED = (
    *("sep_conv_7x7", "dil_conv_7x7", "conv_7x1_1x7", "conv_3x1_1x3", "conv_1x1", "conv_3x3"),
    *("nor_conv_1x1", "nor_conv_3x3", "nor_conv_7x7"),
    *("avg_pool_5x5", "max_pool_5x5", "avg_pool_7x7", "max_pool_7x7"),
)
"""Operations of wider spaces, such as NASNet's, that no operation of DARTS stands for; misspelt ones are not among
them."""


def check_operations(names: tuple[str, ...]) -> None:
    """Raise `UsageError` unless the names are known operations, each named once."""
    for name in names:
        if name not in OPERATIONS:
            known = OPERATIONS.names
            raise UsageError(
                f"unknown operation '{quoted(name)}'{nearest(name, known)}; known: {', '.join(known)}; one of another "
                "package is known where that package is installed"
            )
    if len(set(names)) != len(names):
        raise UsageError(f"an operation is named twice in {', '.join(names)}")


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return operations, each once: those of `DARTS` in their order, then others by name.

    So the order does not depend on which others are installed, and a column of α means the same for ever.
    """
    return tuple(sorted(set(names), key=lambda name: (DARTS.index(name) if name in DARTS else len(DARTS), name)))
