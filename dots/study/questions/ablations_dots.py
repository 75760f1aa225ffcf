"""The ablations of DOTS and of its earlier version."""

from __future__ import annotations

from typing import Any

from dots.study.questions.ablation_record import Ablation, Variant, both, error
from dots.study.study import Published

_DOTS = "DOTS (Gu et al., CVPR 2021)"
_EARLIER = "the earlier version of DOTS (arXiv:2010.00969)"

_NO_GROUP_ANNEALING = {"operation.temperature.schedule": "constant", "operation.temperature.start": 1.0}
_NO_EDGE_ANNEALING = {"topology.temperature.schedule": "constant", "topology.temperature.start": 1.0}
_NO_TOPOLOGY = {"topology.epochs": 0, "topology.warmup": 0}

_EARLIER_TOPOLOGY: dict[str, Any] = {
    "topology.epochs": 35,
    "topology.warmup": 15,
    "topology.layers": 17,
    "topology.scaled": False,
}
"""The topology search of the earlier version (§4.1, appendix A.2), where the preset has that of DOTS."""
_SMALL_TOPOLOGY: dict[str, Any] = {"topology.epochs": 6, "topology.warmup": 2, "topology.layers": 4}

_FOUR = "four searches with different seeds, each with the training of its cell"
_FIVE = "one search, its cell trained five times"


def _with_and_without(
    name: str, alone: str, plain: tuple[Published, ...], searched: tuple[Published, ...]
) -> dict[str, Variant]:
    return {
        name: Variant(_NO_TOPOLOGY, plain, preset=alone),
        f"{name}+dots": Variant({}, searched, preset=f"{name}+dots"),
    }


def _levels(operation: str, topology: str) -> dict[str, Any]:
    return {"operation.level": operation, "topology.level": topology}


DOTS_ABLATIONS: dict[str, Ablation] = {
    "annealing": Ablation(
        "Annealing in neither, one or both stages",
        f"{_EARLIER}, table 3 and §4.3; without annealing the temperature is 1",
        "dots-2020-cifar10",
        {
            "neither": Variant({**_NO_GROUP_ANNEALING, **_NO_EDGE_ANNEALING}, (error(2.76, 0.09),)),
            "group-only": Variant(_NO_EDGE_ANNEALING, (error(2.70, 0.11),)),
            "edge-only": Variant(_NO_GROUP_ANNEALING, (error(2.57, 0.06),)),
            "both": Variant({}, (error(2.45, 0.04),)),
        },
        protocol=_FIVE,
    ),
    "levels": Ablation(
        "One-level (OL) and bi-level (BL) optimisation of operation and topology search",
        f"{_EARLIER}, table 4",
        "dots-2020-cifar10",
        {
            "OL-OL": Variant(_levels("one", "one"), (error(2.54, 0.06),)),
            "OL-BL": Variant(_levels("one", "bi"), (error(2.59, 0.12),)),
            "BL-OL": Variant(_levels("bi", "one"), (error(2.45, 0.04),)),
            "BL-BL": Variant(_levels("bi", "bi"), (error(2.66, 0.07),)),
        },
        protocol=_FIVE,
    ),
    "topology-search": Ablation(
        "DARTS, its operations with a topology search, and DOTS",
        f"{_EARLIER}, table 5; DARTS is that of first order, which the table leaves open",
        "dots-2020-cifar10",
        {
            "DARTS": Variant(_NO_TOPOLOGY, (error(2.96),), preset="darts-v1-cifar10"),
            "DARTS-topology": Variant(_EARLIER_TOPOLOGY, (error(2.60),), _SMALL_TOPOLOGY, preset="darts+dots"),
            "groups-topology": Variant({"space.groups": "group-v2", "operation.retain": "groups"}, (error(2.45),)),
        },
        protocol=_FIVE,
    ),
    "operation-search": Ablation(
        "Five operation searches, each alone and with the topology search of DOTS",
        f"{_DOTS}, table 2; the CIFAR-100 figures are those of the best cells",
        "darts+dots",
        {
            **_with_and_without("darts", "darts-v1-cifar10", both(97.02, 0.12, 80.74), both(97.40, 0.09, 83.07)),
            **_with_and_without("darts-2nd", "darts-v2-cifar10", both(97.01, 0.15, 81.37), both(97.12, 0.11, 83.28)),
            **_with_and_without("gdas", "gdas-cifar10", both(96.84, 0.06, 82.75), both(97.06, 0.08, 83.01)),
            **_with_and_without("snas", "snas-cifar10", both(97.05, 0.10, 81.92), both(97.26, 0.12, 83.25)),
            **_with_and_without("pc-darts", "pc-darts-cifar10", both(97.28, 0.08, 81.74), both(97.45, 0.06, 82.36)),
        },
        protocol=_FOUR,
    ),
    "topology-depth": Ablation(
        "Cells of the network in which the topology is searched",
        f"{_EARLIER}, table 6, whose figures are not recorded here; §4.3: a smaller gap to the depth at training is "
        "better; 17 is the paper's own",
        "dots-2020-cifar10",
        {
            "shallow": Variant({"topology.layers": 8}, small={"topology.layers": 3}),
            "medium": Variant({"topology.layers": 14}, small={"topology.layers": 5}),
            "deep": Variant({"topology.layers": 17}, small={"topology.layers": 7}),
        },
        protocol=_FIVE,
    ),
    "groups": Ablation(
        "What the operation search retains",
        f"{_DOTS}, table 4b; the CIFAR-100 figures are those of the best cells",
        "dots-cifar10",
        {
            "DARTS-Top1": Variant({"space.groups": "single", "operation.retain": "top-1"}, both(97.40, 0.09, 83.07)),
            "DARTS-Top2": Variant({"space.groups": "single", "operation.retain": "top-2"}, both(97.42, 0.11, 82.96)),
            "Group-V1": Variant({"space.groups": "group-v1", "operation.retain": "groups"}, both(97.48, 0.11, 83.55)),
            "Group-V2": Variant({"space.groups": "group-v2", "operation.retain": "groups"}, both(97.51, 0.06, 83.72)),
        },
        protocol=_FOUR,
    ),
    "topology-space": Ablation(
        "How a topology is written: weights of edges or of their combinations, two edges a node or any number",
        f"{_DOTS}, table 4a; the CIFAR-100 figures are those of the best cells; the sigmoid's threshold, 0.5, is ours",
        "dots-cifar10",
        {
            "edge-softmax": Variant(
                {"topology.space": "edge-softmax", "topology.edges_per_node": 2}, both(97.38, 0.09, 82.98)
            ),
            "pairs": Variant({"topology.space": "k-edges", "topology.edges_per_node": 2}, both(97.51, 0.06, 83.72)),
            "edge-sigmoid": Variant({"topology.space": "edge-sigmoid"}, both(97.26, 0.14, 81.02)),
            "arbitrary": Variant({"topology.space": "arbitrary"}, both(97.53, 0.08, 83.92)),
        },
        protocol=_FOUR,
    ),
    "edge-scale": Ablation(
        "An edge's share of a combination: 1/N(c) or 1",
        f"{_DOTS}, eq. 7, and {_EARLIER}, eq. 9 to 11; neither prints a comparison",
        "dots-cifar10",
        {"scaled": Variant({"topology.scaled": True}), "unscaled": Variant({"topology.scaled": False})},
        protocol="none: no figures are printed",
    ),
}
