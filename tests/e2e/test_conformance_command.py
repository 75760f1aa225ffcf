"""``dots conformance``, as a user runs it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from command import command, dots, environment
from out_of_tree import install

CASES = ["--cases", "layers/norm/c4-*", "--cases", "networks/topology/2-edges"]

WRONG = '''
"""The reference engine, but every output of a single operation is a little too large."""

from dots_reference.engine import ReferenceEngine


class Wrong(ReferenceEngine):
    name = "wrong"

    def run_layers(self, *arguments):
        found = super().run_layers(*arguments)
        return {**found, "output": found["output"] * 1.001}


engine = Wrong()
'''


def with_engine(folder: Path, name: str, source: str) -> dict[str, str]:
    """Return the environment in which an engine of this name is installed."""
    return {**environment(), **install(folder, name, source)}


def test_the_quick_set_agrees_on_every_engine(backends, tmp_path):
    """No engine disagrees, and no known deviation is stale."""
    out = tmp_path / "report"
    done = dots(
        "conformance", "--quick", "--backends", ",".join(backends), "--out", out, "--junit", out / "junit.xml",
        timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((out / "report.json").read_text())
    judged = [name for name in backends if name != "reference"] or ["reference"]
    assert [engine["backend"] for engine in record["engines"]] == judged
    for engine in record["engines"]:
        assert engine["agrees"]
        assert not engine["stale"]
        assert len(engine["cases"]) > 100
        assert {case["verdict"] for case in engine["cases"]} <= {"pass", "known"}
    assert "<html" in (out / "report.html").read_text()
    assert (out / "report.md").read_text() in done.stdout
    suites = ElementTree.parse(out / "junit.xml").getroot()
    assert len(list(suites.iter("testcase"))) == sum(len(engine["cases"]) for engine in record["engines"])
    # The bundles that were kept are judged the same again.
    bundles = sorted((out / "bundles").iterdir())
    again = dots("conformance", "compare", *bundles, "--json", timeout=600)
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert document["schema"] == "dots/conformance/1"
    assert {e["backend"]: e["cases"] for e in document["engines"]} == {
        e["backend"]: e["cases"] for e in record["engines"]
    }


def test_a_bundle_is_judged_without_a_framework(backend, tmp_path):
    recorded = dots("conformance", "run", "--backend", backend, *CASES, "--out", tmp_path / "bundle", "--json")
    assert recorded.returncode == 0, recorded.stderr
    document = json.loads(recorded.stdout)
    assert list(document["cases"]) == ["recorded"]
    script = """
import sys
for name in ("torch", "mindspore", "jittor"):
    sys.modules[name] = None  # importing it fails
from dots.cli.main import main
sys.argv = ["dots", "conformance", "compare", sys.argv[1]]
main()
"""
    judged = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bundle")], env=environment(), capture_output=True, text=True
    )
    assert judged.returncode == 0, judged.stderr
    assert f"{backend} float32 agrees with the reference" in judged.stdout


def test_a_wrong_engine_exits_with_7_and_is_named(tmp_path):
    env = with_engine(tmp_path / "site", "wrong", WRONG)
    line = command("conformance", "--backends", "wrong", *CASES, "--out", tmp_path / "report")
    done = subprocess.run(line, env=env, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert "layers/norm/c4-7x9" in done.stdout
    assert "networks/topology/2-edges" not in done.stdout
    assert "layers/norm/c4-7x9" in (tmp_path / "report" / "report.html").read_text()
    # The line it ends with locates what failed.
    (said,) = re.findall(r"where wrong parts from the reference: dots (.*)", done.stderr)
    located = subprocess.run(command(*shlex.split(said)), env=env, capture_output=True, text=True)
    assert located.returncode == 7, located.stderr
    named = re.findall(r"--cases (layers/norm/c4-\w+)", said)
    (where,) = re.findall(r"wrong parts from the reference in '(.*)', forward", located.stdout)
    assert where == named[0]


def test_a_missing_engine_is_a_failure_never_a_skip(tmp_path):
    env = with_engine(tmp_path / "site", "broken", "raise ImportError('no such framework')")
    line = command("conformance", "--backends", "reference,broken", *CASES)
    done = subprocess.run(line, env=env, capture_output=True, text=True)
    assert done.returncode == 3
    assert "broken engine does not load" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backends", "abacus"), "unknown backend 'abacus'"),
        (("--backends", "reference", "--cases", "layers/nrom"), "no conformance case matches 'layers/nrom'"),
        (("--backends", "reference", "--dtype", "float8"), "float8"),
        (("--backends", "reference,reference"), "named twice"),
        (("compare", "nowhere"), "holds no conformance bundle"),
        (("locate", "--backend", "reference", "--checkpoint", "nowhere"), "is not a run of dots"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, said, tmp_path):
    done = dots("conformance", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.release("mindspore", "jittor")
def test_locating_finds_nothing_in_an_engine_that_agrees(backend, whole):
    done = dots("conformance", "locate", "--backend", backend, "--checkpoint", whole(backend))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agrees with the reference forward, backward and in its updates" in done.stdout


def test_the_cases_are_listed():
    every, quick = (dots("conformance", "cases", *more) for more in ((), ("--quick",)))
    assert set(quick.stdout.split()) < set(every.stdout.split())
