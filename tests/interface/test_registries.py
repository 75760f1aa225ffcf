"""Registries: what a package adds from outside is chosen by its name like what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dots_core.errors import UsageError
from dots_core.plan.early_stop import EARLY_STOPS
from dots_core.search_space.derivation import RETENTIONS
from dots_core.search_space.registry import Registry
from dots_core.search_space.topology import TOPOLOGY_SPACES

sys.path.insert(0, str(Path(__file__).parents[1]))
from out_of_tree import install


class Thing:
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
    with pytest.raises(UsageError, match="a thing 'first' already"):
        things.register(Thing("first"))


@pytest.mark.parametrize("registry", [TOPOLOGY_SPACES, RETENTIONS, EARLY_STOPS])
def test_every_member_says_what_it_is(registry):
    assert all(member.about for member in registry)


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
