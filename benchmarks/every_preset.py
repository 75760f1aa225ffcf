"""Run every search preset end to end on real images, scaled down: 2 epochs a stage on a few hundred images.

    python benchmarks/every_preset.py --data cifar10-images/
    python benchmarks/every_preset.py --data cifar10-images/ --backend jittor --presets gdas-cifar10 snas-cifar10

The folder has the form `train/<class>/*.jpg`, `test/<class>/*.jpg`. Printed for each preset: the seconds it
took, the accuracy of its last supernet, and the normal cell it derived. The figures say that a recipe runs
whole, not how good it is.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dots
from dots.config.presets import preset_names, preset_values
from dots_core.data import load


def scaled(preset: str, images: int) -> dict[str, Any]:
    """Settings that leave a preset its method; dotted keys."""
    values = preset_values("search", preset)
    settings: dict[str, Any] = {
        "batch": 32,
        "channels": 8,
        "operation.layers": 3,
        "topology.layers": 3,
        "test_images": 128,
        "image_size": 64 if values.get("stem") == "imagenet" else 32,
    }
    if "train_share" not in values:
        settings["train_images"] = images
    for stage in ("operation", "topology"):
        if values[stage]["epochs"]:
            settings |= {f"{stage}.warmup": min(1, values[stage]["warmup"]), f"{stage}.epochs": 2}
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--presets", nargs="+", default=preset_names("search"))
    asked = parser.parse_args()
    folders = {size: load(asked.data, image_size=size) for size in (32, 64)}
    for preset in asked.presets:
        settings = scaled(preset, asked.images)
        settings["data"] = None
        data = folders[settings.pop("image_size")]
        begin = time.perf_counter()
        with TemporaryDirectory() as folder:
            result = dots.search(
                preset,
                backend=asked.backend,
                data=data,
                settings={**settings, "image_size": None},
                out=Path(folder) / "run",
                verbose=False,
            )
        seconds, accuracy = time.perf_counter() - begin, result.metrics["validation_accuracy"]
        print(f"{preset:26} {seconds:6.1f} s  {accuracy:6.1%}  {result.genotype.normal}", flush=True)


if __name__ == "__main__":
    main()
