from __future__ import annotations

import pytest

from dots_core.errors import UsageError
from dots_core.search_space.named_cells import cell_source, named_cell, named_cells


def test_the_published_cells_are_there():
    assert set(named_cells()) >= {"DARTS_V1", "DARTS_V2", "PDARTS", "PC_DARTS_cifar", "PC_DARTS_image"}
    assert set(named_cells()) >= {"DOTS_C10", "DOTS_C100", "DOTS_ImageNet"}


@pytest.mark.parametrize("name", named_cells())
def test_every_cell_is_of_the_darts_space(name):
    cell = named_cell(name)
    for kind in ("normal", "reduce"):
        assert [len(node) for node in getattr(cell, kind)] == [2, 2, 2, 2]
        assert getattr(cell, f"{kind}_concat") == (2, 3, 4, 5)
    assert ", " in cell_source(name)


def test_darts_v2_as_printed():
    """Liu et al., DARTS, ICLR 2019, figures 4 and 5."""
    cell = named_cell("DARTS_V2")
    assert cell.normal == (
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("skip_connect", 0), ("sep_conv_3x3", 1)),
        (("skip_connect", 0), ("dil_conv_3x3", 2)),
    )
    assert cell.reduce == (
        (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
        (("max_pool_3x3", 1), ("skip_connect", 2)),
        (("max_pool_3x3", 0), ("skip_connect", 2)),
        (("max_pool_3x3", 1), ("skip_connect", 2)),
    )


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match=r"'DOTS_C11'; did you mean 'DOTS_C10'.*DARTS_V1"):
        named_cell("DOTS_C11")
