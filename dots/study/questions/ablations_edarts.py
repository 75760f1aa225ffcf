"""The ablations of eDARTS."""

from __future__ import annotations

from typing import Any

from dots.study.questions.ablation_record import Ablation, Variant
from dots.study.study import Published

_SUBSET: dict[str, Any] = {"train_images": 5000}
_SPARSE: dict[str, Any] = {"operation.once_at": 1.0}
_SMALL_SUBSET: dict[str, Any] = {"train_images": 360}


def _spaces(pool: str) -> Ablation:
    """Every sub-space with one of the pools; SS1 at four depths, the others at two."""
    depths = {5: 3, 10: 4, 16: 5, 20: 6}
    variants = {
        f"SS{number}-{depth}": Variant(
            {**_SUBSET, **_SPARSE, "space.operations": f"ss{number}-{pool}", "operation.layers": depth},
            small={**_SMALL_SUBSET, "operation.layers": depths[depth]},
        )
        for number in range(1, 9)
        for depth in (depths if number == 1 else (5, 16))
    }
    which = {"max": "maximum", "avg": "average"}[pool]
    return Ablation(
        f"Sub-spaces of operations, searched shallow and deep, with {which} pooling",
        "eDARTS, §IV-C, table I and fig. 2 (no figures printed), ten seeds from 20 on; which pool a sub-space has is "
        "not printed; the searches are those with the subset and one update an epoch",
        "darts-v2-cifar10",
        variants,
        train_preset="shallow",
        protocol="ten searches (seeds 20 to 29), each with the training of its cell; means",
    )


EDARTS_ABLATIONS: dict[str, Ablation] = {
    "subset": Ablation(
        "A search on a tenth of the images, and with one architecture update an epoch",
        "eDARTS, §IV-B and table II: means over five runs, skip connections of all five",
        "darts-v2-cifar10",
        {
            "DARTS": Variant({}, (Published(90.25, parameters=0.11),), skips=(14, 19)),
            "subset": Variant(_SUBSET, (Published(91.27, parameters=0.15),), _SMALL_SUBSET, skips=(4, 14)),
            "sparse": Variant(_SPARSE, (Published(91.33, parameters=0.16),), skips=(5, 11)),
            "subset-sparse": Variant(
                {**_SUBSET, **_SPARSE}, (Published(92.15, parameters=0.2),), _SMALL_SUBSET, skips=(5, 8)
            ),
        },
        train_preset="shallow",
        protocol="five searches, each with the training of its cell; means",
    ),
    "sub-spaces": _spaces("max"),
    "sub-spaces-average": _spaces("avg"),
}
