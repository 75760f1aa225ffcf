"""What ``dots conformance locate`` says, and with which exit code it ends."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
from dots_conformance.proxies import EngineProxy, NetworkProxy
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from dots.cli.main import app
from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Engine, Network, Setup
from dots_core.engine.registry import load_engine
from dots_core.search_space.mixing import Temperature

CASE = "networks/mixed/group-v2/1-cells"


class OffElsewhere(EngineProxy):
    """Wrong only on batches of six images: a case evaluates one, and nothing that is looked into does."""

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Network:
        return _OffElsewhere(super().build(setup, weights, architecture))


class _OffElsewhere(NetworkProxy):
    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        loss, correct = super().evaluate(batch, temperature)
        return loss * (1.01 if len(batch.images) == 6 else 1.0), correct


class Refusing(EngineProxy):
    """Raises where layers are run."""

    def run_layers(self, *arguments: Any) -> Any:
        raise RuntimeError("no kernel")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command with an engine in place of the reference engine's front."""

    def run(engine: Engine, *arguments: str) -> Result:
        # The cases' own networks are enough: the small ones take a minute.
        monkeypatch.setattr("dots_conformance.failures.small_networks", dict)
        # After everything is imported: the suite goes on judging by the engine it has.
        monkeypatch.setattr("dots_core.engine.registry.load_engine", lambda _: engine)
        return CliRunner().invoke(app, ["conformance", "locate", "--backend", "reference", *arguments])

    return run


def test_that_nothing_is_found_where_a_case_fails_is_said_plainly(run: Any) -> None:
    engine = OffElsewhere(load_engine("reference"))
    done = run(engine, "--cases", CASE)
    assert done.exit_code == 7, done.output
    assert "fails 1 of 1 cases, and nothing is off where they were looked into" in done.output
    assert f"fails        {CASE}: evaluation/loss: " in done.output
    assert f"looked into  {CASE}, {CASE}, after two steps" in done.output
    assert "the first step, from empty optimisers" in done.output
    assert "try          --dtype float64" in done.output
    done = run(engine, "--cases", CASE, "--json")
    assert done.exit_code == 7
    record = json.loads(done.output[done.output.index("{") :])
    assert record["agrees"] is False
    assert list(record["cases"]["failing"]) == [CASE]
    assert "tensor" not in record


def test_what_it_says_to_try_can_be_tried(run: Any) -> None:
    engine = OffElsewhere(load_engine("reference"))
    said = run(engine, "--cases", CASE).output
    for options in re.findall(r"--dtype \w+", said):
        done = run(engine, "--cases", CASE, *shlex.split(options), "--seed", "1")
        assert done.exit_code == 7, done.output


def test_cases_that_pass_have_nothing_to_locate(run: Any) -> None:
    done = run(load_engine("reference"), "--cases", "layers/norm/c4-*")
    assert done.exit_code == 0
    assert "agrees with the reference in " in done.output
    assert "nothing to locate" in done.output


def test_a_layer_that_raises_is_named(run: Any) -> None:
    done = run(Refusing(load_engine("reference")), "--cases", "layers/norm/c4-7x9")
    assert done.exit_code == 7
    assert "place        layers/norm/c4-7x9" in done.output
    assert "RuntimeError: no kernel" in done.output


def test_cases_and_a_checkpoint_exclude_each_other(run: Any) -> None:
    done = run(load_engine("reference"), "--cases", CASE, "--checkpoint", "runs/x")
    assert done.exit_code != 0
    assert "--cases and --checkpoint name different networks" in f"{done.output}{done.exception}"
