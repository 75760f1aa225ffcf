"""The images of a run: loaded as its settings say, and told in its directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dots.config.schema import Config
from dots_core.data import ImageData, load
from dots_core.storage.atomic import to_json, write_atomic

DATA = "data.json"
FORMAT = "dots-data"
VERSION = 1


def images_of(config: Config, given: ImageData | None = None, decoded_at_most: int | None = None) -> ImageData:
    """Return the images that settings name, or those given in their stead.

    Parameters
    ----------
    decoded_at_most : int, optional
        See `dots_core.data.load`.

    Raises
    ------
    DotsError
        See `dots_core.data.load`.
    """
    if given is None:
        assert config.data is not None, "settings that name no images"
        source: str | ImageData = config.data
        size = config.image_size
    else:
        source, size = given, None
    data = load(
        source,
        size,
        test_split=config.test_split,
        test_share=config.test_share,
        test_seed=config.test_seed,
        decoded_at_most=decoded_at_most,
    )
    beyond = [
        f"{name} is {wanted:,}, but there are {there:,}: all are used"
        for name, wanted, there in (
            ("train_images", config.train_images, len(data.train)),
            ("test_images", config.test_images, len(data.test)),
        )
        if wanted > there
    ]
    if not beyond:
        return data
    return replace(data, account=replace(data.account, warnings=(*data.account.warnings, *beyond)))


def images_record(data: ImageData) -> dict[str, Any]:
    """Describe images: what a network was trained on, and what it needs to be told to be used."""
    channels, height, width = data.shape
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": data.name,
        "classes": list(data.classes),
        "height": height,
        "width": width,
        "channels": channels,
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "images": {"train": len(data.train), "test": len(data.test)},
        "passed_over": data.account.passed_over_records(),
        "notes": list(data.account.notes),
        "warnings": list(data.warnings),
    }


def write_images_record(run: Path, data: ImageData, anew: bool = False) -> None:
    """Write ``data.json`` into a run that begins, or has none yet; where images lie may change, they do not.

    Raises
    ------
    DotsError
        If it cannot be written.
    """
    if anew or not (run / DATA).exists():
        write_atomic(run / DATA, to_json(images_record(data)))
