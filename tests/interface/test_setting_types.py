"""What is no number is not taken for one, wherever a setting wants numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dots.config.presets import nested, parse_settings
from dots.config.schema import CONFIGS, SearchConfig, TrainConfig, parse_config
from dots_core.errors import UsageError


def numbers(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Every key whose value is a number, and the value."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((prefix + key, value))
    return found


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_key_takes_a_truth_value_or_a_text_for_a_number(kind):
    keys = numbers(CONFIGS[kind]().model_dump())
    assert len(keys) > 20
    for key, value in keys:
        for wrong in (True, False, np.bool_(True), str(value)):
            with pytest.raises(UsageError, match=f"here: {key}: input should be a number, not"):
                parse_config(CONFIGS[kind], nested({key: wrong}), "here")
        assert (key, value) in numbers(parse_config(CONFIGS[kind], nested({key: value}), "here").model_dump())


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("channels=true", "channels: input should be a number, not True"),
        ("channels='8'", "channels: input should be a number, not '8'"),
        ("train_share=yes", "train_share: input should be a number, not True"),
        ("operation.once_at=false", "operation.once_at: input should be a number, not False"),
        ("operation.order=true", "operation.order: input should be a number, not True"),
        ("operation.betas=[0.5, true]", "operation.betas.1: input should be a number, not True"),
        ("space.edges=[[0, 2], [true, 2]]", "space.edges.1.0: input should be a number, not True"),
        ("space.attention={skip_connect: true}", "space.attention"),
        ("space.nodes={a: true}", "space.nodes"),
        ("image_size=on", "image_size: input should be a number, not True"),
        ("deterministic=1", "deterministic: input should be a valid boolean, not 1"),
        ("balanced='no'", "balanced: input should be a valid boolean, not 'no'"),
    ],
)
def test_such_settings_are_refused_by_name(setting, said):
    with pytest.raises(UsageError) as caught:
        parse_config(SearchConfig, nested(parse_settings([setting])), "here")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("3e-4", 3e-4), ("+1E2", 100.0), ("1e0", 1.0), ("2", 2.0), ("1_000", 1000.0), (".5", 0.5)]
)
def test_numbers_may_be_written_as_they_are_elsewhere(setting, value):
    values = nested(parse_settings([f"weights.learning_rate={setting}"]))
    assert parse_config(TrainConfig, values, "here").weights.learning_rate == value


def test_numbers_of_numpy_are_numbers():
    values = nested({"channels": np.int64(8), "split": np.float32(0.5)})
    config = parse_config(SearchConfig, values, "here")
    assert (config.channels, config.split) == (8, 0.5)
