"""What a run will need, before it begins."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from dots.runs import Prepared
from dots_core.backends import computing
from dots_core.counts import activation_count, mac_count, parameter_count
from dots_core.engine import Rates, Setup, Temperature
from dots_core.feed import Feed, endless
from dots_core.initial import initial_architecture, initial_weights
from dots_core.levels import Moment, Stepper
from dots_core.network import NetworkSpec
from dots_core.operations import OPERATIONS, SEPARABLE
from dots_core.plan import Retained, Stage
from dots_core.selection import retain
from dots_core.space import CELL_TYPES, CellSpec

_TIMED_STEPS = 4


def estimate(prepared: Prepared) -> dict[str, Any]:
    """Describe each stage's network and estimate memory and time; writes nothing.

    The time of a step is measured on the engine itself, on real batches; the operations the
    topology search will retain are not known yet, so any choice of the right number stands for
    them.

    Returns
    -------
    dict
        ``stages``: for each stage its parameters, MACs (multiply-accumulates of one image),
        memory in bytes, steps and seconds; ``seconds`` in all.
    """
    plan, data = prepared.plan, prepared.data
    stages, cells = [], None
    for stage in plan.stages:
        cells = _cells(stage, cells)
        stages.append(_stage(prepared, stage, cells))
    return {
        "backend": prepared.engine.name,
        "device": plan.runtime.device,
        "data": {"name": data.name, "classes": len(data.classes), "shape": list(data.shape)},
        "out": str(prepared.out),
        "stages": stages,
        "seconds": sum(stage["seconds"] for stage in stages),
    }


def _cells(stage: Stage, before: dict[str, CellSpec] | None) -> dict[str, CellSpec]:
    cells = stage.fixed_cells()
    if cells is not None:
        return cells
    assert before is not None
    assert isinstance(stage.cells, Retained)
    pruned = {}
    for kind in CELL_TYPES:
        undecided = np.zeros(before[kind].operation_blocks.shape)
        pruned[kind] = retain(before[kind], undecided, stage.cells.rule, stage.cells.topology)
    return pruned


def _stage(prepared: Prepared, stage: Stage, cells: dict[str, CellSpec]) -> dict[str, Any]:
    plan, data = prepared.plan, prepared.data
    spec = stage.network(plan, cells, len(data.classes), data.shape)
    weights = initial_weights(spec, plan.seed, stage.name)
    computing(prepared.engine.name)
    network = prepared.engine.build(
        Setup(spec, stage.optimizers, plan.loss, plan.runtime),
        weights,
        initial_architecture(spec, plan.seed, stage.name, stage.initial_scale),
    )
    feed = Feed(plan, data)
    phases, total = [], 0.0
    for phase in stage.phases:
        if not phase.epochs:
            continue
        loaders = [feed.loader(stage, phase, number, spec) for number in range(len(phase.updates))]
        sources = [endless(loader, 0, 0) for loader in loaders]
        temperature = Temperature(phase.alpha_temperature.at(0, 1), phase.beta_temperature.at(0, 1))
        stepper = Stepper(network, spec, phase.updates, plan.seed, "")
        times = []
        for number in range(_TIMED_STEPS):
            begin = time.perf_counter()
            # Amid an epoch, where an update that is made once an epoch is not due.
            stepper.step(lambda n: next(sources[n]), Rates(), temperature, Moment(0, number, 10**9))  # noqa: B023
            network.drain()
            times.append(time.perf_counter() - begin)
        for source in sources:
            source.close()
        steps = phase.epochs * next(
            loader.steps for loader, update in zip(loaders, phase.updates, strict=True) if "w" in update.groups
        )
        # The fastest step is the one that neither warmed the engine up nor was disturbed.
        seconds = min(times) * steps
        phases.append({"phase": phase.name, "epochs": phase.epochs, "steps": steps, "seconds": seconds})
        total += seconds
    parameters = parameter_count(spec)
    size = 8 if plan.runtime.precision == "float64" else 4
    return {
        "stage": stage.name,
        "layers": stage.layers,
        "params": parameters,
        "macs": mac_count(spec),
        # Weights, momentum, gradient; and what the layers put out, kept for the backward pass.
        "memory_bytes": size * (3 * parameters + plan.batch * activation_count(_evaluated(spec))),
        "phases": phases,
        "seconds": total,
    }


def _evaluated(spec: NetworkSpec) -> NetworkSpec:
    """The network of what one pass evaluates: where operations are sampled, one of each group, the largest."""

    def sampled(cell: CellSpec) -> CellSpec:
        if cell.sampling != "hard":
            return cell
        # Operations stand in the order of their cost, but for dilated ones, which are cheaper than separable.
        by_cost = sorted(OPERATIONS, key=lambda o: (o in SEPARABLE, OPERATIONS.index(o)))
        return replace(
            cell,
            edges=tuple(
                replace(edge, groups=tuple((max(group, key=by_cost.index),) for group in edge.groups))
                for edge in cell.edges
            ),
        )

    return replace(spec, normal=sampled(spec.normal), reduce=sampled(spec.reduce))
