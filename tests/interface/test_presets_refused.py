"""Settings that do not go together are refused with the keys, the reason and the remedy."""

from __future__ import annotations

import re

import pytest

from dots.config.plan import plan_of
from dots.config.presets import merged, nested, preset_values
from dots.config.schema import SearchConfig, TrainConfig, parse_config
from dots_core.errors import UsageError
from dots_core.search_space.named_cells import named_cell

ONE = {"operation.level": "one"}
SINGLE = {"topology.epochs": 0}
PATH = [[0, 2], [1, 2]]
PAIRS = {"operation.edges.space": "k-edges"}

# Settings on top of dots-cifar10; the keys the message names; words of its reason; what makes it right.
REFUSED = {
    "a fixed path on the output side": (
        {"operation.edges.space": "fixed", "operation.edges.side": "output"},
        ["operation.edges.side", "operation.edges.space=fixed"],
        "no combinations compete",
        {"operation.edges.side": "input"},
    ),
    "an edge softmax on the output side": (
        {"topology.space": "edge-softmax", "topology.side": "output"},
        ["topology.side", "topology.space=edge-softmax"],
        "no combinations compete",
        {"topology.space": "k-edges"},
    ),
    "an edge sigmoid on the output side": (
        {"topology.space": "edge-sigmoid", "topology.side": "output"},
        ["topology.side", "topology.space=edge-sigmoid"],
        "no combinations compete",
        {"topology.side": "input"},
    ),
    "an output side of nothing": (
        {"operation.edges.side": "output"},
        ["operation.edges.side", "operation.edges.space=none"],
        "no combinations compete",
        {"operation.edges.space": "arbitrary"},
    ),
    "a regularised input side": (
        {**PAIRS, "operation.regularisation": 10},
        ["operation.regularisation", "operation.edges.side=output"],
        "left without input",
        {"operation.edges.side": "output"},
    ),
    "a regularised topology search on the input side": (
        {"topology.regularisation": 10},
        ["topology.regularisation", "topology.side=output"],
        "left without input",
        {"topology.side": "output"},
    ),
    "regularisation without beta": (
        {"operation.regularisation": 1},
        ["operation.regularisation", "operation.edges.space"],
        "left without input",
        {"operation.regularisation": 0},
    ),
    "joint updates at one level": (
        {**ONE, "operation.joint": True},
        ["operation.joint", "operation.level is one", "operation.level=bi or mixed"],
        "at the old point anyway",
        {"operation.level": "bi"},
    ),
    "sparse updates at one level": (
        {"topology.once_at": 0.5},
        ["topology.once_at", "topology.level is one"],
        "in every step",
        {"topology.once_at": None},
    ),
    "thirds at one level": (
        {"topology.splits": "thirds"},
        ["topology.splits", "topology.level is one"],
        "all images",
        {"topology.level": "mixed"},
    ),
    "thirds without beta": (
        {"operation.splits": "thirds"},
        ["operation.splits", "operation.edges.space=none"],
        "has no beta",
        PAIRS,
    ),
    "second order at one level": (
        {**ONE, "operation.order": 2},
        ["operation.order", "operation.level is one"],
        "look ahead of two levels",
        {"operation.level": "bi"},
    ),
    "second order at mixed level": (
        {"operation.level": "mixed", "operation.order": 2},
        ["operation.order", "operation.level is mixed"],
        "look ahead of two levels",
        {"operation.order": 1},
    ),
    "an exact gradient of first order": (
        {"operation.hypergradient": "exact"},
        ["operation.hypergradient", "operation.order=2"],
        "of second order",
        {"operation.order": 2},
    ),
    "weights of losses at two levels": (
        {"operation.training_weight": 0.5},
        ["operation.training_weight", "operation.level is bi", "operation.level=mixed"],
        "two losses that are mixed",
        {"operation.level": "mixed"},
    ),
    "weights of losses at one level": (
        {"topology.validation_weight": 0.5},
        ["topology.validation_weight", "topology.level is one"],
        "two losses that are mixed",
        {"topology.validation_weight": 1},
    ),
    "w waiting for a sparse update": (
        {"operation.level": "mixed", "operation.joint": True, "operation.once_at": 0.9},
        ["operation.joint", "operation.once_at"],
        "once an epoch",
        {"operation.joint": False},
    ),
    "channels in odd parts": (
        {"channels": 12, "operation.partial_channels": 4},
        ["channels is 12", "operation.partial_channels=4"],
        "multiple of 8",
        {"channels": 24},
    ),
    "two operations of one": (
        {"space.operations": ["none", "skip_connect"], "space.groups": "single", "operation.retain": "top-2"},
        ["operation.retain=top-2", "space.operations", "operation.retain=groups or top-1"],
        "fewer than 2 operations",
        {"operation.retain": "top-1"},
    ),
    "a topology search of nothing": (
        {"topology.space": "none"},
        ["topology.space", "topology.epochs=0"],
        "nothing to search",
        SINGLE,
    ),
    "an edge named twice": (
        {"space.nodes": 1, "space.edges": [*PATH, [0, 2]]},
        ["space.edges", "[0, 2]"],
        "2 times",
        {"space.edges": PATH},
    ),
    "a node that hears nothing": (
        {"space.nodes": 2, "space.edges": PATH, "operation.edges.space": "fixed"},
        ["space.edges", "space.nodes"],
        "no edge into node 3",
        {"space.edges": [*PATH, [2, 3]]},
    ),
    "no edges at all": (
        {"space.nodes": 1, "space.edges": []},
        ["space.edges"],
        "no edge into node 2",
        {"space.edges": PATH},
    ),
    "an edge that leads back": (
        {"space.nodes": 2, "space.edges": [*PATH, [0, 3], [3, 2]]},
        ["space.edges", "[3, 2]", "space.nodes=2"],
        "no later intermediate node",
        {"space.edges": [*PATH, [0, 3]]},
    ),
    "an edge into an input": (
        {"space.nodes": 1, "space.edges": [*PATH, [0, 1]]},
        ["space.edges", "[0, 1]"],
        "no later intermediate node",
        {"space.edges": PATH},
    ),
    "an unknown set of operations": (
        {"space.operations": "ss9-max"},
        ["space.operations", "ss9-max"],
        "did you mean 'ss",
        {"space.operations": "ss8-max"},
    ),
    "an unknown grouping": (
        {"space.groups": "group-v3"},
        ["space.groups", "group-v3"],
        "did you mean",
        {"space.groups": "group-v1"},
    ),
    "an unknown attention": (
        {"space.attention": "darts"},
        ["space.attention", "darts"],
        "known: edarts",
        {"space.attention": "edarts"},
    ),
    "attention to what is no candidate": (
        {"space.operations": "without-none", "space.attention": {"none": -0.1}},
        ["space.attention", "space.operations"],
        "no candidate",
        {"space.operations": "darts"},
    ),
    "a temperature of no beta": (
        {"operation.beta_temperature.start": 10},
        ["operation.beta_temperature", "operation.edges.space"],
        "no beta",
        {"operation.edges.space": "edge-softmax"},
    ),
    "a temperature that falls to 0": (
        {"operation.temperature.schedule": "linear"},
        ["operation.temperature"],
        "does not stay positive",
        {"operation.temperature.end": 0.1},
    ),
    "a longer warm-up than the stage": (
        {"operation.warmup": 31},
        ["operation.warmup is 31", "operation.epochs"],
        "more than",
        {"operation.warmup": 30},
    ),
    "a longer warm-up of the rate than the run": (
        {"weights.warmup_epochs": 71},
        ["weights.warmup_epochs"],
        "the run has 70 epochs",
        {"weights.warmup_epochs": 70},
    ),
    "a longer warm-up of the rate than a stage": (
        {"weights.warmup_epochs": 31, "weights.over": "stage"},
        ["weights.warmup_epochs"],
        "a stage has 30 epochs",
        {"weights.over": "run"},
    ),
    "an early stop of no search": (
        {"operation.warmup": 30, "operation.early_stop": "skips"},
        ["operation.early_stop", "operation.warmup"],
        "takes all of",
        {"operation.warmup": 29},
    ),
    "an early stop by skips that there are not": (
        {"space.operations": ["sep_conv_3x3", "sep_conv_5x5"], "operation.early_stop": "skips"},
        ["operation.early_stop", "space.operations"],
        "counts skip connections",
        {"operation.early_stop": "stable-ranking"},
    ),
    "an early stop by a ranking of one": (
        {"space.operations": ["skip_connect", "sep_conv_5x5"], "operation.early_stop": "stable-ranking"},
        ["operation.early_stop", "space.operations"],
        "fewer than 2",
        {"operation.early_stop": "skips"},
    ),
    "a number and a share of the images": (
        {"train_images": 100, "train_share": 0.5},
        ["train_images", "train_share"],
        "set one of them",
        {"train_images": 0},
    ),
}


def search_plan(settings):
    values = merged(preset_values("search", "dots-cifar10"), nested(settings))
    return plan_of(parse_config(SearchConfig, values, "settings"))


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_and_the_remedy_helps(what):
    settings, keys, reason, remedy = REFUSED[what]
    with pytest.raises(UsageError, match=re.escape(reason)) as caught:
        search_plan(settings)
    assert [key for key in keys if key not in str(caught.value)] == []
    search_plan({**settings, **remedy})


@pytest.mark.parametrize(
    "settings",
    [
        {"operation.sampling": "hard"},
        {"operation.sampling": "soft", "operation.partial_channels": 4, "space.attention": "edarts"},
        {"operation.order": 2, "operation.joint": True, "operation.once_at": 0.9},
        {"operation.level": "mixed", "operation.once_at": 1.0},
        {**PAIRS, "operation.edges.side": "output", "operation.regularisation": 10, **ONE},
        {"operation.edges.space": "edge-sigmoid", "operation.splits": "thirds", **SINGLE},
        {"topology.space": "fixed"},
        {"topology.space": "none", "topology.side": "output", "topology.warmup": 99, **SINGLE},
    ],
    ids=str,
)
def test_what_looks_odd_but_makes_sense_is_not(settings):
    assert search_plan(settings).epochs >= 30


def test_a_training_with_a_longer_warm_up_of_the_rate_is_refused():
    values = {"cell": named_cell("DARTS_V2").to_record(), "epochs": 4, "weights": {"warmup_epochs": 5}}
    with pytest.raises(UsageError, match=r"weights\.warmup_epochs is 5, but the run has 4 epochs"):
        plan_of(parse_config(TrainConfig, values, "settings"))
    assert plan_of(parse_config(TrainConfig, {**values, "epochs": 5}, "settings")).epochs == 5


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"operation.edges.space": "tree"}, "operation.edges.space"),
        ({"space.attention": {"sep_conv_3x3": "much"}}, "space.attention"),
        ({"operation.order": 3}, "operation.order"),
        ({"operation.once_at": 2}, "operation.once_at"),
        ({"operation.edges.sides": "input"}, "did you mean 'operation.edges.side'"),
        ({"train_share": 0}, "train_share"),
        ({"operation.training_weight": 0}, "operation.training_weight"),
        ({"seed": True}, "seed: input should be a number"),
        ({"weights.learning_rate": True}, "weights.learning_rate: input should be a number"),
    ],
)
def test_impossible_values_are_named(settings, key):
    with pytest.raises(UsageError, match=re.escape(key)):
        search_plan(settings)
