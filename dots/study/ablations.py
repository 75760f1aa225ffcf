"""The ablations: each a record of the settings its variants change and of what the papers print for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dots.study.study import Published

_DOTS = "DOTS (Gu et al., CVPR 2021)"
_EARLIER = "the earlier version of DOTS (arXiv:2010.00969)"
_TOPONAS = "TopoNAS (under review, ICLR 2021)"


@dataclass(frozen=True)
class Variant:
    """One row of an ablation.

    Attributes
    ----------
    settings : mapping
        What the variant changes in the search; dotted keys.
    small : mapping
        Values in place of those of ``settings`` at the small scale the study has without a preset.
    paper : tuple of Published
    """

    settings: Mapping[str, Any]
    paper: tuple[Published, ...] = ()
    small: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """A table of variants.

    Attributes
    ----------
    source : str
        Paper and table, and how the paper's setting differs from ours where it does.
    preset : str
        The search preset the paper's figures belong to.
    small : mapping
        Search settings of the small scale, on top of the preset ``smoke``.
    """

    title: str
    source: str
    preset: str
    variants: Mapping[str, Variant]
    small: Mapping[str, Any] = field(default_factory=dict)


def _error(value: float, spread: float | None = None) -> Published:
    return Published(value, spread, "error")


def _both(ten: float, spread: float, hundred: float) -> tuple[Published, ...]:
    return Published(ten, spread), Published(hundred, data="CIFAR-100")


_NO_GROUP_ANNEALING = {"operation.temperature.schedule": "constant", "operation.temperature.start": 1.0}
_NO_EDGE_ANNEALING = {"topology.temperature.schedule": "constant", "topology.temperature.start": 1.0}

ABLATIONS: dict[str, Ablation] = {
    "annealing": Ablation(
        "Annealing in neither, one or both stages",
        f"{_EARLIER}, table 3 and §4.3; without annealing the temperature is 1",
        "dots-2020-cifar10",
        {
            "neither": Variant({**_NO_GROUP_ANNEALING, **_NO_EDGE_ANNEALING}, (_error(2.76, 0.09),)),
            "group-only": Variant(_NO_EDGE_ANNEALING, (_error(2.70, 0.11),)),
            "edge-only": Variant(_NO_GROUP_ANNEALING, (_error(2.57, 0.06),)),
            "both": Variant({}, (_error(2.45, 0.04),)),
        },
        {
            "operation.temperature.schedule": "exponential",
            "operation.temperature.start": 10.0,
            "operation.temperature.rate": 0.3,
        },
    ),
    "levels": Ablation(
        "One-level (OL) and bi-level (BL) optimisation of operation and topology search",
        f"{_EARLIER}, table 4",
        "dots-2020-cifar10",
        {
            "OL-OL": Variant({"operation.level": "one", "topology.level": "one"}, (_error(2.54, 0.06),)),
            "OL-BL": Variant({"operation.level": "one", "topology.level": "bi"}, (_error(2.59, 0.12),)),
            "BL-OL": Variant({"operation.level": "bi", "topology.level": "one"}, (_error(2.45, 0.04),)),
            "BL-BL": Variant({"operation.level": "bi", "topology.level": "bi"}, (_error(2.66, 0.07),)),
        },
    ),
    "topology-search": Ablation(
        "DARTS, its operations with a topology search, and DOTS",
        f"{_EARLIER}, table 5; {_DOTS}, table 2",
        "dots-2020-cifar10",
        {
            "DARTS": Variant(
                {"space.groups": "single", "topology.epochs": 0, "topology.warmup": 0},
                (_error(2.96), Published(97.02)),
            ),
            "DARTS-topology": Variant(
                {"space.groups": "single", "operation.retain": "top-1"}, (_error(2.60), Published(97.40))
            ),
            "groups-topology": Variant({"space.groups": "group-v2", "operation.retain": "groups"}, (_error(2.45),)),
        },
    ),
    "topology-depth": Ablation(
        "Cells of the network in which the topology is searched",
        f"{_EARLIER}, table 6 (figures not recorded here; §4.3: deeper was better)",
        "dots-2020-cifar10",
        {
            "shallow": Variant({"topology.layers": 8}, small={"topology.layers": 3}),
            "medium": Variant({"topology.layers": 14}, small={"topology.layers": 5}),
            "deep": Variant({"topology.layers": 17}, small={"topology.layers": 7}),
        },
    ),
    "groups": Ablation(
        "What the operation search retains",
        f"{_DOTS}, table 4b; the CIFAR-100 figures are those of the best cells",
        "dots-cifar10",
        {
            "DARTS-Top1": Variant({"space.groups": "single", "operation.retain": "top-1"}, _both(97.40, 0.09, 83.07)),
            "DARTS-Top2": Variant({"space.groups": "single", "operation.retain": "top-2"}, _both(97.42, 0.11, 82.96)),
            "Group-V1": Variant({"space.groups": "group-v1", "operation.retain": "groups"}, _both(97.48, 0.11, 83.55)),
            "Group-V2": Variant({"space.groups": "group-v2", "operation.retain": "groups"}, _both(97.51, 0.06, 83.72)),
        },
    ),
    "topology-space": Ablation(
        "Pairs of edges and any number of edges",
        f"{_DOTS}, table 4a; the CIFAR-100 figures are those of the best cells",
        "dots-cifar10",
        {
            "pairs": Variant({"topology.space": "k-edges", "topology.edges_per_node": 2}, _both(97.51, 0.06, 83.72)),
            "arbitrary": Variant({"topology.space": "arbitrary"}, _both(97.53, 0.08, 83.92)),
        },
    ),
    "edges-per-node": Ablation(
        "Edges a node keeps",
        f"{_TOPONAS}, table 6, whose nodes choose their outgoing edges, at equal parameters; ours choose incoming ones",
        "dots-cifar10",
        {
            **{
                str(k): Variant({"topology.space": "k-edges", "topology.edges_per_node": k}, (_error(error),))
                for k, error in ((1, 2.63), (2, 2.48), (3, 2.58))
            },
            "arbitrary": Variant({"topology.space": "arbitrary"}, (_error(2.44),)),
        },
    ),
    "nodes": Ablation(
        "Intermediate nodes of a cell",
        f"{_TOPONAS}, table 5, which counts inputs and output too (7, 8, 9, 11) and chooses outgoing edges",
        "dots-cifar10",
        {
            str(nodes): Variant({"space.nodes": nodes}, (_error(error),))
            for nodes, error in ((4, 2.60), (5, 2.56), (6, 2.53), (8, 2.77))
        },
    ),
    "edge-scale": Ablation(
        "An edge's share of a combination: 1/N(c) or 1",
        f"{_DOTS}, eq. 7, and {_EARLIER}, eq. 9 to 11; neither prints a comparison",
        "dots-cifar10",
        {"scaled": Variant({"topology.scaled": True}), "unscaled": Variant({"topology.scaled": False})},
    ),
}
