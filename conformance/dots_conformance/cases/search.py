"""Whole searches: does every engine find the same cell?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dots_conformance.cases.base import Case, Recording
from dots_conformance.listening import Listener
from dots_conformance.networks import topology_spec
from dots_core.data import ImageData, load
from dots_core.engine.protocol import Engine, Optimizers, Runtime, State
from dots_core.plan.gradients import MixedLevel
from dots_core.plan.plan import Phase, Plan, Retained, Stage, Update
from dots_core.plan.schedules import Constant, Cosine, Exponential
from dots_core.search.runner import Observer, Runner
from dots_core.search_space.cell import CELL_TYPES, CellSpec, search_cell
from dots_core.search_space.mixing import SoftmaxGroups
from dots_core.search_space.operations import DARTS
from dots_core.search_space.topology import Topology

COMPARED_STEPS = 10
"""Losses of the first steps are judged; later ones have drifted apart."""


def search_cases(seed: int) -> Iterator[Case]:
    """Searches of seconds on the embedded digits: each stage alone, and one after the other (DOTS)."""
    operation = _operation_stage("bi")
    yield _search("search/operation-bi-level", _plan(seed, operation), quick=True)
    yield _search("search/operation-one-level", _plan(seed, _operation_stage("one")))
    held = topology_spec(Topology("k-edges", 2), nodes=3).normal
    arbitrary = topology_spec(Topology("arbitrary"), nodes=3).normal
    yield _search("search/topology-pairs-bi-level", _plan(seed, _topology_stage(held, "bi")), quick=True)
    yield _search("search/topology-arbitrary-one-level", _plan(seed, _topology_stage(arbitrary, "one")))
    retained = Retained("groups", Topology("k-edges", 2))
    yield _search("search/two-stage", _plan(seed, operation, _topology_stage(retained, "bi")))
    yield _search("search/sampled", _plan(seed, _sampled_stage()), quick=True)
    yield _search("search/three-level", _plan(seed, _three_level_stage()))


def _plan(seed: int, *stages: Stage) -> Plan:
    return Plan(
        stages,
        learning_rate=Cosine(0.05, 0.005),
        batch=16,
        channels=4,
        seed=seed,
        train_images=128,
        test_images=32,
    )


def _operation_stage(level: str) -> Stage:
    halves = (Update(("alpha",), "half-b"), Update(("w",), "half-a"))
    return Stage(
        "operation",
        search_cell(2, groups="group-v2"),
        3,
        (
            Phase("warm-up", 1, (Update(("w",), "half-a"),)),
            Phase("search", 2, halves if level == "bi" else (Update(("w", "alpha"), "all"),)),
        ),
        validation="none",
        optimizers=Optimizers(architecture_weight_decay=1e-3),
        architecture_rate=0.01,
    )


def _topology_stage(cells: CellSpec | Retained, level: str) -> Stage:
    halves = (Update(("alpha", "beta"), "half-b"), Update(("w",), "half-a"))
    annealed = Exponential(10.0, 0.1, 0.02)
    return Stage(
        "topology",
        cells,
        3,
        (
            Phase("warm-up", 1, (Update(("w",), "half-a"),), alpha_temperature=Constant(0.1)),
            Phase(
                "search",
                2,
                halves if level == "bi" else (Update(("w", "alpha", "beta"), "all"),),
                alpha_temperature=annealed.scaled(0.1),
                beta_temperature=annealed,
            ),
        ),
        validation="none",
        optimizers=Optimizers(betas=(0.5, 0.999)),
        architecture_rate=0.01,
    )


def _sampled_stage() -> Stage:
    """One operation a group, drawn anew in every step (GDAS), and the edges weighed.

    Without max-pools, and so without partial channels too: in the digits' even background rounding
    decides which of nearly equal pixels is the largest. Where operations are mixed that makes little
    difference; where one stands alone, the search parts within a few steps, in float32 from float64 too.
    Steps of second order part for the same reason, at ReLUs; single ones are compared in
    `dots_conformance.cases.steps`.
    """
    operations = tuple(operation for operation in DARTS if operation != "max_pool_3x3")
    cell = search_cell(2, operations, "group-v2", Topology("edge-softmax"), sampling="hard")
    return Stage(
        "sampled",
        cell,
        3,
        (
            Phase("warm-up", 1, (Update(("w",), "half-a"),), alpha_temperature=Constant(5.0)),
            Phase(
                "search",
                2,
                (Update(("alpha", "beta"), "half-b"), Update(("w",), "half-a")),
                alpha_temperature=Constant(5.0),
            ),
        ),
        validation="none",
        architecture_rate=0.01,
    )


def _three_level_stage() -> Stage:
    """α, β and w from a third of the images each, at once, the output edges of nodes competing (TopoNAS)."""
    cell = search_cell(2, groups="group-v2", topology=Topology("arbitrary", side="output"))
    updates = (
        Update(("alpha",), "third-b", gradient=MixedLevel(), joint=True),
        Update(("beta",), "third-c", gradient=MixedLevel(), regularisation=0.1, joint=True),
        Update(("w",), "third-a"),
    )
    return Stage(
        "joint",
        cell,
        3,
        (
            Phase("warm-up", 1, (Update(("w",), "third-a"),)),
            Phase("search", 2, updates, beta_temperature=Exponential(10.0, 0.1, 0.02)),
        ),
        validation="none",
        architecture_rate=0.01,
    )


def _search(name: str, plan: Plan, quick: bool = False) -> Case:
    return Case(name, lambda engine, runtime: record_search(plan, load("digits"), engine, runtime), quick)


def record_search(plan: Plan, data: ImageData, engine: Engine, runtime: Runtime) -> Recording:
    """Run a plan to its end and return its first losses, its architecture weights and its decisions."""
    heard = Listener(engine)
    with tempfile.TemporaryDirectory() as folder:
        driver = Runner(replace(plan, runtime=runtime), data, heard, Path(folder), Unwatched())
        driver.open()
        driver.run()
    arrays: State = {}
    decisions: list[dict[str, Any]] = []
    for number, loss in enumerate(heard.networks[0].losses[:COMPARED_STEPS], start=1):
        arrays[f"growth.loss/{number:03}"] = np.asarray(loss)
    for stage, network in zip(plan.stages, heard.networks, strict=True):
        for weight, value in network.architecture().items():
            arrays[f"info.architecture/{stage.name}.{weight}"] = value
        decisions += _decisions(stage, network.cells, network.architecture())
    return Recording(arrays, tuple(decisions))


class Unwatched(Observer):
    """An observer that says nothing."""

    def started(self, *_: Any) -> None: ...

    def warned(self, *_: Any) -> None: ...

    def stepped(self, *_: Any) -> None: ...

    def epoch(self, *_: Any) -> None: ...


def _decisions(stage: Stage, cells: dict[str, CellSpec], architecture: dict[str, Any]) -> list[dict[str, Any]]:
    """What the end of a stage decides, best against second best."""
    made = []
    for kind in CELL_TYPES:
        cell = cells[kind]
        sorts: list[tuple[str, SoftmaxGroups | None]] = [
            ("alpha", cell.operation_groups),
            ("beta", cell.combination_groups),
        ]
        for sort, blocks in sorts:
            if blocks is None:
                continue
            values = blocks.shifted(np.asarray(architecture[f"{sort}.{kind}"], np.float64)).ravel()
            for number, members in enumerate(blocks.members):
                if len(members) < 2:
                    continue
                ranked = members[np.argsort(-values[members], kind="stable")]
                made.append(
                    {
                        "what": f"{stage.name}, {kind} cell, {_subject(cell, sort, members, number)}",
                        "chosen": _choice(cell, sort, int(ranked[0])),
                        "margin": float(values[ranked[0]] - values[ranked[1]]),
                        "by": f"info.architecture/{stage.name}.{sort}.{kind}",
                    }
                )
    return made


def _subject(cell: CellSpec, sort: str, members: Any, number: int) -> str:
    if sort == "alpha":
        return f"edge {cell.edges[int(members[0]) // len(cell.candidates)].name}, group {number}"
    assert cell.combination_groups is not None
    node = int(cell.combination_groups.labels[members[0]])
    return f"edges out of node {node}" if cell.topology.side == "output" else f"node {node}"


def _choice(cell: CellSpec, sort: str, place: int) -> str:
    if sort == "alpha":
        return cell.candidates[place % len(cell.candidates)]
    assert cell.matrix is not None
    return " + ".join(cell.edges[edge].name for edge in cell.matrix.combinations[place])
