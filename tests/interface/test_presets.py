"""Every preset of every kind: it means a plan, it can be shown and compared, and its values are the papers'."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dots.cli.main import app
from dots.config.plan import plan_of
from dots.config.presets import merged, nested, preset_names, preset_path, preset_values
from dots.config.schema import CONFIGS, parse_config
from dots_core.data import Augmentation, ImageData, Loader, from_arrays
from dots_core.plan.gradients import MixedLevel, SecondOrder
from dots_core.plan.plan import Plan, Update
from dots_core.plan.schedules import Constant, Cosine, Linear, LinearDecay, Warmup
from dots_core.search.batches import BatchSource
from dots_core.search_space.named_cells import named_cell
from dots_core.search_space.topology import Topology

PRESETS = [(kind, name) for kind in CONFIGS for name in preset_names(kind)]


def plan(kind: str, name: str, **settings: Any) -> Plan:
    values = merged(preset_values(kind, name), nested(settings))
    if kind == "train":
        values["cell"] = named_cell("DARTS_V2").to_record()
    return plan_of(parse_config(CONFIGS[kind], values, f"preset {name}"))


def search_updates(name: str, stage: int = 0) -> tuple[Update, ...]:
    """The updates of the phase that searches."""
    return plan("search", name).stages[stage].phases[-1].updates


def answer(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("kind", "name"), PRESETS)
def test_a_preset_is_shown_listed_and_described(kind, name):
    shown = json.loads(answer("presets", "show", name, "--kind", kind, "--json"))
    assert parse_config(CONFIGS[kind], {k: v for k, v in shown.items() if k in CONFIGS[kind].model_fields}, name)
    assert shown["kind"] == kind
    first = preset_path(kind, name).read_text("utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert first.lstrip("# ") in answer("presets", "list")


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_no_two_presets_mean_the_same(kind):
    names = [name for name in preset_names(kind) if name != "dots-cifar100"]
    digests = {plan(kind, name).digest: name for name in names}
    assert len(digests) == len(names)
    # CIFAR-100 is searched as CIFAR-10; it differs in the images.
    assert json.loads(answer("presets", "diff", "dots-cifar10", "dots-cifar100", "--json"))["schema"]


def test_a_difference_names_the_settings():
    told = answer("presets", "diff", "darts-v1-cifar10", "darts-v2-cifar10")
    assert told == "operation.order: 1 → 2\n"


@pytest.mark.parametrize("name", [name for kind, name in PRESETS if kind == "search"])
def test_a_dry_run_of_a_search_preset(name, tmp_path):
    """At a small size, where every step is timed on the engine itself."""
    values = preset_values("search", name)
    partial = values["operation"].get("partial_channels", 1)
    settings = {"data": "digits", "image_size": "null", "batch": 8, "channels": 2 * partial}
    settings |= {"operation.layers": 3, "topology.layers": 3}
    if "edges" not in values["space"]:
        settings["space.nodes"] = 2
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    out = tmp_path / "run"
    told = answer(
        "search", "--preset", name, "--backend", "reference", "--dry-run", "--json", "--out", str(out), *given
    )
    found = json.loads(told)
    assert [stage["stage"] for stage in found["stages"]] == [stage.name for stage in plan("search", name).stages]
    assert all(phase["seconds"] > 0 for stage in found["stages"] for phase in stage["phases"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("kind", "name", "digest"),
    [
        ("search", "dots-2020-cifar10", "3cfdc608"),
        ("search", "dots-arbitrary-cifar10", "1aa88723"),
        ("search", "dots-cifar10", "43f2999f"),
        ("search", "dots-cifar100", "43f2999f"),
        ("search", "smoke", "edfbc171"),
        ("search", "smoke-reference", "0fa249f2"),
        ("train", "cifar", "01a6cb62"),
        ("train", "shallow", "44e7fee8"),
        ("train", "smoke", "83e85320"),
        ("train", "toponas-cifar", "c1a2ad2f"),
    ],
)
def test_checkpoints_of_earlier_releases_still_belong_to_their_presets(kind, name, digest):
    # Presets that warm up on half A since then did so on all images.
    earlier = {} if kind == "train" else {"topology.warmup_split": "all"}
    assert plan(kind, name, **earlier).digest.startswith(digest)


@pytest.mark.parametrize("name", [n for k, n in PRESETS if k == "search" and (n.startswith("dots-") or "+dots" in n)])
def test_dots_warms_up_on_half_a_in_both_stages_and_searches_topology_on_all_images(name):
    """What the released code does; no paper says."""
    searched = plan("search", name)
    splits = [[update.split for update in phase.updates] for stage in searched.stages for phase in stage.phases]
    assert splits[-2:] == [["half-a"], ["all"]]
    if name.startswith("dots-"):
        assert splits[:2] == [["half-a"], ["half-b", "half-a"]]


def test_the_released_search_on_imagenet():
    """The values of train_search_imagenet.py and model_search_imagenet.py."""
    searched = plan("search", "dots-imagenet-released")
    operation, topology = searched.stages
    assert [phase.epochs for stage in searched.stages for phase in stage.phases] == [20, 10, 20, 20]
    assert searched.learning_rate == Cosine(0.25, 0.001)
    assert (operation.optimizers.betas, topology.optimizers.betas) == ((0.9, 0.999), (0.9, 0.999))
    assert (operation.optimizers.architecture_clip, topology.optimizers.architecture_clip) == (5.0, 0.0)
    assert (operation.layers, topology.layers, searched.batch, searched.channels) == (14, 14, 512, 16)
    assert (operation.initial_scale, operation.head_norm, topology.cells.topology.scaled) == (0.0, True, False)
    assert topology.phases[1].beta_temperature.at(19, 20) == pytest.approx(0.02, rel=1e-3)
    assert plan("train", "imagenet-mobile-48").channels == 48


def test_the_gradient_of_architecture_weights_is_clipped_stage_by_stage():
    settings = {"operation.architecture_clip": 2.0, "topology.architecture_clip": 3.0}
    stages = plan("search", "dots-cifar10", **settings).stages
    assert [stage.optimizers.architecture_clip for stage in stages] == [2.0, 3.0]
    assert [stage.optimizers.architecture_clip for stage in plan("search", "dots-cifar10").stages] == [0.0, 0.0]


def test_steps_of_two_levels():
    assert search_updates("darts-v1-cifar10") == (Update(("alpha",), "half-b"), Update(("w",), "half-a"))
    assert search_updates("darts-v2-cifar10") == (
        Update(("alpha",), "half-b", gradient=SecondOrder()),
        Update(("w",), "half-a"),
    )
    # PC-DARTS: beta learns with alpha.
    assert search_updates("pc-darts-cifar10") == (Update(("alpha", "beta"), "half-b"), Update(("w",), "half-a"))
    assert search_updates("edarts-cifar10")[0] == Update(("alpha",), "half-b", gradient=SecondOrder(), once_at=1.0)


def test_steps_of_one_level():
    assert search_updates("snas-cifar10") == (Update(("w", "alpha"), "all"),)
    assert search_updates("dots-cifar10", 1) == (Update(("w", "alpha", "beta"), "all"),)
    assert search_updates("dots-cifar10-released", 1) == (Update(("w", "alpha", "beta"), "all", shuffle=False),)


@pytest.mark.parametrize("space", ["fixed", "arbitrary"])
def test_steps_of_toponas_are_its_algorithm(space):
    """TopoNAS algorithm 1: lines 4-6 with MiLeNAS, lines 8-10 without; λ = 10 in the loss of beta alone."""
    assert search_updates(f"toponas-{space}-darts") == (
        Update(("alpha",), "third-b"),
        Update(("beta",), "third-c", regularisation=10.0),
        Update(("w",), "third-a"),
    )
    assert search_updates(f"toponas-{space}-mile") == (
        Update(("w",), "third-a"),
        Update(("alpha",), "third-b", gradient=MixedLevel()),
        Update(("beta",), "third-c", gradient=MixedLevel(), regularisation=10.0),
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"operation.joint": True}, [True, False]),
        ({"operation.joint": True, "operation.order": 2, "operation.edges.space": "k-edges"}, [True, False]),
        (
            {"operation.joint": True, "operation.edges.space": "k-edges", "operation.splits": "thirds"},
            [True, True, False],
        ),
        ({"operation.joint": True, "operation.level": "mixed"}, [True, False]),
    ],
)
def test_all_but_the_last_update_are_joint(settings, expected):
    updates = plan("search", "darts-v1-cifar10", **settings).stages[0].phases[-1].updates
    assert [update.joint for update in updates] == expected


def test_weights_of_the_mixed_level():
    settings = {"operation.level": "mixed", "operation.training_weight": 0.5, "operation.validation_weight": 2.0}
    updates = plan("search", "darts-v1-cifar10", **settings).stages[0].phases[-1].updates
    assert updates == (Update(("w",), "half-a"), Update(("alpha",), "half-b", gradient=MixedLevel(2.0, 0.5)))


@pytest.mark.parametrize(
    ("name", "measured"),
    [("snas-cifar10", "test"), ("darts-v1-cifar10", "half-b"), ("toponas-fixed-mile", "third-b")],
)
def test_accuracy_is_measured_on_images_that_w_does_not_learn_from(name, measured):
    assert plan("search", name).stages[0].validation == measured


@pytest.mark.parametrize(
    ("name", "topology"),
    [
        ("darts-v1-cifar10", Topology()),
        ("pc-darts-cifar10", Topology("edge-softmax")),
        ("toponas-fixed-darts", Topology("k-edges", side="output")),
        ("toponas-arbitrary-mile", Topology("arbitrary", side="output")),
        ("edarts-cifar10", Topology("fixed")),
    ],
)
def test_topologies_searched_with_the_operations(name, topology):
    searched = plan("search", name)
    assert len(searched.stages) == 1
    assert searched.stages[0].cells.topology == topology


def test_cells_of_the_originals():
    gdas, snas, pc = (plan("search", f"{name}-cifar10").stages[0] for name in ("gdas", "snas", "pc-darts"))
    assert (gdas.cells.sampling, snas.cells.sampling, pc.cells.sampling) == ("hard", "soft", "none")
    assert (gdas.cells.partial, pc.cells.partial) == (1, 4)
    assert gdas.phases[-1].alpha_temperature == Linear(10.0, 0.1)
    at = snas.phases[-1].alpha_temperature.at
    assert [at(e, 150) for e in (0, 75, 149)] == pytest.approx(
        [(1 - e / 150) * 0.97 + 0.03 for e in (1, 76, 150)], abs=1e-4
    )
    edarts = plan("search", "edarts-cifar10").stages[0].cells
    assert len(edarts.edges) == 8
    assert dict(edarts.attention)["dil_conv_5x5"] == -6e-4
    assert all("none" not in edge.operations for edge in plan("search", "toponas-fixed-darts").stages[0].cells.edges)


@pytest.mark.parametrize("name", ["darts", "darts-2nd", "gdas", "snas", "pc-darts"])
def test_originals_with_a_topology_search(name):
    """DOTS table 2: their operation search, then the 40 epochs of its topology search on one operation an edge."""
    base = {"darts": "darts-v1-cifar10", "darts-2nd": "darts-v2-cifar10"}.get(name, f"{name}-cifar10")
    both, alone, of_dots = (plan("search", each) for each in (f"{name}+dots", base, "dots-cifar10"))
    assert both.stages[0] == alone.stages[0]
    second, theirs = both.stages[1], of_dots.stages[1]
    assert (second.cells.rule, second.cells.topology) == ("top-1", theirs.cells.topology)
    assert (second.phases, second.layers, second.architecture_rate) == (theirs.phases, theirs.layers, 1e-4)
    assert both.rate_over == "stage"


def test_learning_rates():
    assert plan("search", "dots-imagenet").learning_rate == Cosine(0.25, 0.01)
    assert plan("train", "imagenet-mobile").learning_rate == Warmup(Cosine(0.5, 0.0), 5)
    assert plan("train", "toponas-imagenet").learning_rate == LinearDecay(0.5, 0.0)
    settings = {"weights.schedule": "constant", "weights.warmup_epochs": 2}
    assert plan("train", "cifar", **settings).learning_rate == Warmup(Constant(0.025), 2)


@pytest.mark.parametrize("name", ["imagenet-mobile", "imagenet-mobile-48", "toponas-imagenet"])
def test_trainings_on_imagenet(name):
    trained = plan("train", name)
    assert trained.augmentation == Augmentation(crop=0, resized_crop=0.08, jitter=0.4)
    assert (trained.stem, trained.epochs, trained.batch, trained.stages[0].layers) == ("imagenet", 250, 1024, 14)
    assert trained.stages[0].optimizers.weight_decay == 3e-5
    assert (trained.loss.label_smoothing, trained.loss.auxiliary_weight, trained.stages[0].auxiliary) == (
        0.1,
        0.4,
        True,
    )
    assert trained.channels == (46 if name == "imagenet-mobile" else 48)


@pytest.mark.parametrize("name", ["dots-imagenet", "dots-2020-imagenet", "dots-imagenet-released"])
def test_searches_on_imagenet_learn_from_a_tenth_of_each_class(name):
    """DOTS supplement §1: 10 % of the images for w, other 2.5 % for α; both for the topology."""
    n = 4000
    images, labels = np.zeros((n, 8, 8), np.uint8), np.arange(n) % 2
    data = from_arrays(images, labels, images[:10], labels[:10], name="blank")
    searched = plan("search", name, batch=50)
    source = BatchSource(searched, data)
    phase = searched.stages[0].phases[-1]
    architecture, weights = (source.loader(searched.stages[0], phase, number).steps for number in (0, 1))
    assert (weights, architecture) == (0.1 * n / 50, 0.025 * n / 50)
    assert source.loader(searched.stages[1], searched.stages[1].phases[-1], 0).steps == 0.125 * n / 50
    for split, count in (("half-a", 200), ("half-b", 50), ("all", 250)):
        held = np.concatenate([batch.labels for batch in loader_of(searched, data, split).batches(0)])
        assert np.bincount(held).tolist() == [count, count]


def loader_of(searched: Plan, data: ImageData, split: str) -> Loader:
    """The loader of some update that learns from a part of the images."""
    stage, phase, number = next(
        (stage, phase, number)
        for stage in searched.stages
        for phase in stage.phases
        for number, update in enumerate(phase.updates)
        if update.split == split
    )
    plain = replace(searched, augmentation=Augmentation(flip=False, crop=0))
    return BatchSource(plain, data).loader(stage, phase, number)


@pytest.mark.parametrize("settings", [{}, {"train_share": 0.5}, {"train_images": 120}])
@pytest.mark.parametrize("name", ["dots-cifar10", "toponas-fixed-darts"])
def test_balanced_parts_are_disjoint_and_those_of_an_earlier_process(name, settings):
    """A resumed run reads what the interrupted one would have: the parts depend on labels and seed alone."""
    images, labels = np.zeros((600, 8, 8), np.uint8), np.repeat([0, 1, 2], [300, 200, 100])
    images[:, 0, 0], images[:, 0, 1] = np.arange(600) % 256, np.arange(600) // 256
    data = from_arrays(images, labels, images[:10], labels[:10], name="marked")
    searched = plan("search", name, balanced=True, batch=2, **settings)
    splits = sorted({u.split for stage in searched.stages for phase in stage.phases for u in phase.updates} - {"all"})
    parts = [BatchSource(searched, data)._part(split) for split in splits]
    again = [BatchSource(searched, data)._part(split) for split in splits]
    share = 0.5 if "train_share" in settings else settings.get("train_images", 600) / 600
    for part, same in zip(parts, again, strict=True):
        np.testing.assert_array_equal(part, same)
        np.testing.assert_allclose(np.bincount(labels[part]) * len(splits), share * np.array([300, 200, 100]), atol=3)
    everything = np.sort(np.concatenate(parts))
    np.testing.assert_array_equal(everything, BatchSource(searched, data)._part("all"))
    assert len(np.unique(everything)) == len(everything)
    loader = loader_of(searched, data, splits[0])
    whole = [batch.images for batch in loader.batches(3)]
    resumed = [batch.images for batch in loader_of(searched, data, splits[0]).batches(3, 5)]
    np.testing.assert_array_equal(np.concatenate(whole[5:]), np.concatenate(resumed))


@pytest.mark.parametrize(
    ("settings", "digest"),
    [
        ({}, "edfbc1712d81e9d2"),
        ({"operation.level": "one"}, "481c4bc707943c2f"),
        ({"operation.level": "mixed"}, "f9cc2532b225ca2c"),
        ({"operation.level": "mixed", "operation.training_weight": 0.5}, "3dbbdd71e36404de"),
        ({"operation.level": "mixed", "operation.validation_weight": 2.0, "operation.joint": True}, "e85a296b15715bd2"),
        ({"operation.order": 2}, "359617c582083207"),
        (
            {"operation.order": 2, "operation.hypergradient": "exact", "operation.once_at": 0.75},
            "c3572648620437bf",
        ),
    ],
)
def test_digests_of_steps_are_those_that_runs_were_begun_with(settings, digest):
    """Pinned: a run is resumed by a plan of the digest that its checkpoints hold."""
    assert plan("search", "smoke", **settings).digest.startswith(digest)
