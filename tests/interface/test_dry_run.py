"""A dry run answers soon, however many images and however slow the machine, and says what it looked at."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import numpy as np
import pytest
from commands import TINY, told
from PIL import Image

from dots.run import estimate
from dots_core.data.files import pixels
from dots_core.data.images import STATISTICS_SAMPLE

SETTINGS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More images than are decoded, one of them broken; files of one content are links."""
    root = tmp_path_factory.mktemp("many") / "images"
    noise = np.random.default_rng(0)
    for split, count in (("train", 2500), ("test", 40)):
        for name in ("ant", "bee"):
            folder = root / split / name
            folder.mkdir(parents=True)
            Image.fromarray(noise.integers(0, 255, (8, 8, 3)).astype(np.uint8)).save(folder / "0.png")
            for number in range(1, count):
                (folder / f"{number}.png").hardlink_to(folder / "0.png")
    (root / "train" / "notes.txt").write_text("not an image")
    return root


def dry_run(capsys, data, *more):
    arguments = ("search", "--backend", "reference", "--preset", "smoke-reference", "--data", data, "--dry-run")
    return told(capsys, *arguments, *SETTINGS, *more)


def test_of_many_images_a_sample_is_decoded(many, capsys, monkeypatch, tmp_path):
    opened = []
    whole = pixels.open_image
    for module in ("dots_core.data.files.decoding", "dots_core.data.sources.folder"):
        monkeypatch.setattr(f"{module}.open_image", lambda path: (opened.append(path), whole(path))[1])
    found = dry_run(capsys, many, "--out", tmp_path / "run")
    assert found.code == 0, found.err
    assert len(opened) < STATISTICS_SAMPLE + 300
    assert "5000 train and 80 test images of 8x8 in colour, 2 classes" in found.out
    assert "only samples were decoded" in found.out
    assert "of the" in found.out
    assert "GiB that cpu has" in found.out
    assert not (tmp_path / "run").exists()


def test_it_says_as_json_what_was_found(many, capsys):
    document = json.loads(dry_run(capsys, many, "--json").out)
    assert document["data"]["images"] == {"train": 5000, "test": 80}
    assert document["data"]["classes"] == 2
    assert document["data"]["sampled"] == ["train"]
    assert document["device_memory_bytes"] > 0
    assert all(stage["memory_bytes"] > 0 and stage["seconds"] > 0 for stage in document["stages"])


def test_few_images_are_all_decoded(capsys, tmp_path):
    noise = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            folder = tmp_path / "few" / split / name
            folder.mkdir(parents=True)
            for number in range(30):
                Image.fromarray(noise.integers(0, 255, (8, 8, 3)).astype(np.uint8)).save(folder / f"{number}.png")
    assert json.loads(dry_run(capsys, tmp_path / "few", "--json").out)["data"]["sampled"] == []
    (tmp_path / "few" / "train" / "bee" / "17.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    found = dry_run(capsys, tmp_path / "few")
    assert found.code == 5
    assert "17.png" in found.err


def test_steps_that_take_too_long_are_not_waited_for(capsys, monkeypatch):
    """A machine on which a step takes minutes."""
    monkeypatch.setattr(estimate.Stepper, "step", lambda *_: time.sleep(60))
    monkeypatch.setattr(estimate, "_SECONDS", 0.4)
    monkeypatch.setattr(estimate, "_FEWEST_SECONDS", 0.1)
    begin = time.monotonic()
    found = dry_run(capsys, "digits")
    assert time.monotonic() - begin < 40
    assert found.code == 0, found.err
    assert found.out.count("not timed") == 2
    assert "how long it takes is unknown" in found.out
    assert json.loads(dry_run(capsys, "digits", "--json").out)["seconds"] is None


def test_the_steps_that_were_done_count_though_the_next_takes_too_long(capsys, monkeypatch):
    done, step = [], estimate.Stepper.step

    def slower(self, *arguments):
        done.append(step(self, *arguments))
        if len(done) % 2 == 0:
            time.sleep(60)

    monkeypatch.setattr(estimate.Stepper, "step", slower)
    monkeypatch.setattr(estimate, "_SECONDS", 6.0)
    found = json.loads(dry_run(capsys, "digits", "--json").out)
    assert found["seconds"] > 0


def test_no_thread_is_started_where_the_alarm_may_ring(capsys, monkeypatch):
    """An exception amid a thread's start leaves it neither started nor not."""
    limited, inside, started = estimate._limited, [], []
    start = threading.Thread.start

    @contextlib.contextmanager
    def watched(seconds):
        with limited(seconds):
            inside.append(True)
            yield
            inside.pop()

    def starting(thread):
        started.append(bool(inside))
        start(thread)

    monkeypatch.setattr(estimate, "_limited", watched)
    monkeypatch.setattr(threading.Thread, "start", starting)
    assert dry_run(capsys, "digits").code == 0
    assert started
    assert not any(started)


def test_a_small_batch_stands_for_a_whole_one_that_takes_long(capsys, monkeypatch):
    measured = []

    def step_time(plan, *_):
        measured.append(plan.batch)
        return 1.0

    monkeypatch.setattr(estimate, "_step_time", step_time)
    monkeypatch.setattr(estimate, "_SECONDS", 3.0)
    found = json.loads(dry_run(capsys, "digits", "--json").out)
    assert measured == [4, 4]
    # One second on 4 images is two on 8; 24 of 48 images make 3 steps, all of them 6.
    assert [phase["seconds"] for stage in found["stages"] for phase in stage["phases"]] == [6.0, 12.0]
