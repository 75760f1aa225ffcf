from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dots_core.errors import UsageError
from dots_core.plan.gradients import MixedLevel, SecondOrder
from dots_core.plan.plan import Phase, Plan, Retained, Stage, Update
from dots_core.plan.schedules import Constant, Cosine
from dots_core.search_space.cell import search_cell
from dots_core.search_space.derivation import retain
from dots_core.search_space.named_cells import named_cell
from dots_core.search_space.topology import Topology

W = Update(("w",), "all")
ALPHA = Update(("alpha",), "half-b")
PHASE = Phase("search", 2, (Update(("alpha",), "half-b"), Update(("w",), "half-a")))
RETAINED = Retained("groups", Topology("k-edges"))


def stage(**changes) -> Stage:
    return Stage(**{"name": "s", "cells": search_cell(2), "layers": 3, "phases": (PHASE,), **changes})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Update((), "all"), "an update must name some of w, alpha, beta"),
        (lambda: Update(("gamma",), "all"), r"not \('gamma',\)"),
        (lambda: Update(("w", "gamma"), "all"), "an update must name some of"),
        (lambda: Update(("w",), "half-c"), "unknown split 'half-c'; known: all, half-a, half-b"),
        (lambda: Update(("w",), "test"), "unknown split 'test'"),
        (lambda: Phase("warm-up", -1, (W,)), "phase warm-up has -1 epochs"),
        (lambda: Update(("w",), "half-a", gradient=SecondOrder()), r"SecondOrder\(exact=False\) is of architecture"),
        (lambda: Update(("w", "alpha"), "half-a", gradient=MixedLevel()), "is of architecture weights, not of w"),
        (lambda: Update(("w",), "half-a", once_at=0.5), "sparse updates are of architecture weights"),
        (lambda: Phase("search", 1, ()), "phase search must update w exactly once"),
        (lambda: Phase("search", 1, (W, W)), "phase search must update w exactly once"),
        (lambda: Phase("search", 1, (Update(("alpha",), "all"),)), "must update w exactly once"),
        (
            lambda: Phase("search", 1, (replace(ALPHA, joint=True), Update(("beta",), "half-b", once_at=1.0), W)),
            "joint off",
        ),
        (lambda: Phase("search", 1, (W, replace(ALPHA, joint=True))), "no update after it to be joint with"),
        (lambda: Plan((stage(),), rate_over="phase"), "not over 'phase'"),
        (lambda: Plan((stage(),), train_share=0.0), "train_share is 0.0"),
        (lambda: Plan((stage(),), train_share=1.5), "train_share is 1.5"),
        (lambda: Plan((stage(),), train_share=0.5, train_images=9), "not both"),
        (lambda: stage(validation="half-c"), "unknown validation split 'half-c'; known: none, half-a, half-b"),
        (lambda: stage(drop_path=1.0), "drop_path is 1.0"),
        (lambda: stage(drop_path=-0.1), "drop_path is -0.1"),
        (lambda: Plan(()), "at least one epoch"),
        (lambda: Plan((stage(phases=()),)), "at least one epoch"),
        (lambda: Plan((stage(phases=(Phase("p", 0, (W,)),)),)), "at least one epoch"),
        (lambda: Plan((stage(),), batch=1), "batch is 1; batch norm needs at least 2"),
        (lambda: Plan((stage(cells=RETAINED), stage())), "the first stage cannot retain"),
    ],
)
def test_impossible_plans_are_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()


def test_epochs_add_up():
    long = stage(phases=(Phase("warm-up", 3, (W,)), PHASE))
    assert long.epochs == 5
    assert Plan((long, stage(cells=RETAINED))).epochs == 7
    assert Phase("none", 0, (W,)).epochs == 0


def test_the_split_of_w():
    assert PHASE.weight_split == "half-a"
    assert Phase("one-level", 1, (Update(("w", "alpha", "beta"), "all"),)).weight_split == "all"


def test_defaults_are_the_papers():
    """methods.md §5: batch 64, 16 channels, stem multiplier 3, cosine from 0.025 to 0.001, T = 1."""
    plan = Plan((stage(),))
    assert (plan.batch, plan.channels, plan.stem_multiplier, plan.stem) == (64, 16, 3, "cifar")
    assert plan.learning_rate == Cosine(0.025, 0.001)
    assert (plan.split, plan.derive) == (0.5, True)
    assert PHASE.alpha_temperature == PHASE.beta_temperature == Constant(1.0)
    assert (stage().initial_scale, stage().drop_path, stage().architecture_rate) == (1e-3, 0.0, 3e-4)
    optimizers = stage().optimizers
    assert (optimizers.momentum, optimizers.weight_decay, optimizers.clip) == (0.9, 3e-4, 5.0)
    assert (optimizers.betas, optimizers.architecture_weight_decay) == ((0.5, 0.999), 1e-3)


def test_images_are_shuffled_and_all_are_used_unless_said():
    assert W.shuffle
    assert (Plan((stage(),)).train_images, Plan((stage(),)).test_images) == (0, 0)


def test_cells_by_type():
    assert stage(cells=RETAINED).retains
    assert not stage().retains
    before, alpha = dict.fromkeys(("normal", "reduce"), search_cell(2)), np.arange(40.0).reshape(5, 8) % 7
    kept = stage(cells=RETAINED).cells_by_type(before, {"alpha.normal": alpha})
    assert kept["normal"] == retain(before["normal"], alpha, "groups", RETAINED.topology)
    assert kept["reduce"] == retain(before["reduce"], np.zeros((5, 8)), "groups", RETAINED.topology)
    assert stage().cells_by_type() == {"normal": search_cell(2), "reduce": search_cell(2)}
    genotype = named_cell("DARTS_V2")
    expected = {"normal": genotype.cell("normal"), "reduce": genotype.cell("reduce")}
    assert stage(cells=genotype).cells_by_type() == expected


def test_the_network_of_a_stage():
    searched = stage(head_norm=True)
    plan = Plan((searched,), channels=8, stem="imagenet", stem_multiplier=2)
    cells = searched.cells_by_type()
    spec = searched.network(plan, cells, 7, (1, 28, 30))
    assert (spec.normal, spec.reduce) == (cells["normal"], cells["reduce"])
    assert (spec.layers, spec.channels, spec.classes, spec.input_shape) == (3, 8, 7, (1, 28, 30))
    assert (spec.stem, spec.stem_multiplier, spec.head_norm, spec.auxiliary) == ("imagenet", 2, True, False)
    assert (spec.affine, spec.pool_norm) == (False, True)
    trained = stage(cells=named_cell("DARTS_V1"), auxiliary=True)
    spec = trained.network(plan, trained.cells_by_type(), 7, (1, 28, 30))
    assert (spec.affine, spec.pool_norm, spec.auxiliary, spec.head_norm) == (True, False, True, False)
    assert spec.normal != spec.reduce


def test_updates_that_are_made_together_may_be_joint():
    for once_at in (None, 0.5):
        joint = replace(ALPHA, joint=True, once_at=once_at)
        assert Phase("search", 1, (joint, W)).updates[0].joint
        assert Phase("search", 1, (joint, replace(joint, groups=("beta",)), W)).updates[1].joint


def test_the_learning_rate_runs_over_the_run_or_over_each_stage():
    first = stage(phases=(Phase("warm-up", 3, (W,)), PHASE))
    plan = Plan((first, stage(cells=RETAINED)), learning_rate=Cosine(0.1))
    places = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)]
    over_run = [plan.weights_rate(*place, number) for number, place in enumerate(places)]
    assert over_run == [Cosine(0.1).at(epoch, 7) for epoch in range(7)]
    anew = replace(plan, rate_over="stage")
    over_stages = [anew.weights_rate(*place, number) for number, place in enumerate(places)]
    assert over_stages == [Cosine(0.1).at(e, 5) for e in range(5)] + [Cosine(0.1).at(e, 2) for e in range(2)]
    # A stage begins anew however many epochs an early stop left out before it.
    assert anew.weights_rate(1, 0, 0, 4) == 0.1
    assert plan.weights_rate(1, 0, 0, 4) == Cosine(0.1).at(4, 7)
