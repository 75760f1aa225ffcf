"""The images of a run: chosen by its settings, told to the user, and described in its directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dots.config.plan import plan_of
from dots.config.presets import preset_values
from dots.config.schema import CONFIGS, parse_config
from dots.console.progress import ConsoleProgress, NoProgress
from dots.run.next_step import training_after
from dots.run_directory.images import images_of, images_record, write_images_record
from dots.run_directory.layout import config_text
from dots_core.data import ImageData, from_arrays
from dots_core.errors import UsageError
from dots_core.storage.reading import read_json


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Images with a split for validation, labels that are counted from one, and one of them blank."""
    images = noise(9)
    images[4] = 7
    path = tmp_path / "mine.npz"
    labels = np.arange(9) % 3 + 1
    np.savez(path, train_images=images, train_labels=labels, val_images=images[:6], val_labels=labels[:6])
    return path


def config_with(**settings: object):
    return parse_config(CONFIGS["search"], {**preset_values("search", "smoke"), **settings}, "test")


def record_of(path: Path) -> dict:
    return images_record(images_of(config_with(data=str(path))))


def test_class_names_size_mean_and_deviation_are_recorded(arrays: Path):
    record = record_of(arrays)
    scaled = np.load(arrays)["train_images"].reshape(-1, 3) / 255
    assert (record["format"], record["version"], record["name"]) == ("dots-data", 1, "mine")
    assert record["classes"] == ["1", "2", "3"]
    assert (record["height"], record["width"], record["channels"]) == (6, 5, 3)
    assert record["mean"] == pytest.approx(scaled.mean(0), rel=1e-6)
    assert record["std"] == pytest.approx(scaled.std(0), rel=1e-6)
    assert record["images"] == {"train": 9, "test": 6}
    assert record["notes"] == [
        "test images are val_images",
        "labels 1 to 3 with gaps: 3 classes, named by their numbers",
    ]
    assert record["warnings"] == [
        "images of one colour throughout: 1 (train image 4); replace or delete them",
        "images of one colour throughout: 1 (test image 4); replace or delete them",
    ]


def test_the_record_is_strict_json_of_the_same_bytes_and_written_once(arrays: Path, tmp_path: Path):
    data = images_of(config_with(data=str(arrays)))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_images_record(tmp_path / name, images_of(config_with(data=str(arrays))))
    first, second = ((tmp_path / name / "data.json").read_bytes() for name in "ab")
    assert first == second
    assert read_json(tmp_path / "a" / "data.json") == images_record(data)
    write_images_record(tmp_path / "a", from_arrays(noise(2), [0, 1], noise(2), [0, 1]))
    assert (tmp_path / "a" / "data.json").read_bytes() == first


def test_what_was_passed_over_is_recorded(tmp_path: Path):
    from PIL import Image

    for number, place in enumerate(f"{part}/{name}" for part in ("train", "test") for name in ("cat", "dog")):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(noise(1, number)[0]).save(tmp_path / place / "0.png")
    (tmp_path / "train" / "cat" / "notes.txt").touch()
    assert record_of(tmp_path)["passed_over"] == [
        {"reason": "with an unknown suffix", "count": 1, "examples": ["train/cat/notes.txt"]}
    ]


@pytest.mark.parametrize(("observer", "lines"), [(ConsoleProgress, 3), (NoProgress, 2)])
def test_one_line_tells_of_the_loading_and_one_of_each_doubt(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], observer: Callable[[Path], NoProgress], lines: int
):
    observer(tmp_path).images(images_of(config_with(data=str(arrays))))
    captured = capsys.readouterr()
    told = captured.err.splitlines()
    assert captured.out == ""
    assert len(told) == lines
    assert all("warning: images of one colour" in line for line in told[-2:])
    if lines == 3:
        assert told[0] == (
            "mine: 9 train and 6 test images of 5x6 in colour, 3 classes; test images are val_images; "
            "labels 1 to 3 with gaps: 3 classes, named by their numbers"
        )


def test_settings_of_the_test_images_change_no_plan_and_may_be_missing_from_old_files():
    plain, chosen = config_with(), config_with(test_share=0.25, test_seed=3)
    assert plan_of(plain).digest == plan_of(chosen).digest
    text = config_text(plain)
    old = {key: value for key, value in plain.model_dump(mode="json").items() if not key.startswith("test_s")}
    assert parse_config(CONFIGS["search"], old, "old file") == plain
    assert "test_share: null" in text


@pytest.mark.parametrize("share", [0, 1, -0.1, "half"])
def test_impossible_share_is_refused(share: object):
    with pytest.raises(UsageError, match="test_share"):
        config_with(test_share=share)


def test_images_from_python_keep_their_own_test_images():
    data = from_arrays(noise(4), [0, 1, 0, 1], noise(2), [0, 1])
    assert images_of(config_with(), data) is data
    with pytest.raises(UsageError, match="test_share=null"):
        images_of(config_with(test_share=0.2), data)


def test_more_images_than_there_are_is_said(arrays: Path):
    name = {"data": str(arrays)}
    assert not any("are used" in told for told in images_of(config_with(**name, train_images=9)).warnings)
    told = images_of(config_with(**name, train_images=5000, test_images=7)).warnings
    assert "train_images is 5,000, but there are 9: all are used" in told
    assert "test_images is 7, but there are 6: all are used" in told


def test_the_proposed_training_is_tested_on_the_images_of_its_search(tmp_path: Path):
    images = noise(20)
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=images, y_train=np.arange(20) % 2)
    config = config_with(data=str(path), test_share=0.2, test_seed=5)
    data: ImageData = images_of(config)
    settings = training_after(config, data, tmp_path / "run").settings
    assert (settings["test_share"], settings["test_seed"]) == (0.2, 5)
    training = parse_config(
        CONFIGS["train"], {**preset_values("train", "cifar"), "data": str(path), **settings_of_images(settings)}, "test"
    )
    assert images_of(training).fingerprint == data.fingerprint
    assert json.dumps(images_record(data))


def settings_of_images(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if key.startswith("test_s")}
