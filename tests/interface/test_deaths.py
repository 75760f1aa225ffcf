"""A process that died of a signal is reported in one line, with the layer it died of."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from out_of_tree import DYING, install

from dots.cli.doctor import examine
from dots.config.presets import preset_values
from dots.config.schema import CONFIGS, parse_config
from dots.run.deaths import run_died_at
from dots.run_directory.images import images_of, write_images_record
from dots.run_directory.new import create_run


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is installed, for this process and those it starts."""
    for key, value in install(tmp_path / "site", "dying", DYING).items():
        monkeypatch.setenv(key, value)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.mark.usefixtures("dying")
def test_doctor_names_the_layer_an_engine_dies_of() -> None:
    (report,) = examine("dying")
    assert not report["ok"]
    assert report["problem"].startswith(
        "its process was killed by SIGSEGV; run layer by layer, it was killed by SIGSEGV at: shifted pair 8→8, "
    )
    assert "\n" not in report["problem"]


@pytest.mark.usefixtures("dying")
def test_of_a_run_the_layer_is_named_too(tmp_path: Path) -> None:
    config = parse_config(CONFIGS["search"], {**preset_values("search", "smoke"), "backend": "dying"}, "test")
    create_run(tmp_path / "run", config).close()
    write_images_record(tmp_path / "run", images_of(config))
    said = run_died_at(-signal.SIGSEGV, tmp_path / "run")
    assert said.startswith("was killed by SIGSEGV; run layer by layer, it was killed by SIGSEGV at: shifted pair ")
    assert "\n" not in said


def test_a_signal_from_outside_is_no_layers_fault(tmp_path: Path) -> None:
    assert run_died_at(-signal.SIGKILL, tmp_path) == "was killed by SIGKILL"
    assert run_died_at(-signal.SIGSEGV, tmp_path / "gone") == "was killed by SIGSEGV"
