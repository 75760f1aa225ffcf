"""Every ablation's record: settings that exist, variants that differ, and the figures the papers print."""

from __future__ import annotations

import json

import pytest

from dots.config.presets import preset_names, setting_text
from dots.study.archive import Archive
from dots.study.catalogue import ablation_name, build, catalogue, defaults
from dots.study.jobs.execute import Executed
from dots.study.questions.ablation import AblationStudy
from dots.study.questions.ablations import ABLATIONS
from dots.study.questions.paths import all_paths, first_cell
from dots.study.results import write_results
from dots.study.scale import Scale, StudyRun, write_cell
from dots.study.small import small_settings
from dots.study.study import Published, Row
from dots_core.errors import DataMissing, UsageError
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import load_genotype


@pytest.mark.parametrize("name", ABLATIONS)
def test_variants_are_different_searches_at_the_papers_scale_and_at_the_small_one(name):
    asked = {**defaults(f"ablation {name}"), "seeds": 2}
    small = build(f"ablation {name}", asked)
    papers = build(f"ablation {name}", {**asked, "preset": "paper", "train_preset": "paper", "data": "digits"})
    searches = {variant.search or name for name, variant in ABLATIONS[name].variants.items()}
    for study in (small, papers):
        study.check()
        runs = study.wave(0, None).runs
        assert {run.name for run in runs} == {f"{search}-search-seed-{seed}" for search in searches for seed in (0, 1)}
        assert len(runs) == 2 * len(searches)
        assert len({run.config().model_dump_json() for run in runs if run.seed == 0}) == len(searches)
    presets = {variant.preset or ABLATIONS[name].preset for variant in ABLATIONS[name].variants.values()}
    assert {run.preset for run in papers.wave(0, None).runs} == presets
    assert all(not set(run.settings) & {"data", "channels"} for run in papers.wave(0, None).runs)


@pytest.mark.parametrize("name", ABLATIONS)
def test_variants_that_share_a_search_ask_for_the_same_one(name):
    shared = {}
    for variant in ABLATIONS[name].variants.values():
        if variant.search:
            asked = (variant.preset, dict(variant.settings), dict(variant.small))
            assert shared.setdefault(variant.search, asked) == asked


@pytest.mark.parametrize("preset", [name for name in preset_names("search") if "imagenet" not in name])
def test_every_preset_has_a_small_scale_that_keeps_its_method(preset):
    asked = StudyRun("small", "search", preset, 0, small_settings(preset)).config()
    whole = StudyRun("whole", "search", preset, 0, data="digits").config()
    assert (asked.data, asked.train_images) == ("digits", 0)
    assert asked.operation.epochs + asked.topology.epochs <= 12
    assert max(asked.operation.layers, asked.topology.layers if asked.topology.epochs else 0) <= 4
    assert bool(asked.topology.epochs) == bool(whole.topology.epochs)
    assert bool(asked.operation.warmup) == bool(whole.operation.warmup)
    for stage in ("operation", "topology"):
        # Of the method, all but lengths, depth and how fast a temperature falls.
        ours, theirs = (
            getattr(config, stage).model_dump(
                exclude={"epochs", "warmup", "layers", "temperature", "architecture_learning_rate"}
            )
            for config in (asked, whole)
        )
        assert ours == theirs
        assert getattr(asked, stage).temperature.schedule == getattr(whole, stage).temperature.schedule
    assert asked.space == whole.space


def test_the_variants_that_stand_on_their_own_presets_take_no_other():
    asked = {**defaults("ablation order"), "preset": "dots-cifar10"}
    with pytest.raises(UsageError, match="--preset paper"):
        build("ablation order", asked).check()


def test_darts_is_darts_where_a_topology_search_is_added_to_it():
    asked = {**defaults("ablation topology-search"), "preset": "paper", "train_preset": "paper", "data": "digits"}
    runs = {run.name: run.config() for run in build("ablation topology-search", asked).wave(0, None).runs}
    own = StudyRun("own", "search", "darts-v1-cifar10", 0, data="digits").config()
    darts, searched, dots = (runs[f"{name}-search-seed-0"] for name in ("DARTS", "DARTS-topology", "groups-topology"))
    assert darts.operation == own.operation
    assert searched.operation == own.operation
    assert darts.architecture == searched.architecture == own.architecture
    assert (darts.topology.epochs, searched.space.groups) == (0, "single")
    # Added is the topology search of the same paper, but for the rates of α and β.
    (ours, theirs) = (config.topology.model_dump(exclude={"architecture_learning_rate"}) for config in (searched, dots))
    assert ours == theirs
    rate = searched.topology.architecture_learning_rate
    assert rate == dots.architecture.learning_rate


@pytest.mark.parametrize("name", ABLATIONS)
def test_results_name_our_protocol_and_the_papers_beside_the_figures(name, tmp_path):
    study = build(f"ablation {name}", defaults(f"ablation {name}"))
    record = write_results(study, "dots study", Executed((), {}, ()), tmp_path)
    assert record["protocol"] == study.protocol
    assert "one search" in study.protocol
    expected = {
        "DOTS (Gu": "four searches with different seeds, each with",
        "the earlier version": "trained five times",
        "TopoNAS": "best cell trained ten times",
        "eDARTS, §IV-B": "five searches",
        "eDARTS, §IV-C": "ten searches",
    }
    (wanted,) = (told for start, told in expected.items() if study.source.startswith(start))
    wanted = {"epochs": "three searches", "edge-scale": "no figures"}.get(name, wanted)
    assert wanted in record["paper_protocol"]
    above = (tmp_path / "results.md").read_text().partition("| paper (%) |")[0]
    assert f"Ours: {study.protocol}" in above
    assert f"The paper: {record['paper_protocol']}" in above


def test_a_cell_that_is_no_longer_the_found_one_is_written_again_or_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    before, after = (first_cell(path) for path in all_paths()[:2])
    runs = ["a-seed-0", "a-seed-1"]
    assert write_cell(tmp_path, "a", before, runs) == "cells/a.json"
    write_cell(tmp_path, "a", after, runs)
    assert load_genotype(tmp_path / "cells" / "a.json") == after
    (tmp_path / "cells" / "a.json").write_text("{")
    write_cell(tmp_path, "a", after, runs)
    assert load_genotype(tmp_path / "cells" / "a.json") == after
    (tmp_path / "runs" / "a-seed-1").mkdir()
    write_cell(tmp_path, "a", after, runs)
    with pytest.raises(UsageError, match=r"cells/a\.json .*runs/a-seed-1 began with it; delete both"):
        write_cell(tmp_path, "a", before, runs)
    assert load_genotype(tmp_path / "cells" / "a.json") == after


def test_cells_of_one_search_are_trained_at_every_depth(tmp_path):
    class Done:
        def done(self, name):
            return True

    study = AblationStudy(ABLATIONS["training-depth"], Scale("paper", "paper", data="digits", seeds=2))
    searches = study.wave(0, None).runs
    assert len(searches) == 5 * 2
    trained = {run.name: run for run in study.wave(1, Done()).runs}
    assert len(trained) == 25 * 2
    at_12 = trained["fixed-MiLe-12-train-seed-1"]
    assert (at_12.cell, at_12.seed, at_12.preset) == (
        "runs/fixed-MiLe-search-seed-1/genotype.json",
        1,
        "toponas-cifar",
    )
    assert (at_12.config().layers, at_12.config().channels) == (12, 32)
    darts = trained["DARTS-2nd-20-train-seed-0"].config()
    assert (darts.layers, darts.channels) == (20, 36)


def test_cells_are_derived_after_the_epochs_named(tmp_path):
    study = AblationStudy(ABLATIONS["epochs"], Scale("", ""))
    study.check()
    (tmp_path / "runs").mkdir()
    paths = all_paths()
    for place, run in enumerate(study.wave(0, None).runs):
        folder = tmp_path / "runs" / run.name
        folder.mkdir()
        rows = [
            {"epoch": n, "genotype": first_cell(paths[10 * place + n]).to_record()}
            for n in range(1, run.config().operation.epochs + 1)
        ]
        (folder / "architecture.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "summary.json").touch()
    wave = study.wave(1, Archive(tmp_path))
    assert [run.row for run in wave.runs] == list(ABLATIONS["epochs"].variants)
    for run in wave.runs:
        method, epoch = run.row.rsplit("-", 1)
        derived = first_cell(paths[10 * (method == "fixed-DARTS") + int(epoch) // 10])
        assert load_genotype(tmp_path / run.cell) == derived


def test_a_search_shorter_than_the_epoch_of_a_variant_is_refused():
    asked = {**defaults("ablation epochs"), "preset": "paper", "data": "digits", "settings": {"operation.epochs": 40}}
    with pytest.raises(UsageError, match="'DARTS-2nd-50' derives after epoch 50, but its search has 40"):
        build("ablation epochs", asked).check()


def test_skip_connections_are_counted_over_the_cells_of_all_seeds(tmp_path):
    study = AblationStudy(ABLATIONS["subset"], Scale("", "", seeds=2))
    skips = (("skip_connect", 0), ("sep_conv_3x3", 1))
    plain = (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))
    for seed, (normal, reduce) in enumerate([((skips, plain), (plain, plain)), ((skips, skips), (skips, plain))]):
        folder = tmp_path / "runs" / f"sparse-search-seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "genotype.json").write_text(Genotype(normal, (2, 3), reduce, (2, 3)).to_json())
        (folder / "summary.json").touch()
    row = Row("sparse", ("a", "b"), (0.5, 0.6), 1.0, 1.0, 2)
    summary = study.summarise({"sparse": row}, Archive(tmp_path))
    assert summary.findings == {"skip connections": {"sparse": {"normal": 3, "reduce": 1, "cells": 2}}}
    assert "| sparse | 3 | 1 | 2 | 5 and 11 in five runs |" in summary.table.markdown()
    assert set(summary.pictures) == {"ablation.svg"}


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
    table = ABLATIONS["operation-search"].variants
    assert [p.text() for p in table["pc-darts+dots"].paper] == ["97.45 ± 0.06, CIFAR-10", "82.36, CIFAR-100"]
    assert [p.text() for p in ABLATIONS["training-depth"].variants["arbitrary-MiLe-12"].paper] == [
        "97.40 (printed: error 2.60), CIFAR-10, 2 M",
        "74.60 (printed: error 25.40), ImageNet, 4.3 M",
    ]
    # Mean and deviation of the three runs: (2.71 + 2.69 + 2.75) / 3 = 2.7167.
    assert [p.text() for p in ABLATIONS["epochs"].variants["fixed-DARTS-50"].paper] == [
        "97.28 ± 0.03 (printed: error 2.71, 2.69, 2.75), CIFAR-10, 1.87 M"
    ]


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
