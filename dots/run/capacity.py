"""Whether a run fits into memory, reckoned from what is asked for, before anything of it is built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dots_core.engine.protocol import PRECISIONS, Engine
from dots_core.errors import UsageError
from dots_core.network.counts import activation_count, layer_outputs, parameter_count
from dots_core.network.spec import NetworkSpec
from dots_core.plan.plan import Plan, Stage
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.operations import NONE, OPERATIONS

_CERTAINLY = 1.5
"""What is needed was reckoned within a third of what was measured; by this factor it is too much for certain."""

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def networks(plan: Plan, classes: int, shape: tuple[int, int, int]) -> Iterator[tuple[Stage, NetworkSpec]]:
    """Yield every stage with its network.

    The operations the topology search will retain are not known yet, so any choice of the right
    number stands for them.
    """
    cells: dict[str, CellSpec] | None = None
    for stage in plan.stages:
        cells = stage.cells_by_type(cells)
        yield stage, stage.network(plan, cells, classes, shape)


def memory_needed(plan: Plan, spec: NetworkSpec) -> int:
    """Return about how many bytes the training of a network takes."""
    size = PRECISIONS[plan.runtime.precision].size
    # Weights, momentum, gradient; and what the layers put out, kept for the backward pass.
    return size * (3 * parameter_count(spec) + plan.batch * activation_count(_evaluated(spec)))


def memory_there(engine: Engine, device: str) -> int | None:
    """Return how many bytes a device has, or None if that is not known."""
    for found in engine.devices():
        if found.memory is not None and (found.name == device or found.name.startswith(f"{device}:")):
            return found.memory
    return machine_memory() if device == "cpu" else None


def machine_memory() -> int | None:
    """Return how many bytes this process can have: the machine's, or fewer where its container allows fewer."""
    known = []
    if hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= os.sysconf_names.keys():
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in _CGROUPS:
        try:
            allowed = Path(name).read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        if allowed.isdigit():
            known.append(int(allowed))
    return min(known, default=None)


def check_fits(plan: Plan, engine: Engine, classes: int, shape: tuple[int, int, int]) -> None:
    """Refuse a plan whose networks certainly do not fit into the device's memory; nothing is built.

    Raises
    ------
    UsageError
        Naming the stage, what it needs, what is there and what can be lowered.
    """
    there = memory_there(engine, plan.runtime.device)
    for stage, spec in networks(plan, classes, shape):
        needed = memory_needed(plan, spec)
        if there is not None and needed > _CERTAINLY * there:
            raise UsageError(
                f"the network of the {stage.name} stage needs about {gibibytes(needed)} for a step on {plan.batch} "
                f"images of {shape[2]}x{shape[1]}, and {plan.runtime.device} has {gibibytes(there)}; lower batch "
                f"({plan.batch}), channels ({plan.channels}), layers ({stage.layers}) or image_size"
            )


def gibibytes(count: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{count / 2**30:,.1f} GiB"


def _evaluated(spec: NetworkSpec) -> NetworkSpec:
    """The network of what one pass evaluates: where operations are sampled, one of each group, the largest."""

    def sampled(cell: CellSpec) -> CellSpec:
        if not cell.drawn.chooses:
            return cell
        return replace(
            cell,
            edges=tuple(
                replace(edge, groups=tuple((max(group, key=_memory),) for group in edge.groups)) for edge in cell.edges
            ),
        )

    return replace(spec, normal=sampled(spec.normal), reduce=sampled(spec.reduce))


def _memory(operation: str) -> int:
    """What an operation puts out, beside others."""
    if operation == NONE:
        return 0
    return layer_outputs(OPERATIONS[operation].layers("", 16, 1, affine=False, pool_norm=True), (8, 8), 16)
