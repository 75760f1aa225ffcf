"""What a run will need, before it begins."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from dots.runs import Prepared
from dots_core.counts import activation_count, mac_count, parameter_count
from dots_core.engine import Rates, Setup, Temperature
from dots_core.feed import Feed, endless
from dots_core.initial import initial_architecture, initial_weights
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
        times = []
        for _ in range(_TIMED_STEPS):
            begin = time.perf_counter()
            for update, source in zip(phase.updates, sources, strict=True):
                network.step(update.groups, next(source), Rates(), temperature)
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
        "memory_bytes": size * (3 * parameters + plan.batch * activation_count(spec)),
        "phases": phases,
        "seconds": total,
    }
