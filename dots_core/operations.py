"""The candidate operations of the DARTS space and how the papers group them."""

from __future__ import annotations

from dots_core.errors import UsageError, nearest

NONE = "none"
SKIP = "skip_connect"
POOLS = ("max_pool_3x3", "avg_pool_3x3")
SEPARABLE = ("sep_conv_3x3", "sep_conv_5x5")
DILATED = ("dil_conv_3x3", "dil_conv_5x5")

OPERATIONS = (NONE, *POOLS, SKIP, *SEPARABLE, *DILATED)
"""Every operation, in the order in which α's columns stand (Liu et al., DARTS, ICLR 2019)."""

CONVOLUTIONS = SEPARABLE + DILATED

KERNEL = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}

GROUPINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    # One softmax over every operation (DARTS; DOTS eq. 2).
    "single": (OPERATIONS,),
    # Operations without and with weights (DOTS supplement §2, Group-V2).
    "group-v2": ((NONE, *POOLS, SKIP), CONVOLUTIONS),
    # Similar operations together, without `none` (DOTS supplement §2, Group-V1).
    "group-v1": ((SKIP,), POOLS, SEPARABLE, DILATED),
}


def check_operations(names: tuple[str, ...]) -> None:
    """Raise `UsageError` unless the names are known operations, each named once."""
    for name in names:
        if name not in OPERATIONS:
            raise UsageError(f"unknown operation '{name}'{nearest(name, OPERATIONS)}; known: {', '.join(OPERATIONS)}")
    if len(set(names)) != len(names):
        raise UsageError(f"an operation is named twice in {', '.join(names)}")


def grouping(
    groups: str | tuple[tuple[str, ...], ...], operations: tuple[str, ...] = OPERATIONS
) -> tuple[tuple[str, ...], ...]:
    """Return a grouping restricted to the given operations, empty groups left out.

    Parameters
    ----------
    groups : str or tuple of groups
        A name in `GROUPINGS`, or the groups themselves. An operation in none of them is left out
        (Group-V1 has no place for ``none``).

    Raises
    ------
    UsageError
        If the name or an operation is unknown, or groups overlap.
    """
    check_operations(operations)
    if isinstance(groups, str):
        if groups not in GROUPINGS:
            hint = nearest(groups, list(GROUPINGS))
            raise UsageError(f"unknown grouping '{groups}'{hint}; known: {', '.join(GROUPINGS)}")
        groups = GROUPINGS[groups]
    check_operations(tuple(operation for group in groups for operation in group))
    restricted = (tuple(o for o in group if o in operations) for group in groups)
    return tuple(group for group in restricted if group)
