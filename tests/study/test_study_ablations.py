"""Every ablation's record: settings that exist, variants that differ, and the figures the papers print."""

from __future__ import annotations

import pytest

from dots.study.ablation import AblationStudy
from dots.study.ablations import ABLATIONS
from dots.study.catalogue import ablation_name, build, catalogue, defaults
from dots.study.scale import Scale, StudyRun, setting_text
from dots.study.study import Published
from dots_core.errors import DataMissing, UsageError


@pytest.mark.parametrize("name", ABLATIONS)
def test_variants_are_different_searches_at_the_papers_scale_and_at_the_small_one(name):
    asked = {**defaults(f"ablation {name}"), "seeds": 2}
    small = build(f"ablation {name}", asked)
    papers = build(f"ablation {name}", {**asked, "preset": ABLATIONS[name].preset, "data": "digits"})
    for study in (small, papers):
        study.check()
        runs = study.wave(0, None).runs
        assert len({run.name for run in runs}) == 2 * len(ABLATIONS[name].variants)
        assert {run.seed for run in runs} == {0, 1}


def test_a_preset_on_which_variants_coincide_is_refused():
    # dots-cifar10 anneals no operation search, so annealing it or not is the same there.
    asked = {**defaults("ablation annealing"), "preset": "dots-cifar10", "data": "digits"}
    with pytest.raises(UsageError, match=r"'neither' and 'group-only' are the same search.*dots-2020-cifar10"):
        build("ablation annealing", asked).check()


def test_a_setting_the_ablation_is_about_is_refused():
    asked = {**defaults("ablation levels"), "settings": {"topology.level": "bi"}}
    with pytest.raises(UsageError, match=r"topology\.level"):
        build("ablation levels", asked).check()


def test_a_preset_without_images_needs_data():
    with pytest.raises(DataMissing, match="--data"):
        build("ablation levels", {**defaults("ablation levels"), "preset": "dots-2020-cifar10"}).check()


def test_the_figures_are_those_printed():
    text = {name: [p.text() for p in v.paper] for name, v in ABLATIONS["levels"].variants.items()}
    assert text["BL-OL"] == ["97.55 ± 0.04 (printed: error 2.45), CIFAR-10"]
    assert [v.paper[0].value for v in ABLATIONS["annealing"].variants.values()] == [2.76, 2.70, 2.57, 2.45]
    groups = [(p.value, p.data) for p in ABLATIONS["groups"].variants["Group-V2"].paper]
    assert groups == [(97.51, "CIFAR-10"), (83.72, "CIFAR-100")]
    assert Published(2.6, measure="error").accuracy == 97.4


def test_all_studies_are_listed_and_a_misspelt_ablation_gets_a_hint():
    assert set(catalogue()) == {"rank-correlation", "paths", *(f"ablation {name}" for name in ABLATIONS)}
    with pytest.raises(UsageError, match="did you mean 'levels'"):
        ablation_name("level")


def test_the_training_of_a_variant_takes_the_cell_its_search_found(tmp_path):
    study = AblationStudy(ABLATIONS["edge-scale"], Scale("smoke", "smoke", seeds=2))

    class Half:
        def done(self, name):
            return name == "scaled-search-seed-1"

    wave = study.wave(1, Half())
    assert [(run.name, run.cell, run.seed, run.row) for run in wave.runs] == [
        ("scaled-train-seed-1", "runs/scaled-search-seed-1/genotype.json", 1, "scaled")
    ]
    assert len(wave.waiting) == 3


@pytest.mark.parametrize("value", [1, 0.1, 1e-5, 1e22, True, None, "1e-3", "single", "yes", "a: b", "", [1, 2], "x y"])
def test_a_setting_survives_its_text(value):
    import yaml

    read = yaml.safe_load(setting_text(value))
    assert read == value or float(read) == value


def test_a_runs_arguments_name_everything(tmp_path):
    run = StudyRun("a", "train", "cifar", 3, {"epochs": 2}, "row", "cells/a.json", "digits", "torch", "cpu")
    assert run.arguments(tmp_path) == [
        "train", "--preset", "cifar", "--backend", "torch", "--device", "cpu", "--data", "digits", "--seed", "3",
        "--cell", f"{tmp_path}/cells/a.json", "--set", "epochs=2", "--out", f"{tmp_path}/runs/a",
        "--resume", "--quiet",
    ]  # fmt: skip
