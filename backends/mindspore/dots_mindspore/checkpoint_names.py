"""Weights and statistics under MindSpore's own names, and in its own checkpoint files.

Convolutions and linear maps are called the same and laid out alike. A batch norm's four arrays
are ``weight``, ``bias``, ``running_mean`` and ``running_var`` in canonical names, and ``gamma``,
``beta``, ``moving_mean`` and ``moving_variance`` in `mindspore.nn.BatchNorm2d`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from dots_core.errors import CorruptFile, UsageError

_NORM = re.compile(r"(?:^|\.)norm\d*$")
_MINDSPORE = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_CANONICAL = {theirs: ours for ours, theirs in _MINDSPORE.items()}
_STATISTICS = ("running_mean", "running_var")


def mindspore_name(name: str) -> str:
    """Return MindSpore's name of a canonical weight or statistic: ``stem.norm.weight`` is ``stem.norm.gamma``."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.{_MINDSPORE[part]}" if _NORM.search(layer) and part in _MINDSPORE else name


def canonical_name(name: str) -> str:
    """Return the canonical name of what MindSpore calls so; the inverse of `mindspore_name`."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.{_CANONICAL[part]}" if _NORM.search(layer) and part in _CANONICAL else name


def write_checkpoint(path: Path, state: Mapping[str, NDArray[np.generic]]) -> None:
    """Write weights and statistics as a MindSpore checkpoint in safetensors format.

    Parameters
    ----------
    path : Path
        Must end in ``.safetensors``; MindSpore leaves the file readable by its owner only.
    state : dict
        What ``Network.export_state`` returned, in its shapes; optimisers and architecture weights are left out.

    Raises
    ------
    UsageError
        If the path has another ending.
    """
    if path.suffix != ".safetensors":
        raise UsageError(f"a MindSpore checkpoint's name must end in .safetensors here, and {path} does not")
    entries = []
    for key, value in state.items():
        sort, _, name = key.partition("/")
        if sort in ("weights", "statistics"):
            entries.append({"name": mindspore_name(name), "data": Tensor(np.ascontiguousarray(value))})
    ms.save_checkpoint(entries, str(path), format="safetensors")


def read_checkpoint(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read weights and statistics that `write_checkpoint`, or MindSpore itself, wrote in safetensors format.

    Returns
    -------
    dict
        ``weights/<name>`` and ``statistics/<name>`` by canonical name, in the shapes of
        ``Network.export_state``: with its other entries it is what ``import_state`` takes.

    Raises
    ------
    CorruptFile
        If the file is missing or MindSpore cannot read it.
    """
    try:
        found = ms.load_checkpoint(str(path), format="safetensors")
    except Exception as error:
        raise CorruptFile(f"{path} is no checkpoint MindSpore can read: {str(error).splitlines()[0]}") from None
    state = {}
    for theirs, parameter in found.items():
        name = canonical_name(theirs)
        sort = "statistics" if name.endswith(_STATISTICS) else "weights"
        state[f"{sort}/{name}"] = parameter.asnumpy().copy()
    return state
