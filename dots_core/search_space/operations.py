"""The candidate operations of the DARTS space and how the papers group them."""

from __future__ import annotations

from collections.abc import Mapping

from dots_core.errors import UsageError, nearest, quoted

NONE = "none"
SKIP = "skip_connect"
POOLS = ("max_pool_3x3", "avg_pool_3x3")
SEPARABLE = ("sep_conv_3x3", "sep_conv_5x5")
DILATED = ("dil_conv_3x3", "dil_conv_5x5")

OPERATIONS = (NONE, *POOLS, SKIP, *SEPARABLE, *DILATED)
"""Every operation, in the order in which α's columns stand (Liu et al., DARTS, ICLR 2019)."""

UNSUPPORTED = (
    *("sep_conv_7x7", "dil_conv_7x7", "conv_7x1_1x7", "conv_3x1_1x3", "conv_1x1", "conv_3x3"),
    *("nor_conv_1x1", "nor_conv_3x3", "nor_conv_7x7"),
    *("avg_pool_5x5", "max_pool_5x5", "avg_pool_7x7", "max_pool_7x7"),
)
"""Operations of wider spaces, such as NASNet's, that no operation here stands for; misspelt ones are not among them."""

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

_POOL = {"max": "max_pool_3x3", "avg": "avg_pool_3x3"}
_LEARNABLE = {
    "ss1": ("sep_conv_3x3", "dil_conv_3x3"),
    "ss2": ("sep_conv_5x5", "dil_conv_5x5"),
    "ss3": ("sep_conv_3x3", "sep_conv_5x5"),
    "ss4": ("dil_conv_3x3", "dil_conv_5x5"),
    "ss5": ("sep_conv_3x3", "dil_conv_5x5"),
    "ss6": ("sep_conv_5x5", "dil_conv_3x3"),
    "ss7": ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3"),
    "ss8": ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_5x5"),
}

OPERATION_SETS: dict[str, tuple[str, ...]] = {
    "darts": OPERATIONS,
    # Where the topology is explicit, no edge needs to be switched off (TopoNAS §3.1).
    "without-none": tuple(o for o in OPERATIONS if o != NONE),
    # eDARTS §III-A and table I: some convolutions, a skip, none, and one pool, the largest or the average.
    **{
        f"{name}-{pool}": tuple(o for o in OPERATIONS if o in (NONE, _POOL[pool], SKIP, *learnable))
        for name, learnable in _LEARNABLE.items()
        for pool in _POOL
    },
}
"""Candidate operations by name, each set in the order of `OPERATIONS`."""

ATTENTIONS: dict[str, dict[str, float]] = {
    # eDARTS §IV-C. What is taken from the dilated ones is "the same", from 5×5 and 3×3 in this order:
    # read respectively, which fits its finding that dilated 5×5 is the worst operation.
    "edarts": {"sep_conv_3x3": 6e-4, "sep_conv_5x5": 4e-4, "dil_conv_3x3": -4e-4, "dil_conv_5x5": -6e-4},
}
"""Constants added to α′ of operations (`dots_core.search_space.cell.CellSpec.attention`), by name."""


def operation_set(operations: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the operations of a set in `OPERATION_SETS`, or the given ones.

    Raises
    ------
    UsageError
        If there is no set of that name, or an operation is unknown or named twice.
    """
    if isinstance(operations, str):
        if operations not in OPERATION_SETS:
            hint = nearest(operations, list(OPERATION_SETS))
            raise UsageError(
                f"unknown set of operations '{quoted(operations)}'{hint}; known: {', '.join(OPERATION_SETS)}"
            )
        return OPERATION_SETS[operations]
    check_operations(operations)
    return operations


def attention_constants(
    attention: str | Mapping[str, float], operations: tuple[str, ...] = OPERATIONS
) -> tuple[tuple[str, float], ...]:
    """Return the constants of an attention as pairs in the order of `OPERATIONS`, those of 0 left out.

    Parameters
    ----------
    attention : str or mapping of operation to constant
        A name in `ATTENTIONS`, restricted to the candidates, or the constants themselves.
    operations : tuple of str
        The candidates.

    Raises
    ------
    UsageError
        If the name or an operation is unknown, or a constant is of an operation that is no candidate.
    """
    if isinstance(attention, str):
        if attention not in ATTENTIONS:
            hint = nearest(attention, list(ATTENTIONS))
            raise UsageError(f"unknown attention '{quoted(attention)}'{hint}; known: {', '.join(ATTENTIONS)}")
        attention = {o: constant for o, constant in ATTENTIONS[attention].items() if o in operations}
    check_operations(tuple(attention))
    strange = [o for o in attention if o not in operations]
    if strange:
        raise UsageError(f"attention is paid to '{strange[0]}', which is no candidate; make it one, or leave it out")
    return tuple((o, float(attention[o])) for o in OPERATIONS if attention.get(o))


def check_operations(names: tuple[str, ...]) -> None:
    """Raise `UsageError` unless the names are known operations, each named once."""
    for name in names:
        if name not in OPERATIONS:
            raise UsageError(
                f"unknown operation '{quoted(name)}'{nearest(name, OPERATIONS)}; known: {', '.join(OPERATIONS)}"
            )
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
            raise UsageError(f"unknown grouping '{quoted(groups)}'{hint}; known: {', '.join(GROUPINGS)}")
        groups = GROUPINGS[groups]
    check_operations(tuple(operation for group in groups for operation in group))
    restricted = (tuple(o for o in group if o in operations) for group in groups)
    return tuple(group for group in restricted if group)
