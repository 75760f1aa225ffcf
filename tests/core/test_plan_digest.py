"""A plan's digest tells plans apart and nothing else."""

from __future__ import annotations

from dataclasses import replace

from dots_core.engine.protocol import Optimizers, Runtime
from dots_core.plan.early_stop import EarlyStop
from dots_core.plan.plan import Phase, Plan, Stage, Update
from dots_core.plan.schedules import Cosine, LinearDecay, Warmup
from dots_core.search_space.cell import search_cell


def plan(**changes):
    phase = Phase("search", 2, (Update(("w", "alpha"), "all"),))
    return replace(Plan((Stage("operation", search_cell(nodes=1), 3, (phase,)),)), **changes)


def test_equal_plans_have_equal_digests_wherever_they_run():
    assert plan().digest == plan().digest
    assert plan(runtime=Runtime("cuda:1")).digest == plan().digest


def test_whatever_else_changes_changes_the_digest():
    stage = plan().stages[0]
    others = [
        plan(seed=1),
        plan(learning_rate=Cosine(0.025, 0.002)),
        plan(learning_rate=LinearDecay(0.025, 0.001)),
        plan(learning_rate=Warmup(Cosine(0.025, 0.001), 1)),
        plan(rate_over="stage"),
        plan(train_share=0.5),
        plan(balanced=True),
        plan(runtime=Runtime(precision="float64")),
        plan(stages=(replace(stage, layers=4),)),
        plan(stages=(replace(stage, optimizers=Optimizers(architecture_clip=5.0)),)),
        plan(stages=(replace(stage, cells=search_cell(nodes=2)),)),
        plan(stages=(replace(stage, phases=(replace(stage.phases[0], epochs=3),)),)),
        plan(stages=(replace(stage, phases=(replace(stage.phases[0], early_stop=EarlyStop("skips")),)),)),
        plan(stages=(replace(stage, phases=(replace(stage.phases[0], early_stop=EarlyStop("skips", 3)),)),)),
    ]
    assert len({plan().digest, *(other.digest for other in others)}) == len(others) + 1


def test_settings_at_their_defaults_are_no_part_of_it():
    assert plan(batch=64).digest == plan().digest
    # Pinned: a new setting with a default that means what was meant before must not change it.
    assert plan().digest.startswith("f80fdfb109fafd47")
