"""What to do with a found cell next: the training that fits the search's images."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dots.config.presets import flattened, preset_values, setting_text
from dots.config.schema import CONFIGS, SearchConfig, parse_config
from dots_core.data import ImageData
from dots_core.engine.registry import choose_backend

_OF_THE_IMAGES = ("image_size", "test_split", "test_share", "test_seed")
"""Settings that say which images are read and how: a training takes those of its search."""

_CIFAR_SIDE = 32
"""Images of this side are what the training presets for CIFAR are published for."""


@dataclass(frozen=True)
class Training:
    """A training, as a user would ask for it.

    Attributes
    ----------
    run : Path
        The search whose cell it trains.
    preset : str
    data : str
        Where its images are; empty where they exist in the calling program alone.
    backend : str
        Empty for the engine that is taken when none is named.
    settings : dict
        Overrides of the preset, dotted keys.
    """

    run: Path
    preset: str
    data: str
    backend: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        """The command, or, for images that no command can reach, the call; either can be copied as it stands."""
        if not self.data:
            given = [repr(str(self.run)), repr(self.preset), "data=data"]
            given += [f"backend={self.backend!r}"] if self.backend else []
            given += [f"settings={self.settings!r}"] if self.settings else []
            return f"dots.train({', '.join(given)})"
        options = [("--cell", str(self.run)), ("--data", self.data), ("--preset", self.preset)]
        options += [("--backend", self.backend)] if self.backend else []
        options += [("--set", f"{key}={setting_text(value)}") for key, value in self.settings.items()]
        return shlex.join(["dots", "train", *(part for option in options for part in option)])


def training_after(search: SearchConfig, data: ImageData, run: Path) -> Training:
    """Return the training of a search's cell on its images, at their size, with a preset that fits them.

    That is the preset ``smoke`` for the embedded digits, otherwise the evaluation usual for CIFAR or, after a
    search with the stem for ImageNet, that of the mobile setting. What of it does not suit other images than
    those it is published for is set anew: a square of 16 pixels would cut out all of a small image, a batch must
    not exceed the images, and where the search mirrored no image, the training does not either.
    """
    digits = search.data == "digits"
    preset = "smoke" if digits else "imagenet-mobile" if search.stem == "imagenet" else "cifar"
    usual = flattened(parse_config(CONFIGS["train"], preset_values("train", preset), preset).model_dump(mode="json"))
    fitting: dict[str, Any] = {key: getattr(search, key) for key in _OF_THE_IMAGES}
    if not digits:
        fitting["stem"] = search.stem  # one of a package, too
    side = min(data.shape[1:])
    if not digits and side < _CIFAR_SIDE:
        for key in ("augmentation.cutout", "augmentation.crop"):
            fitting[key] = usual[key] * side // _CIFAR_SIDE
    if not search.augmentation.flip:
        fitting["augmentation.flip"] = False
    if usual["batch"] > len(data.train):
        fitting["batch"] = search.batch
    return Training(
        Path(_from_here(run)),
        preset,
        "" if search.data is None or search.data.startswith("python:") else _from_here(search.data),
        "" if search.backend in (None, choose_backend(None).name) else str(search.backend),
        {key: value for key, value in fitting.items() if value != usual[key]},
    )


def _from_here(path: str | os.PathLike[str]) -> str:
    """A path below the working directory without what leads there."""
    here, path = os.getcwd() + os.sep, os.fspath(path)
    return path.removeprefix(here)
