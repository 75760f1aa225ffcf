"""How the papers group operations, which they take, and which they pay attention to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dots_core.errors import UsageError, nearest, quoted
from dots_core.search_space.operations import DARTS, NONE, OPERATIONS, SKIP, Operation, check_operations, in_order

Belongs = Callable[[Operation], bool]


def _of(*families: str) -> Belongs:
    return lambda operation: operation.family in families


GROUPINGS: dict[str, tuple[Belongs, ...]] = {
    # One softmax over every operation (DARTS; DOTS eq. 2).
    "single": (lambda operation: True,),
    # Operations without and with weights (DOTS supplement §2, Group-V2).
    "group-v2": (lambda operation: not operation.learnable, lambda operation: operation.learnable),
    # Similar operations together, without `none` (DOTS supplement §2, Group-V1).
    "group-v1": (_of("skip"), _of("pool"), _of("separable"), _of("dilated")),
}
"""Groups by name, each as what says whether an operation belongs to it."""

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
    "darts": DARTS,
    # Where the topology is explicit, no edge needs to be switched off (TopoNAS §3.1).
    "without-none": tuple(o for o in DARTS if o != NONE),
    # eDARTS §III-A and table I: some convolutions, a skip, none, and one pool, the largest or the average.
    **{
        f"{name}-{pool}": tuple(o for o in DARTS if o in (NONE, _POOL[pool], SKIP, *learnable))
        for name, learnable in _LEARNABLE.items()
        for pool in _POOL
    },
}
"""Candidate operations by name, each set in the order of `DARTS`."""

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
    attention: str | Mapping[str, float], operations: tuple[str, ...] = DARTS
) -> tuple[tuple[str, float], ...]:
    """Return the constants of an attention as pairs in canonical order (`in_order`), those of 0 left out.

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
    return tuple((o, float(attention[o])) for o in in_order(attention) if attention[o])


def grouping(
    groups: str | tuple[tuple[str, ...], ...], operations: tuple[str, ...] = DARTS
) -> tuple[tuple[str, ...], ...]:
    """Return a grouping of the given operations, empty groups left out.

    Parameters
    ----------
    groups : str or tuple of groups
        A name in `GROUPINGS`, or the groups themselves. Of the latter, an operation in none of them is
        left out; of the former, ``none`` may be (Group-V1 has no place for it).

    Raises
    ------
    UsageError
        If the name or an operation is unknown, groups overlap, or a named grouping has no place for an operation.
    """
    check_operations(operations)
    if isinstance(groups, str):
        return _named(groups, in_order(operations))
    check_operations(tuple(operation for group in groups for operation in group))
    restricted = (tuple(o for o in group if o in operations) for group in groups)
    return tuple(group for group in restricted if group)


def _named(name: str, operations: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    if name not in GROUPINGS:
        hint = nearest(name, list(GROUPINGS))
        raise UsageError(f"unknown grouping '{quoted(name)}'{hint}; known: {', '.join(GROUPINGS)}")
    groups = tuple(tuple(o for o in operations if belongs(OPERATIONS[o])) for belongs in GROUPINGS[name])
    left = [o for o in operations if o != NONE and not any(o in group for group in groups)]
    if left:
        written = ", ".join(f"[{', '.join(group)}]" for group in (*groups, tuple(left)) if group)
        raise UsageError(
            f"the grouping '{name}' has no place for '{left[0]}', of the family '{OPERATIONS[left[0]].family}'; take "
            f"another grouping, or give the groups themselves: [{written}]"
        )
    return tuple(group for group in groups if group)
