"""The 180 topologies, each once, whatever happens in between."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, product

import pytest
from stand_in import accuracy_of, carry_out, events

from dots.study.directory import create
from dots.study.jobs.execute import execute
from dots.study.questions.paths import PathStudy, all_paths, first_cell, path_name, unified_cell
from dots.study.results import write_results
from dots.study.scale import Scale
from dots_core.errors import UsageError

STUDY = PathStudy(Scale("smoke", "smoke"))


class Killed(BaseException):
    """Ends a study where nothing can answer."""


def run(study, folder, runner=carry_out):
    create(folder, "paths", {})
    executed = execute(study, folder, runner, lambda: False)
    return write_results(study, "dots study paths", executed, folder)


def test_there_are_exactly_180_topologies_each_once():
    paths = all_paths()
    assert len(paths) == len(set(paths)) == 1 * 3 * 6 * 10
    assert set(paths) == set(product(*(combinations(range(n), 2) for n in (2, 3, 4, 5))))
    assert len({path_name(path) for path in paths}) == 180
    cells = [first_cell(path) for path in paths]
    assert len(set(cells)) == 180
    assert {operation for cell in cells for node in cell.normal for operation, _ in node} == {"sep_conv_3x3"}
    assert len({cell.reduce for cell in cells}) == 1
    assert {operation for node in cells[0].reduce for operation, _ in node} == {"max_pool_3x3"}
    unified = unified_cell(paths[77])
    assert unified.normal == unified.reduce == cells[77].normal


def test_the_whole_study_trains_180_and_the_best_20_again_each_once(tmp_path):
    record = run(STUDY, tmp_path)
    trained = events(tmp_path)
    assert len(trained) == 200
    assert all(names == ["started"] for names in trained.values())
    scores = [(accuracy_of(f"path-{path_name(path)}-seed-0"), path_name(path)) for path in all_paths()]
    best = sorted(range(180), key=lambda n: (-scores[n][0], n))[:20]
    assert {name for name in trained if name.startswith("unified")} == {f"unified-{scores[n][1]}-seed-0" for n in best}
    assert record["complete"]
    assert len(record["rows"]) == 200
    assert record["findings"]["phase 1"] == {
        "best": f"path-{scores[best[0]][1]}",
        "best_mean": max(scores)[0],
        "worst": record["findings"]["phase 1"]["worst"],
        "worst_mean": min(scores)[0],
        "topologies": 180,
    }
    assert len((tmp_path / "commands.txt").read_text().splitlines()) == 200
    for name in ("phase-1.svg", "phase-2.svg"):
        assert (tmp_path / name).read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize("survivors", [73, 185])
def test_killed_in_the_middle_and_resumed_none_is_trained_twice(survivors, tmp_path):
    left = survivors

    def killed(jobs):
        nonlocal left
        for job in jobs:
            if left == 0:
                raise Killed
            left -= 1
            carry_out([job])
        return {}

    with pytest.raises(Killed):
        run(STUDY, tmp_path / "killed", killed)
    assert len(events(tmp_path / "killed")) == survivors
    resumed = run(STUDY, tmp_path / "killed")
    trained = events(tmp_path / "killed")
    assert len(trained) == 200
    assert all(names == ["started"] for names in trained.values())
    assert resumed["complete"]
    assert resumed["rows"] == json.loads((tmp_path / "killed" / "results.json").read_text())["rows"]


def test_scores_are_means_over_seeds_and_the_counts_are_settings(tmp_path):
    study = replace(STUDY, scale=replace(STUDY.scale, seeds=3, seed=4), topologies=12, best=2)
    record = run(study, tmp_path)
    assert len(record["rows"]) == 14
    for row in record["rows"]:
        assert row["runs"] == [f"{row['name']}-seed-{seed}" for seed in (4, 5, 6)]
        values = [accuracy_of(name) for name in row["runs"]]
        assert row["mean"] == pytest.approx(sum(values) / 3)
        assert row["deviation"] == pytest.approx((sum((v - sum(values) / 3) ** 2 for v in values) / 2) ** 0.5)
    first = {row["name"][5:]: row["mean"] for row in record["rows"][:12]}
    second = {row["name"][8:] for row in record["rows"][12:]}
    assert min(first[name] for name in second) >= max(value for name, value in first.items() if name not in second)


def test_a_gap_in_phase_1_keeps_phase_2_waiting_and_is_told(tmp_path):
    study = replace(STUDY, topologies=3, best=1)
    missing = f"path-{path_name(all_paths()[1])}-seed-0"

    def failing(jobs):
        carry_out([job for job in jobs if job.name != missing])
        return {missing: "the loss became nan"}

    record = run(study, tmp_path, failing)
    assert not record["complete"]
    assert record["missing"] == [missing, "phase 2, the best 1, which needs all of phase 1"]
    page = (tmp_path / "results.md").read_text()
    assert f"- {missing}: the loss became nan" in page
    assert "0 of 1" in page
    assert run(study, tmp_path)["complete"]


@pytest.mark.parametrize("counts", [{"topologies": 0}, {"topologies": 181}, {"topologies": 5, "best": 6}, {"best": -1}])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(UsageError, match=r"--(topologies|best)"):
        replace(STUDY, **counts).check()
