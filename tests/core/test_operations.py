from __future__ import annotations

import pytest

from dots_core.errors import UsageError, nearest
from dots_core.search_space.operations import DARTS, OPERATIONS, check_operations
from dots_core.search_space.operations.darts import SeparableConvolution
from dots_core.search_space.operations.groupings import (
    OPERATION_SETS,
    attention_constants,
    grouping,
    operation_set,
)


def test_the_order_of_operations_is_fixed():
    """α′ in a checkpoint means the same for ever."""
    assert DARTS == (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )


def test_groupings_are_the_papers():
    assert [set(group) for group in grouping("single")] == [set(DARTS)]
    assert [set(group) for group in grouping("group-v2")] == [
        {"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3"},
        {"sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"},
    ]
    assert [set(group) for group in grouping("group-v1")] == [
        {"skip_connect"},
        {"max_pool_3x3", "avg_pool_3x3"},
        {"sep_conv_3x3", "sep_conv_5x5"},
        {"dil_conv_3x3", "dil_conv_5x5"},
    ]


def test_a_grouping_is_restricted_to_the_candidates():
    assert grouping("group-v2", ("skip_connect", "none", "sep_conv_3x3")) == (
        ("none", "skip_connect"),
        ("sep_conv_3x3",),
    )
    assert grouping("group-v1", ("none", "dil_conv_3x3")) == (("dil_conv_3x3",),)
    assert grouping("single") == (DARTS,)


def test_groups_may_be_given_themselves():
    groups = (("sep_conv_3x3", "none"), ("skip_connect",), ("dil_conv_3x3",))
    assert grouping(groups) == groups
    assert grouping(groups, ("none", "skip_connect")) == (("none",), ("skip_connect",))
    with pytest.raises(UsageError, match="named twice"):
        grouping((("none",), ("skip_connect", "none")))
    with pytest.raises(UsageError, match="unknown operation 'sep'"):
        grouping((("sep",),))


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"'sep_conv_3x4'; did you mean 'sep_conv_3x3'\?"):
        check_operations(("none", "sep_conv_3x4"))
    with pytest.raises(UsageError, match="named twice"):
        check_operations(("none", "none"))
    with pytest.raises(UsageError, match=r"'group-v3'; did you mean 'group-v[12]'\?"):
        grouping("group-v3")
    with pytest.raises(UsageError, match="unknown operation 'conv'"):
        grouping("single", ("conv",))


def test_no_hint_where_nothing_is_near():
    assert nearest("qqqq", DARTS) == ""
    assert nearest("cifer", ["imagenet", "cifar"]) == "; did you mean 'cifar'?"


@pytest.mark.parametrize(
    ("name", "learnable"),
    [
        ("ss1", {"sep_conv_3x3", "dil_conv_3x3"}),
        ("ss2", {"sep_conv_5x5", "dil_conv_5x5"}),
        ("ss3", {"sep_conv_3x3", "sep_conv_5x5"}),
        ("ss4", {"dil_conv_3x3", "dil_conv_5x5"}),
        ("ss5", {"sep_conv_3x3", "dil_conv_5x5"}),
        ("ss6", {"sep_conv_5x5", "dil_conv_3x3"}),
        ("ss7", {"sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3"}),
        ("ss8", {"sep_conv_3x3", "sep_conv_5x5", "dil_conv_5x5"}),
    ],
)
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_sub_spaces_are_those_of_edarts(name, learnable, pool):
    """Its table I; each with skip, none and one pool (§III-A)."""
    operations = operation_set(f"{name}-{pool}")
    assert set(operations) & set(DARTS[4:]) == learnable
    assert set(operations) - set(DARTS[4:]) == {"none", "skip_connect", f"{pool}_pool_3x3"}


def test_sets_of_operations():
    assert operation_set("darts") == DARTS
    assert operation_set("without-none") == DARTS[1:]
    assert len(OPERATION_SETS) == 18
    for operations in OPERATION_SETS.values():
        assert list(operations) == [o for o in DARTS if o in operations]
    assert operation_set(("skip_connect", "none")) == ("skip_connect", "none")
    with pytest.raises(UsageError, match=r"unknown set of operations 'ss1'; did you mean"):
        operation_set("ss1")
    with pytest.raises(UsageError, match="named twice"):
        operation_set(("none", "none"))


def test_attention_of_edarts():
    assert attention_constants("edarts") == (
        ("sep_conv_3x3", 6e-4),
        ("sep_conv_5x5", 4e-4),
        ("dil_conv_3x3", -4e-4),
        ("dil_conv_5x5", -6e-4),
    )
    assert attention_constants("edarts", operation_set("ss3-max")) == (("sep_conv_3x3", 6e-4), ("sep_conv_5x5", 4e-4))


def test_attention_is_paid_to_operations_of_other_packages(monkeypatch):
    monkeypatch.setattr(OPERATIONS, "_members", {**OPERATIONS._members})
    OPERATIONS.register(SeparableConvolution(7))
    given = {"sep_conv_7x7": 0.5, "skip_connect": 1.0}
    assert attention_constants(given, ("skip_connect", "sep_conv_7x7")) == (
        ("skip_connect", 1.0),
        ("sep_conv_7x7", 0.5),
    )


def test_attention_is_paid_to_candidates():
    assert attention_constants({}) == ()
    assert attention_constants({"sep_conv_3x3": 1, "none": -1, "skip_connect": 0}) == (
        ("none", -1.0),
        ("sep_conv_3x3", 1.0),
    )
    with pytest.raises(UsageError, match="unknown attention 'edart'; did you mean 'edarts'"):
        attention_constants("edart")
    with pytest.raises(UsageError, match="unknown operation 'sep'"):
        attention_constants({"sep": 1.0})
    with pytest.raises(UsageError, match="'none', which is no candidate"):
        attention_constants({"none": 1.0}, operation_set("without-none"))
