"""A preset scaled down: fewer epochs, the same shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dots.config.presets import merged, nested
from dots.config.schema import CONFIGS, OperationSection, SearchConfig, StageSection, parse_config
from dots_core.errors import UsageError, quoted
from dots_core.plan.schedules import TEMPERATURE_SCHEDULES


def shortened(kind: str, values: dict[str, Any], scale: float, origin: str) -> dict[str, Any]:
    """Return all settings of a preset with every length counted in epochs multiplied by ``scale``.

    Each phase is shortened for itself, so warm-ups keep their share, and rounded (a half up) to no fewer than one
    epoch, or two where a temperature changes, its first and its last. A temperature starts and ends where it
    did: an exponential one falls faster, a linear one is of any length. Learning rates, drop-path and updates once
    an epoch go by the share of the run, or of the epoch, that has passed; nothing of them is changed.

    Parameters
    ----------
    kind, values, origin
        As `dots.config.presets.preset_values` gives them, and what to call them in messages.
    scale : float
        Above 0 and at most 1.

    Raises
    ------
    UsageError
        If the scale is none, or the settings cannot be read.
    """
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale <= 1:
        raise UsageError(
            f"a scale shortens a preset and is a number above 0 and at most 1, for example 0.1, not {quoted(scale)}"
        )
    config = parse_config(CONFIGS[kind], values, origin)
    whole = config.model_dump(mode="json")
    shorter = _Shorter(scale)
    changed: dict[str, Any] = {
        "evaluate_every": shorter.epochs(config.evaluate_every),
        "weights.warmup_epochs": shorter.epochs(config.weights.warmup_epochs),
    }
    if isinstance(config, SearchConfig):
        changed["diagnostics.every"] = shorter.epochs(config.diagnostics.every)
        changed["operation.early_stop_epochs"] = shorter.epochs(config.operation.early_stop_epochs)
        changed |= shorter.stage("operation", config.operation) | shorter.stage("topology", config.topology)
    else:
        changed["epochs"] = shorter.epochs(config.epochs)
    return merged(whole, nested(changed))


@dataclass(frozen=True)
class _Shorter:
    scale: float

    def epochs(self, epochs: int, least: int = 1) -> int:
        """Scale a number of epochs; what there is keeps ``least`` of them, where it has so many."""
        return max(int(self.scale * epochs + 0.5), min(least, epochs))

    def stage(self, name: str, section: StageSection) -> dict[str, Any]:
        """Return the changed settings of a stage, dotted keys."""
        searching = section.epochs - section.warmup
        if searching < 0:
            return {}  # refused later, with the keys and values the user gave
        temperatures = {"temperature": section.temperature}
        if isinstance(section, OperationSection):
            temperatures["beta_temperature"] = section.beta_temperature
        changes = not all(TEMPERATURE_SCHEDULES[temperature.schedule].steady for temperature in temperatures.values())
        warmup, search = self.epochs(section.warmup), self.epochs(searching, 2 if changes else 1)
        changed: dict[str, Any] = {f"{name}.warmup": warmup, f"{name}.epochs": warmup + search}
        for key, temperature in temperatures.items():
            shape = TEMPERATURE_SCHEDULES[temperature.schedule]
            changed[f"{name}.{key}.rate"] = shape.shortened(temperature.rate, searching, search)
        return changed
