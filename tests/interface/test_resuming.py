"""Going on with runs: images that moved, files changed or gone, settings that differ, and every remedy."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dots
from dots.cli.main import app
from dots.config.plan import plan_of
from dots.config.schema import SearchConfig
from dots.run import api
from dots.run_directory.layout import RunExists, read_run_config
from dots_core.errors import CorruptFile, DataMissing, DotsError, UsageError
from dots_core.search.runner import Runner
from dots_core.search.saving import Saving

ENGINE = "reference"
SETTINGS = {
    "image_size": 8, "batch": 8, "channels": 2, "stem_multiplier": 1, "train_images": 16, "test_images": 8,
    "space.nodes": 1, "operation.epochs": 1, "operation.warmup": 0, "operation.layers": 2,
    "topology.epochs": 1, "topology.warmup": 0, "topology.layers": 2, "diagnostics.discretisation_gap": False,
}  # fmt: skip


def pixels(split: str) -> np.ndarray:
    return np.random.default_rng(len(split)).integers(0, 256, (8, 8, 8, 3), np.uint8)


def image_folder(root: Path) -> Path:
    for split, repeats in (("train", 2), ("test", 1)):
        for label, name in enumerate("ab"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number, image in enumerate(np.concatenate([pixels(split)] * repeats)[label::2]):
                Image.fromarray(image).save(folder / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A finished search on a folder of images."""
    root = tmp_path_factory.mktemp("begun")
    data = image_folder(root / "images")
    search(root / "run", preset="smoke-reference", data=data, settings=SETTINGS, resume=False)
    return root


@pytest.fixture
def copied(begun, tmp_path):
    """A copy of it, whose configuration names its own images."""
    shutil.copytree(begun, tmp_path / "copy")
    config = tmp_path / "copy" / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(begun / "images"), str(tmp_path / "copy" / "images")))
    return tmp_path / "copy"


def search(out: Path, resume: bool = True, **more) -> dots.SearchResult:
    return dots.search(backend=ENGINE, out=out, resume=resume, verbose=False, **more)


def halve(run: Path) -> None:
    """Take a run back to its last checkpoint but one, before its last epoch."""
    shutil.rmtree(sorted((run / "checkpoints").iterdir())[-1])
    for name in ("summary.json", "genotype.json", "report.html"):
        (run / name).unlink()


def contents(run: Path) -> dict[str, bytes]:
    """What two runs of the same plan on the same images have in common."""
    apart = {"events.jsonl", ".lock", "config.yaml", "report.html"}
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and path.name not in apart)
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def follow(error: DotsError, begin: str, **fill: Path) -> None:
    """Do what a message says after some words."""
    (command,) = re.findall(rf"{begin}: (dots [^;]+)", str(error))
    for name, value in fill.items():
        command = command.replace(name, str(value))
    app(shlex.split(command)[1:], standalone_mode=False)


class TestImagesThatMoved:
    def test_a_run_goes_on_where_they_are_now(self, copied, begun):
        run, now = copied / "run", copied / "elsewhere" / "pictures"
        halve(run)
        now.parent.mkdir()
        (copied / "images").rename(now)
        with pytest.raises(DataMissing, match=r"images: the images are not there; if they have moved") as refused:
            search(run)
        follow(refused.value, "say where they are now", PLACE=now)
        assert contents(run) == contents(begun / "run")
        assert read_run_config(run).data == str(now)
        search(run)

    def test_other_images_are_refused_and_the_run_goes_on_with_its_own(self, copied, begun):
        run = copied / "run"
        halve(run)
        other = shutil.copytree(copied / "images", copied / "other")
        Image.fromarray(pixels("x")[0]).save(other / "train" / "a" / "00.png")
        before = contents(run)
        with pytest.raises(CorruptFile, match=r"other images than those of .*other .*by --data"):
            search(run, data=other)
        assert contents(run) == before
        assert read_run_config(run).data == str(copied / "images")
        search(run, data=copied / "images")
        assert contents(run) == contents(begun / "run")

    def test_only_its_own_are_told_in_its_directory(self, copied, begun, monkeypatch):
        """A record of images that were refused, or given before the run began with others, would be believed."""
        run, other = copied / "run", copied / "other"
        shutil.copytree(copied / "images", other)
        for split in ("train", "test"):
            (other / split / "b").rename(other / split / "c")
        (run / "data.json").unlink()
        with pytest.raises(CorruptFile, match="other images"):
            search(run, data=other)
        assert not (run / "data.json").exists()
        search(run)
        assert contents(run) == contents(begun / "run")

        shutil.rmtree(run / "checkpoints")
        for name in ("metrics.jsonl", "architecture.jsonl", "summary.json", "genotype.json"):
            (run / name).unlink()
        search(run, data=other)
        assert json.loads((run / "data.json").read_text())["classes"] == ["a", "c"]

    def test_the_same_images_in_another_form_do(self, copied, begun):
        """In memory, from Python, in an .npz file: the location is not what tells images apart."""
        run = copied / "run"
        halve(run)
        from dots_core.data import load

        folder = load(copied / "images", 8)
        arrays = [array for split in (folder.train, folder.test) for array in (split.images, split.labels)]
        given = dots.from_arrays(*arrays, classes=["a", "b"], name="mine")
        search(run, data=given)
        assert contents(run) == contents(begun / "run")
        assert read_run_config(run).data == "python:mine"
        with pytest.raises(DataMissing, match=r"pass the same again as data=, or name a place .* by --data"):
            search(run)
        search(run, data=dots.from_arrays(*arrays, classes=["a", "b"], name="yours"))
        search(run, data=copied / "images")
        assert read_run_config(run).data == str(copied / "images")


def test_a_plan_does_not_know_where_images_lie():
    digests = {plan_of(SearchConfig(data=data)).digest for data in (None, "digits", "/old/disk", "python:arrays")}
    assert len(digests) == 1


class TestFilesBesideACheckpoint:
    @pytest.mark.parametrize("name", ["metrics.jsonl", "architecture.jsonl"])
    @pytest.mark.parametrize("damage", ["edited", "truncated", "gone"])
    def test_are_refused_as_they_were_not_written_until_put_back(self, copied, begun, name, damage):
        run = copied / "run"
        content = (run / name).read_bytes()
        if damage == "edited":
            first = content.index(b'"epoch": 1')
            (run / name).write_bytes(content[:first] + b'"epoch": 7' + content[first + 10 :])
        elif damage == "truncated":
            (run / name).write_bytes(content[: content.index(b"\n") + 1])
        else:
            (run / name).unlink()
        before = contents(run)
        with pytest.raises(CorruptFile, match=rf"{name} (is not as the run wrote it|has \d+ bytes)") as refused:
            search(run)
        assert "put the file back as it was, or start a new run with the config.yaml" in str(refused.value)
        assert contents(run) == before
        (run / name).write_bytes(content)
        search(run)
        assert contents(run) == contents(begun / "run")

    def test_what_was_written_after_the_checkpoint_is_not_looked_at(self, copied, begun):
        run = copied / "run"
        halve(run)
        rows = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (run / "metrics.jsonl").write_bytes(rows[0] + b"half a ro")
        search(run)
        assert contents(run) == contents(begun / "run")


class TestCheckpointsThatAreGone:
    @pytest.mark.parametrize(
        "left", ["metrics.jsonl", "architecture.jsonl", "genotype.json", "summary.json", "best", "last"]
    )
    def test_a_run_is_not_begun_over_anything_it_left(self, copied, left):
        run = copied / "run"
        for path in run.iterdir():
            if path.name not in ("run.json", "config.yaml", left):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (run / left).touch()
        before = contents(run)
        with pytest.raises(CorruptFile, match=rf"checkpoints holds no checkpoint, but the run has had one \({left}"):
            search(run)
        assert contents(run) == before

    def test_both_remedies_lead_on(self, copied, begun):
        run = copied / "run"
        (run / "checkpoints").rename(copied / "saved")
        with pytest.raises(CorruptFile, match=r"start a new run with (\S+config.yaml) as the preset"):
            search(run)
        search(copied / "anew", preset=str(run / "config.yaml"))
        assert contents(copied / "anew") == contents(begun / "run")
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        (copied / "saved").rename(run / "checkpoints")
        search(run)
        assert contents(run) == contents(begun / "run")

    @pytest.mark.parametrize(("part", "moment"), [(Runner, "_save"), (Saving, "begin_files")])
    def test_a_run_that_never_got_further_is_begun(self, copied, begun, monkeypatch, part, moment):
        """Killed before its first checkpoint, or right after it."""
        run = copied / "new"

        def killed(*_):
            raise KeyboardInterrupt

        arguments = {"preset": str(copied / "run" / "config.yaml")}
        with monkeypatch.context() as patch:
            patch.setattr(part, moment, killed)
            with pytest.raises(KeyboardInterrupt):
                search(run, **arguments)
        assert not (run / "metrics.jsonl").exists()
        search(run)
        assert contents(run) == contents(begun / "run")


class TestOtherSettings:
    def test_a_finished_run_is_not_lengthened_but_a_new_one_started(self, copied, monkeypatch):
        monkeypatch.chdir(copied)
        before = contents(copied / "run")
        with pytest.raises(
            UsageError, match=r"run is finished.*neither lengthened.*operation.epochs: 1 → 2"
        ) as refused:
            search(Path("run"), settings={"operation.epochs": 2})
        assert "--resume" not in str(refused.value)
        follow(refused.value, "start a new run")
        assert contents(copied / "run") == before
        anew = read_run_config(copied / "run-2")
        assert anew.operation.epochs == 2
        assert anew.data == str(copied / "images")
        assert (copied / "run-2" / "summary.json").is_file()

    def test_an_unfinished_run_is_gone_on_with_as_it_was_begun(self, copied, begun):
        run = copied / "run"
        halve(run)
        with pytest.raises(UsageError, match=r"run was begun with other settings \(seed: 0 → 9\)") as refused:
            search(run, seed=9)
        follow(refused.value, "go on as it was begun")
        assert contents(run) == contents(begun / "run")

    def test_a_repeated_command_is_told_to_go_elsewhere(self, copied):
        with pytest.raises(UsageError, match=r"and \d+ more\); start a new run: give the same command with --out") as e:
            search(copied / "run", preset="dots-cifar10")
        assert str(e.value).endswith("run-2")
        assert len(str(e.value)) < 1200

    def test_another_cell_is_named_in_the_command(self, begun, tmp_path):
        train = {"backend": ENGINE, "verbose": False, "out": tmp_path / "t", "resume": True}
        from dots.run.api import Request, prepare
        from dots.run_directory.new import create_run

        settings = dots.config.presets.nested({"image_size": 8, "channels": 2, "layers": 2, "epochs": 1, "batch": 8})
        request = Request("train", "smoke", ENGINE, data=begun / "images", cell="DARTS_V2", settings=settings)
        create_run(tmp_path / "t", prepare(request).config).close()
        with pytest.raises(UsageError, match=r"\(cell\).* --cell DARTS_V1 .*--out") as refused:
            dots.train("DARTS_V1", **train)
        assert "--preset" in str(refused.value)


def test_threads_that_search_at_once_each_find_what_one_alone_finds(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found: list[dots.SearchResult | BaseException] = []

    def work():
        try:
            arguments = {"preset": "smoke-reference", "data": begun / "images", "settings": SETTINGS}
            found.append(dots.search(backend=ENGINE, verbose=False, **arguments))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.run.name for result in found) == [f"search-smoke-reference-{n}" for n in range(1, 5)]
    for result in found:
        assert contents(result.run) == contents(begun / "run")
        assert json.loads((result.run / "summary.json").read_text())["metrics"] == result.metrics


@pytest.mark.parametrize("ended", [True, False], ids=["another's has ended", "another's goes on"])
def test_a_run_that_another_began_meanwhile_is_gone_on_with_once_it_is_free(tmp_path, monkeypatch, ended):
    """Both were given --resume, and neither found a run."""
    out, create, begun = tmp_path / "run", api.create_run, []

    def quicker(path, config):
        if not begun:
            begun.append(create(path, config))
            if ended:
                begun[0].close()
        return create(path, config)

    monkeypatch.setattr(api, "create_run", quicker)
    if ended:
        search(out, preset="smoke-reference", settings=SETTINGS, resume=True)
        assert (out / "summary.json").is_file()
        return
    with pytest.raises(RunExists, match="another process or thread is running"):
        search(out, preset="smoke-reference", settings=SETTINGS, resume=True)
    assert sorted(path.name for path in out.iterdir()) == [".lock", "config.yaml", "run.json"]
    begun[0].close()


def test_a_run_that_cannot_be_read_is_not_told_as_none(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*run\.json: Is a directory"):
        read_run_config(tmp_path)
    with pytest.raises(UsageError, match=r"it has no run\.json"):
        read_run_config(tmp_path / "run.json")
