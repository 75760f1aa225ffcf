from __future__ import annotations

import pytest

from dots_core.errors import UsageError, nearest
from dots_core.operations import GROUPINGS, OPERATIONS, check_operations, grouping


def test_the_order_of_operations_is_fixed():
    """α′ in a checkpoint means the same for ever."""
    assert OPERATIONS == (
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
    assert [set(group) for group in GROUPINGS["single"]] == [set(OPERATIONS)]
    assert [set(group) for group in GROUPINGS["group-v2"]] == [
        {"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3"},
        {"sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"},
    ]
    assert [set(group) for group in GROUPINGS["group-v1"]] == [
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
    assert grouping("single") == (OPERATIONS,)


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
    assert nearest("qqqq", OPERATIONS) == ""
    assert nearest("cifer", ["imagenet", "cifar"]) == "; did you mean 'cifar'?"
