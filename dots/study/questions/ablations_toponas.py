"""The ablations of TopoNAS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dots.study.questions.ablation_record import Ablation, Variant, error
from dots.study.study import Published

_TOPONAS = "TopoNAS (under review, ICLR 2021)"
_FIXED, _ARBITRARY = "toponas-fixed-darts", "toponas-arbitrary-darts"
_FIRST, _SECOND = "darts-v1-cifar10", "darts-v2-cifar10"

_BEST_OF_FOUR = "four searches with different seeds, the best cell trained ten times"

_AT_DARTS_SIZE = {_FIRST: "cifar", _SECOND: "cifar"}
"""Cells of DARTS are trained at its 20 cells and 36 channels."""

_METHODS = {
    "DARTS-2nd": _SECOND,
    "fixed-DARTS": _FIXED,
    "fixed-MiLe": "toponas-fixed-mile",
    "arbitrary-DARTS": _ARBITRARY,
    "arbitrary-MiLe": "toponas-arbitrary-mile",
}
_DEPTHS = {10: 3, 12: 4, 14: 5, 16: 6, 20: 7}
"""Cells at training, and at the small scale."""

# Table 3: error in percent and parameters in millions at 10, 12, 16 and 20 cells, on CIFAR-10.
_TABLE_3 = {
    "DARTS-2nd": ((3.02, 1.6), (3.01, 1.7), (2.84, 2.7), (2.74, 3.3)),
    "fixed-DARTS": ((3.01, 1.7), (2.72, 1.8), (2.93, 2.8), (3.17, 3.5)),
    "fixed-MiLe": ((3.12, 1.7), (2.68, 1.8), (3.01, 2.7), (3.11, 3.4)),
    "arbitrary-DARTS": ((3.09, 1.7), (2.67, 1.9), (2.89, 2.7), (2.81, 3.3)),
    "arbitrary-MiLe": ((2.78, 1.9), (2.60, 2.0), (2.84, 3.0), (3.15, 3.7)),
}
# Table 4: the same at 10, 12, 14, 16 and 20 cells, on ImageNet.
_TABLE_4 = {
    "DARTS-2nd": ((27.9, 3.6), (26.8, 3.8), (25.8, 4.7), (25.4, 5.5), (25.2, 6.7)),
    "fixed-DARTS": ((27.0, 3.7), (26.2, 3.9), (25.1, 4.9), (24.9, 5.7), (24.4, 6.8)),
    "fixed-MiLe": ((27.5, 3.7), (26.9, 3.9), (25.4, 4.8), (25.3, 5.5), (24.7, 6.6)),
    "arbitrary-DARTS": ((26.6, 3.8), (26.4, 4.0), (25.3, 4.8), (24.9, 5.5), (24.2, 6.5)),
    "arbitrary-MiLe": ((25.9, 4.0), (25.4, 4.3), (24.6, 5.3), (24.4, 6.1), (24.4, 7.3)),
}
_EPOCHS = {20: 2, 30: 3, 40: 4, 50: 5}
"""Epochs after which a cell is derived, and at the small scale."""

# Table 10: errors in percent of three runs, and the mean of their parameters in millions, at each of those epochs.
_TABLE_10 = {
    "DARTS-2nd": (
        _SECOND,
        ((2.93, 3.05, 2.83), (2.88, 3.16, 2.82), (3.02, 3.00, 2.87), (2.90, 3.41, 2.87)),
        ((3.6, 3.1, 4.1), (3.2, 2.3, 3.0), (2.5, 2.3, 2.6), (2.3, 2.1, 2.6)),
    ),
    "fixed-DARTS": (
        _FIXED,
        ((2.89, 2.91, 2.85), (2.94, 2.89, 2.81), (2.81, 2.83, 2.73), (2.71, 2.69, 2.75)),
        ((2.0, 2.0, 2.1), (1.9, 1.8, 1.9), (1.8, 1.8, 1.8), (1.8, 1.9, 1.9)),
    ),
}


def _depths() -> dict[str, Variant]:
    variants = {}
    for method, preset in _METHODS.items():
        ten = dict(zip((10, 12, 16, 20), _TABLE_3[method], strict=True))
        imagenet = dict(zip(_DEPTHS, _TABLE_4[method], strict=True))
        for depth, small in _DEPTHS.items():
            printed = [error(ten[depth][0], parameters=ten[depth][1])] if depth in ten else []
            wrong, size = imagenet[depth]
            printed.append(Published(wrong, None, "error", "ImageNet", size))
            variants[f"{method}-{depth}"] = Variant(
                {},
                tuple(printed),
                preset=preset,
                train_preset=_AT_DARTS_SIZE.get(preset, ""),
                train={"layers": depth},
                train_small={"layers": small},
                search=method,
            )
    return variants


def _epochs() -> dict[str, Variant]:
    return {
        f"{method}-{epoch}": Variant(
            {},
            (_runs(errors[n], sizes[n]),),
            preset=preset,
            train_preset=_AT_DARTS_SIZE.get(preset, ""),
            search=method,
            epoch=epoch,
            epoch_small=small,
        )
        for method, (preset, errors, sizes) in _TABLE_10.items()
        for n, (epoch, small) in enumerate(_EPOCHS.items())
    }


def _runs(errors: Sequence[float], parameters: Sequence[float]) -> Published:
    """The mean of printed runs, their deviation and the mean of their parameters."""
    mean = sum(errors) / len(errors)
    deviation = (sum((value - mean) ** 2 for value in errors) / (len(errors) - 1)) ** 0.5
    size = round(sum(parameters) / len(parameters), 2)
    return Published(round(mean, 4), round(deviation, 4), "error", parameters=size, runs=tuple(errors))


def _kept(edges: int | None, preset: str, value: float, size: float, channels: int) -> Variant:
    return Variant(
        {} if edges is None else {"operation.edges.edges_per_node": edges},
        (error(value, parameters=size),),
        preset=preset,
        train_preset=_AT_DARTS_SIZE.get(preset, ""),
        train={"channels": channels},
        train_small={"channels": 8},
    )


def _darts(value: float, preset: str, **settings: Any) -> Variant:
    """A variant of DARTS, whose cells are trained at its size."""
    keys = {f"operation.{key}": setting for key, setting in settings.items()}
    return Variant(keys, (error(value),), preset=preset, train_preset="cifar")


_INPUT_PAIRS: dict[str, Any] = {
    "operation.edges.side": "input",
    "operation.edges.scaled": False,
    "operation.regularisation": 0.0,
}
"""Eq. 6: pairs of incoming edges, each with the sum of the probabilities of the pairs that hold it."""

TOPONAS_ABLATIONS: dict[str, Ablation] = {
    "topology-side": Ablation(
        "Topology as a choice among a node's incoming or outgoing edges",
        f"{_TOPONAS}, table 7; a DARTS that keeps two outgoing edges a node (printed: error 2.82) is not offered",
        _FIXED,
        {
            "DARTS-input": _darts(2.76, _SECOND),
            "TopoNAS-input": Variant(_INPUT_PAIRS, (error(3.08),)),
            "TopoNAS-output": Variant({"operation.edges.side": "output"}, (error(2.72),)),
        },
        train_preset="toponas-cifar",
        protocol=_BEST_OF_FOUR,
    ),
    "joint": Ablation(
        "Alternating and joint optimisation of operations and topology",
        f"{_TOPONAS}, table 8; its joint optimisation takes both gradients from one batch, of one half of the images "
        "in our reading; 'one-point' keeps the thirds and takes all gradients of a step at its beginning, ours",
        _FIXED,
        {
            f"{name}-{manner}": Variant(settings, (error(value),) if value else (), preset=preset)
            for name, preset, values in (("fixed", _FIXED, (2.72, 3.01)), ("arbitrary", _ARBITRARY, (2.67, 3.08)))
            for manner, settings, value in (
                ("alternating", {"operation.splits": "thirds", "operation.joint": False}, values[0]),
                ("joint", {"operation.splits": "halves", "operation.joint": False}, values[1]),
                ("one-point", {"operation.splits": "thirds", "operation.joint": True}, None),
            )
        },
        train_preset="toponas-cifar",
        protocol=_BEST_OF_FOUR,
    ),
    "edges-per-node": Ablation(
        "Edges a node keeps",
        f"{_TOPONAS}, table 6, at widths that make the parameters about equal and are not printed, but for the 48 of "
        "two edges and of any number (§4.2): the others are ours",
        _FIXED,
        {
            "DARTS-1": _kept(1, _FIRST, 3.06, 3.5, 44),
            "DARTS-2": _kept(2, _FIRST, 2.75, 3.3, 36),
            "DARTS-3": _kept(3, _FIRST, 2.94, 3.3, 32),
            "TopoNAS-1": _kept(1, _FIXED, 2.63, 3.5, 56),
            "TopoNAS-2": _kept(2, _FIXED, 2.48, 3.2, 48),
            "TopoNAS-3": _kept(3, _FIXED, 2.58, 3.5, 46),
            "TopoNAS-arbitrary": _kept(None, _ARBITRARY, 2.44, 3.2, 48),
        },
        train_preset="toponas-cifar",
        protocol=_BEST_OF_FOUR,
    ),
    "nodes": Ablation(
        "Intermediate nodes of a cell",
        f"{_TOPONAS}, table 5, which counts inputs and output too: 7, 8, 9 and 11 nodes",
        "toponas-arbitrary-mile",
        {
            str(nodes): Variant({"space.nodes": nodes}, (error(value, parameters=size),))
            for nodes, value, size in ((4, 2.60, 2.0), (5, 2.56, 2.5), (6, 2.53, 2.3), (8, 2.77, 3.6))
        },
        train_preset="toponas-cifar",
        protocol=_BEST_OF_FOUR,
    ),
    "order": Ablation(
        "First and second order of the bi-level optimisation",
        f"{_TOPONAS}, table 9",
        _FIXED,
        {
            "DARTS-1st": _darts(3.00, _FIRST, order=1),
            "DARTS-2nd": _darts(2.76, _FIRST, order=2),
            "fixed-1st": Variant({"operation.order": 1}, (error(2.72),)),
            "fixed-2nd": Variant({"operation.order": 2}, (error(2.68),)),
        },
        train_preset="toponas-cifar",
        protocol=_BEST_OF_FOUR,
    ),
    "training-depth": Ablation(
        "Cells of the network that is trained with the found cell",
        f"{_TOPONAS}, tables 3 and 4; on ImageNet it trains the cells found on CIFAR-10",
        _FIXED,
        _depths(),
        train_preset="toponas-cifar",
        protocol=_BEST_OF_FOUR,
    ),
    "epochs": Ablation(
        "The epoch of the search after which the cell is derived",
        f"{_TOPONAS}, table 10, three runs each",
        _FIXED,
        _epochs(),
        small={"operation.epochs": 5},
        train_preset="toponas-cifar",
        protocol="three searches, one training of the cell each holds after each of the epochs",
    ),
}
