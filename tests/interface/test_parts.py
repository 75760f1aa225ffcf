"""`dots parts`, the page about parts, and what a shell completes: all of the registries."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from dots.config.completion import complete_setting, rejoin
from dots.config.parts import REGISTRIES, parts
from dots.config.presets import nested, parse_settings
from dots.config.schema import CONFIGS, known_keys, parse_config
from dots_core.engine.registry import backends
from dots_core.errors import UsageError
from dots_core.plan.levels import StepSettings
from dots_core.search_space.registry import Registry

DOTS = Path(sys.executable).with_name("dots")
PAGE = Path(__file__).parents[2] / "docs" / "parts.md"


def told(*arguments: str, **more: str) -> str:
    environment = {**os.environ, "NO_COLOR": "1", **more}
    return subprocess.run([DOTS, *arguments], env=environment, check=True, text=True, capture_output=True).stdout


def test_the_command_lists_every_part():
    found = json.loads(told("parts", "--json"))["kinds"]
    assert found == parts()
    for kind, registry in REGISTRIES.items():
        assert list(found[kind]["parts"]) == list(registry.names)
        assert found[kind]["entry_point"] == registry.group
        assert found[kind]["settings"], f"no setting takes {kind}"
    said = told("parts", "levels")
    assert said.splitlines()[0] == "levels: level (operation.level, topology.level)"
    assert [line.split()[0] for line in said.splitlines()[1:]] == ["bi", "one", "mixed"]


def test_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="there is no kind of part 'level'; did you mean 'levels'"):
        parts("level")


def test_the_page_lists_every_part():
    text = PAGE.read_text("utf-8")
    sections = dict(re.findall(r"^## .*?`([a-z-]+)`$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(REGISTRIES)
    for kind, described in parts().items():
        rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", sections[kind], re.MULTILINE))
        assert rows == described["parts"], f"the table of {kind} in {PAGE.name} is not what `dots parts {kind}` says"
        assert f"`{described['entry_point']}`" in sections[kind]
        assert all(f"`{key}`" in sections[kind] for key in described["settings"])


def test_the_level_on_the_page_is_one(tmp_path, monkeypatch):
    (source,) = re.findall(r"^```python$(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "ahead.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    ahead = import_module("ahead")
    level = Registry("level", "dots.no_such_group").register(ahead.level)
    searched, weights = level.updates(StepSettings(), ("alpha",))
    assert (searched.split, weights.split, level.validation(StepSettings())) == ("half-b", "half-a", "half-b")
    assert searched.gradient == ahead.Ahead()


def test_engines_say_the_precisions_that_there_are():
    for engine in backends():
        assert set(engine.precisions) <= set(REGISTRIES["precisions"].names)


def test_a_precision_that_an_engine_does_not_name_is_refused_before_it_is_loaded():
    jittor = next(engine for engine in backends() if engine.name == "jittor")
    jittor.check_precision("float64")
    with pytest.raises(UsageError, match=r"the jittor engine does not compute in tf32; set precision to float32 or"):
        jittor.check_precision("tf32")


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_completed_can_be_set(kind):
    for key in known_keys(CONFIGS[kind]):
        offered = complete_setting(kind, f"{key}=", {})
        assert offered or key.endswith(("kind", ".edges", ".operations", ".attention", ".betas", "cell")), key
        for setting in offered if key != "kind" else []:
            parse_config(CONFIGS[kind], nested(parse_settings([setting])), setting)


SHAPE = ("schedule", "start", "rate", "end")

BASH = """
{script}
COMP_WORDS=({words})
COMP_CWORD={place}
_dots_completion dots
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no Bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # Bash takes words apart at "=", and completes what is behind it.
        ("dots search --set topology.spa", {f"topology.space={name}" for name in REGISTRIES["topologies"].names}),
        ("dots search --set topology.space = k", {"k-edges"}),
        ("dots search --set topology.space =", set(REGISTRIES["topologies"].names)),
        ("dots search -q --set stem = imagenet --set operation.order", {"operation.order=1", "operation.order=2"}),
        ("dots search --set channels = 8 --set operation.level = m", {"mixed"}),
        ("dots search --set = split", {"split=0.5"}),
        ("dots train --set channe", {"channels=36"}),
        ("dots train --set deterministic = f", {"false"}),
        ("dots search --set operation.temperature", {f"operation.temperature.{key}=" for key in SHAPE}),
        ("dots study paths --train-set stem = c", {"cifar"}),
        ("dots parts l", {"levels"}),
        ("dots search --preset dots-cifar100", {"dots-cifar100"}),
    ],
)
def test_bash_completes_settings(words, expected):
    script = told(_DOTS_COMPLETE="source_bash")
    count = len(words.split())
    asked = BASH.format(script=script, words=" ".join(f"'{word}'" for word in words.split()), place=count - 1)
    environment = {**os.environ, "PATH": f"{DOTS.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", asked], env=environment, text=True, capture_output=True, check=True)
    assert set(done.stdout.split()) == expected


def test_a_shell_that_leaves_settings_whole_gets_them_whole():
    environment = {"_TYPER_COMPLETE_ARGS": "dots search --set operation.sampling=h", "_DOTS_COMPLETE": "complete_zsh"}
    assert "operation.sampling=hard" in told(**environment)


def test_words_in_open_quotation_marks_are_left_as_they_are():
    environment = {"_DOTS_COMPLETE": "complete_bash", "COMP_WORDS": "dots --data 'my", "COMP_CWORD": "2"}
    before = dict(environment)
    rejoin(environment)
    assert environment == before
