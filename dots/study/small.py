"""The small scale of any search preset: its method, at the sizes of the preset ``smoke``."""

from __future__ import annotations

from typing import Any

from dots.config.presets import flattened, preset_path, preset_values, read_yaml
from dots.config.schema import SearchConfig, parse_config


def small_settings(preset: str) -> dict[str, Any]:
    """Return the settings that bring a search preset for CIFAR to seconds on the embedded digits.

    They are those ``smoke`` itself has: images, sizes, rates and lengths. What a preset does without, a
    warm-up or a stage, it stays without; a temperature that falls exponentially falls as fast as that of
    ``smoke``; a subset of the images and an own rate of the second stage are dropped. The images a stage warms
    up on are the preset's.
    """
    own = read_yaml(preset_path("search", "smoke"))
    own.pop("extends")
    small = flattened(own)
    del small["topology.warmup_split"]
    config = parse_config(SearchConfig, preset_values("search", preset), f"search preset {preset}")
    assert isinstance(config, SearchConfig)
    rate = small["topology.temperature.rate"]
    if config.operation.temperature.schedule == "exponential":
        small["operation.temperature.rate"] = rate
    if config.operation.warmup == 0:
        small["operation.warmup"] = 0
    if config.topology.epochs == 0:
        small = {key: value for key, value in small.items() if not key.startswith("topology.")}
    elif config.topology.architecture_learning_rate is not None:
        small["topology.architecture_learning_rate"] = None
    if config.train_images:
        small["train_images"] = 0
    # Half of the part of the channels that is mixed must be a whole number.
    small["channels"] = max(small["channels"], 2 * config.operation.partial_channels)
    return small
