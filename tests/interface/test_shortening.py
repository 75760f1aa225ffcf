"""A preset scaled down keeps its shape: every preset, at any scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dots.config.plan import plan_of
from dots.config.presets import flattened, merged, nested, preset_names, preset_values
from dots.config.schema import CONFIGS, parse_config
from dots.config.shortening import shortened
from dots.run.api import Request, prepare
from dots.run_directory.new import create_run
from dots_core.errors import UsageError
from dots_core.plan.schedules import Warmup
from dots_core.search_space.named_cells import named_cell

every_preset = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in CONFIGS for name in preset_names(kind)]
)
any_scale = given(scale=st.floats(0.0005, 1.0))
few = hypothesis_settings(max_examples=6, deadline=None)


def plan(kind, values):
    if kind == "train":
        values = {**values, "cell": named_cell("DARTS_V2").to_record()}
    return plan_of(parse_config(CONFIGS[kind], values, "test"))


def both(kind, name, scale):
    """The plans of a preset and of the same scaled down."""
    values = preset_values(kind, name)
    return plan(kind, values), plan(kind, shortened(kind, values, scale, name))


def phases(plan):
    return [phase for stage in plan.stages for phase in stage.phases]


@every_preset
@few
@any_scale
@example(scale=0.1)
def test_phases_keep_their_share_and_none_vanishes(kind, name, scale):
    whole, short = map(phases, both(kind, name, scale))
    assert [phase.name for phase in whole] == [phase.name for phase in short]
    for phase, shorter in zip(whole, short, strict=True):
        # Half an epoch is lost or won by rounding; a temperature needs a first and a last epoch.
        assert min(1, phase.epochs) <= shorter.epochs <= min(phase.epochs, max(scale * phase.epochs + 0.5, 2))
        assert shorter.epochs >= scale * phase.epochs - 0.5


@every_preset
@few
@any_scale
@example(scale=0.1)
def test_temperatures_start_and_end_where_they_did(kind, name, scale):
    whole, short = map(phases, both(kind, name, scale))
    for phase, shorter in zip(whole, short, strict=True):
        for group in ("alpha_temperature", "beta_temperature"):
            for before, after in ((0, 0), (phase.epochs - 1, shorter.epochs - 1)) if phase.epochs else ():
                expected = getattr(phase, group).at(before, phase.epochs)
                assert getattr(shorter, group).at(after, shorter.epochs) == pytest.approx(expected, rel=1e-9)


@every_preset
@few
@any_scale
@example(scale=0.1)
def test_learning_rates_are_the_same_at_every_share_of_the_run_and_at_its_end(kind, name, scale):
    whole, short = (p.learning_rate for p in both(kind, name, scale))
    if isinstance(whole, Warmup):
        assert isinstance(short, Warmup)
        assert short.epochs == max(1, int(scale * whole.epochs + 0.5))
        whole, short = whole.schedule, short.schedule
    for share in (0, 0.1, 0.25, 0.5, 0.9, 1):  # 1 is the end of the last epoch, where a cosine ends
        assert short.at(share * 10, 10) == pytest.approx(whole.at(share * 600, 600), rel=1e-9)


@every_preset
def test_what_is_no_length_stays(kind, name):
    values = parse_config(CONFIGS[kind], preset_values(kind, name), name).model_dump(mode="json")
    before, after = flattened(values), flattened(shortened(kind, values, 0.1, name))
    lengths = ("epochs", "warmup", "temperature.rate", "diagnostics.every")
    changed = {key for key in before if before[key] != after[key]}
    assert {key for key in changed if not key.endswith(lengths)} == set()
    assert {"epochs", "operation.epochs"} & changed
    assert shortened(kind, values, 1, name) == values


def test_a_tenth_of_dots_reads_like_this():
    short = flattened(shortened("search", preset_values("search", "dots-cifar10"), 0.1, "dots-cifar10"))
    assert [short[f"operation.{key}"] for key in ("epochs", "warmup")] == [4, 2]
    assert [short[f"topology.{key}"] for key in ("epochs", "warmup")] == [4, 2]
    assert short["topology.temperature.rate"] == pytest.approx(0.72**19)


def test_early_stop_windows_and_measurements_are_shortened_too():
    over = {"operation.early_stop": "stable-ranking", "diagnostics.every": 10, "evaluate_every": 5}
    values = merged(preset_values("search", "dots-cifar10"), nested(over))
    short = flattened(shortened("search", values, 0.2, "dots-cifar10"))
    assert [short[f] for f in ("operation.early_stop_epochs", "diagnostics.every", "evaluate_every")] == [2, 2, 1]


@pytest.mark.parametrize("scale", [0, -1, 1.5, float("nan"), float("inf"), "0.1", True, None])
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        shortened("search", {}, scale, "test")


def test_settings_given_beside_a_scale_stand_as_they_are(tmp_path: Path):
    small = {"channels": 2, "train_images": 96, "topology": {"epochs": 7}}
    config = prepare(Request("search", "smoke", "reference", out=tmp_path / "run", scale=0.5, settings=small)).config
    assert (config.operation.epochs, config.operation.warmup) == (3, 1)
    assert (config.topology.epochs, config.topology.warmup) == (7, 1)


def test_a_scaled_run_is_repeated_by_its_configuration_and_gone_on_with_by_its_command(tmp_path: Path):
    out = tmp_path / "run"
    small = {"channels": 2, "train_images": 96}
    asked = Request("search", "smoke-reference", "reference", out=out, resume=True, scale=0.5, settings=small)
    begun = prepare(asked)
    assert not begun.continues
    create_run(out, begun.config).close()
    again = prepare(asked)
    assert again.continues
    assert again.config == begun.config
    # The engine's own preset, where none is named.
    assert prepare(replace(asked, preset=None)).config == begun.config
    with pytest.raises(UsageError, match="begun with other settings"):
        prepare(replace(asked, scale=0.25))
    saved = Request("search", str(out / "config.yaml"), out=tmp_path / "other")
    assert prepare(saved).config == begun.config
