"""Registries: what a package adds from outside is chosen by its name like what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dots.config.parts import REGISTRIES
from dots.config.presets import nested, parse_settings
from dots.config.schema import SearchConfig, parse_config
from dots_core.errors import UsageError
from dots_core.plan.early_stop import EARLY_STOPS, EarlyStopRule
from dots_core.plan.gradients import FirstOrder, Gradient
from dots_core.plan.levels import LEVELS, TwoLevel
from dots_core.plan.plan import Phase, Plan, Stage, Update
from dots_core.search_space.cell import search_cell
from dots_core.search_space.registry import Registry

sys.path.insert(0, str(Path(__file__).parents[1]))
from out_of_tree import install


class Thing:
    about = "a thing"

    def __init__(self, name):
        self.name = name


def test_members_are_found_by_name_in_their_order():
    things = Registry("thing", "dots.no_such_group")
    first = things.register(Thing("first"))
    things.register(Thing("second"))
    assert things["first"] is first
    assert things.names == ("first", "second")
    assert [thing.name for thing in things] == ["first", "second"]


def test_an_unknown_name_and_one_that_is_taken_are_refused():
    things = Registry("thing", "dots.no_such_group")
    things.register(Thing("first"))
    with pytest.raises(UsageError, match="unknown thing 'frist'"):
        things["frist"]
    with pytest.raises(UsageError, match="the thing 'first' is there already; give yours another name"):
        things.register(Thing("first"))


@pytest.mark.parametrize("about", ["", " ", None, 5, "two\nlines", "\x1b[31mred"])
def test_one_that_says_nothing_of_itself_is_refused(about):
    things, silent = Registry("thing", "dots.no_such_group"), Thing("silent")
    silent.about = about
    with pytest.raises(UsageError, match="the thing 'silent' does not say in one line what it is; write it into"):
        things.register(silent)


@pytest.mark.parametrize(
    "name", ["", "a b", "A", "-a", "../a", "a\nb", "<script>", "a'b", "übel", "a/*", "\x1b[31mred", "x" * 61, 5, None]
)
def test_names_are_words(name):
    things = Registry("thing", "dots.no_such_group")
    with pytest.raises(UsageError, match=r"^the thing .* needs another name: up to 60 lower case letters, digits"):
        things.register(Thing(name))
    assert things.register(Thing("x" * 60)).name in things


@pytest.mark.parametrize("kind", REGISTRIES)
@pytest.mark.parametrize("member", [Thing("other"), Thing, "float32", None])
def test_an_object_of_another_class_is_refused(kind, member):
    known = REGISTRIES[kind].names
    with pytest.raises(UsageError, match=r"is no .*; register an object of a class that extends dots_core\.\w+"):
        REGISTRIES[kind].register(member)
    for extends in {type(each) for each in REGISTRIES[kind]}:
        with pytest.raises(UsageError, match=r"is no "):
            REGISTRIES[kind].register(extends)
    assert REGISTRIES[kind].names == known


def test_an_early_stop_is_not_called_as_settings_call_there_being_none():
    class Nothing(EarlyStopRule):
        name, about = "none", "never"

        def reason(self, limits, genotype, stability):
            return None

    with pytest.raises(UsageError, match="'none', which settings say where there is none; give it another name"):
        EARLY_STOPS.register(Nothing())


def test_a_level_that_names_a_setting_that_there_is_not_is_refused():
    class Hasty(TwoLevel):
        name, about, settings = "hasty", "a level", ("splits", "once_att")

        def gradient(self, step):
            return FirstOrder()

    with pytest.raises(UsageError, match="the level 'hasty' names the setting 'once_att', which there is not; did you"):
        LEVELS.register(Hasty())
    assert "hasty" not in LEVELS.names


def test_what_no_digest_can_describe_is_refused():
    class Plain(Gradient):
        def accumulate(self, *_):
            return []

    update = Update(("alpha",), "half-b", gradient=Plain())
    plan = Plan((Stage("s", search_cell(1), 3, (Phase("search", 1, (update, Update(("w",), "half-a"))),)),))
    with pytest.raises(UsageError, match="make Plain a frozen dataclass"):
        assert plan.digest


@pytest.mark.parametrize(
    ("setting", "known"),
    [
        ("operation.level=ahead", "'bi', 'one' or 'mixed'"),
        ("operation.sampling=normal", "'none', 'soft' or 'hard'"),
        ("stem=halving", "'cifar' or 'imagenet'"),
        ("topology.temperature.schedule=steps", "'constant', 'exponential' or 'linear'"),
        ("weights.schedule=steps", "'constant', 'linear' or 'cosine'"),
        ("precision=float8", "'float32', 'float64', 'tf32', 'hf32', 'bfloat16' or 'float16'"),
    ],
)
def test_what_no_installed_package_has_is_refused_by_its_key(setting, known):
    with pytest.raises(UsageError) as caught:
        parse_config(SearchConfig, nested(parse_settings([setting])), "here")
    key, _, value = setting.partition("=")
    assert (
        str(caught.value) == f"here: {key}: input should be {known}, or what an installed package adds, not '{value}'"
    )


@pytest.mark.parametrize(
    ("group", "source", "key"),
    [
        (
            "dots.retentions",
            "from dots_core.search_space.derivation import Retention\n\n\n"
            "class Everything(Retention):\n"
            "    name, about = 'everything', 'all operations'\n\n"
            "    def rivals(self, edge):\n"
            "        return [(edge.operations, len(edge.operations))]\n\n\n"
            "member = Everything()\n",
            "operation.retain",
        ),
        (
            "dots.early_stops",
            "from dots_core.plan.early_stop import EarlyStopRule\n\n\n"
            "class AtOnce(EarlyStopRule):\n"
            "    name, about = 'everything', 'after the first epoch'\n\n"
            "    def reason(self, limits, genotype, stability):\n"
            "        return 'enough'\n\n\n"
            "member = AtOnce()\n",
            "operation.early_stop",
        ),
        (
            "dots.precisions",
            "from dots_core.engine.protocol import Precision\n\n"
            "member = Precision('everything', 'all bits there are', 16)\n",
            "precision",
        ),
    ],
)
def test_one_of_a_package_can_be_set(group, source, key, tmp_path):
    found = install(tmp_path, "outside", source, group, "member")
    script = (
        "import sys; from dots.config.presets import merged, nested, preset_values\n"
        "from dots.config.schema import SearchConfig, parse_config; from dots.config.plan import plan_of\n"
        f"values = merged(preset_values('search', 'smoke'), nested({{{key!r}: 'everything'}}))\n"
        "print(plan_of(parse_config(SearchConfig, values, 'test')) is not None)"
    )
    line = [sys.executable, "-c", script]
    assert subprocess.run(line, env={**found}, text=True, capture_output=True).stdout == "True\n"
    without = subprocess.run(line, env={}, text=True, capture_output=True)
    assert f"{key}: input should be" in without.stderr, json.dumps(without.stderr)


@pytest.mark.parametrize(
    ("group", "arguments", "said"),
    [
        (
            "dots.topologies",
            ["search", "--dry-run"],
            "the topology space 'broken' of an installed package does not load",
        ),
        (
            "dots.temperatures",
            ["search", "--dry-run"],
            "the temperature schedule 'broken' of an installed package does not load",
        ),
        ("dots.commands", ["broken", "--option", "x"], "the command broken does not load: ImportError: nothing here"),
    ],
)
def test_a_package_that_does_not_load_is_named(group, arguments, said, tmp_path):
    found = install(tmp_path / "site", "broken", "raise ImportError('nothing here')\n", group, "member")
    environment = {**os.environ, **found}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "dots", *arguments], env=environment, cwd=tmp_path, text=True, capture_output=True
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
    # What has no need of it goes on.
    show = [sys.executable, "-m", "dots", "presets", "show", "smoke"]
    other = subprocess.run(show, env=environment, cwd=tmp_path, text=True, capture_output=True)
    assert other.returncode == 0, other.stderr


@pytest.mark.parametrize("source", ["member = None.name\n", "import sys\nsys.exit(3)\n"])
def test_a_registry_that_could_not_be_read_is_not_taken_for_read(source, tmp_path, monkeypatch):
    (tmp_path / "half.py").write_text(source)
    record = tmp_path / "half-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text("[dots.no_such_group]\nhalf = half:member\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    things = Registry("thing", "dots.no_such_group")
    things.register(Thing("first"))
    for _ in range(2):
        with pytest.raises(UsageError, match="the thing 'half' of an installed package does not load"):
            things["first"]
