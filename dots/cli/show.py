"""Showing a cell: its genotype, parameters, multiply-accumulates and picture."""

from __future__ import annotations

from typing import Any

from dots_core.network.counts import mac_count, parameter_count
from dots_core.network.spec import derived_network
from dots_core.search_space.genotype import Genotype


def describe(
    genotype: Genotype,
    layers: int = 20,
    channels: int = 36,
    classes: int = 10,
    image_size: int = 32,
    stem: str = "cifar",
    auxiliary: bool = False,
) -> dict[str, Any]:
    """Return a cell's genotype and the size of the network that stacks it.

    Returns
    -------
    dict
        ``genotype`` (record), ``params``, ``macs`` (multiply-accumulates of one image at
        evaluation; one MAC is two FLOPs) and ``network``, the arguments.
    """
    spec = derived_network(genotype, layers, channels, classes, (3, image_size, image_size), stem, auxiliary)
    return {
        "genotype": genotype.to_record(),
        "params": parameter_count(spec),
        "macs": mac_count(spec),
        "network": {
            "layers": layers,
            "channels": channels,
            "classes": classes,
            "image_size": image_size,
            "stem": stem,
            "auxiliary": auxiliary,
        },
    }
