"""Presets: files of settings, each value beside its source, and overrides on top of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from dots_core.errors import CorruptFile, UsageError, nearest

_FOLDER = Path(__file__).parent
_SIZE_LIMIT = 1 << 20


def preset_names(kind: str) -> list[str]:
    """Return the names of the presets of a kind, ``"search"`` or ``"train"``."""
    return sorted(path.stem for path in (_FOLDER / kind).glob("*.yaml"))


def preset_path(kind: str, name: str) -> Path:
    """Return the file of a preset, given its name or the path of a YAML file.

    Raises
    ------
    UsageError
        If there is neither.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"there is no preset file {path}")
        return path
    path = _FOLDER / kind / f"{name}.yaml"
    names = preset_names(kind)
    if name not in names:
        raise UsageError(
            f"unknown {kind} preset '{name}'{nearest(name, names)}; presets: {', '.join(names)}, or a .yaml file"
        )
    return path


def preset_about(kind: str, name: str) -> str:
    """Return what a preset's file says about itself: its first paragraph of comment, on one line."""
    lines = preset_path(kind, name).read_text("utf-8").splitlines()
    said = takewhile(lambda line: line.startswith("# "), lines)
    return " ".join(line.removeprefix("# ").strip() for line in said)


def preset_values(kind: str, name: str) -> dict[str, Any]:
    """Return the settings of a preset, those of the preset it extends included."""
    path = preset_path(kind, name)
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str) or base.endswith((".yaml", ".yml")) or base == name:
        raise UsageError(f"{path}: extends must name a preset, not {base!r}")
    return merged(preset_values(kind, base), values)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file, plain values only.

    Raises
    ------
    CorruptFile
        If the file is not YAML, holds anything but plain values, or no mapping.
    """
    import yaml

    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise CorruptFile(f"{path} is larger than any settings file ({_SIZE_LIMIT} bytes)")
        values = yaml.safe_load(path.read_bytes().decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptFile(f"{path} is not a YAML settings file ({first})") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise CorruptFile(f"{path} holds no settings, which are lines of the form key: value")
    return values


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the values of ``over`` in place of its own, section by section."""
    values = dict(base)
    for key, value in over.items():
        below = values.get(key)
        values[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return values


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Turn ``KEY=VALUE`` texts with dotted keys into nested settings.

    Raises
    ------
    UsageError
        If a text has no ``=`` or its value is not YAML.
    """
    import yaml

    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes KEY=VALUE, for example topology.epochs=10, not '{text}'")
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            raise UsageError(f"--set {key}: the value '{value}' cannot be read") from None
        values = merged(values, nested({key: parsed}))
    return values


def setting_text(value: Any) -> str:
    """Return a value as ``--set`` reads it back."""
    import json

    import yaml

    if isinstance(value, str):
        try:
            plain = yaml.safe_load(value) == value
        except yaml.YAMLError:
            plain = False
        if plain:
            return value
    return json.dumps(value)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested sections."""
    values: dict[str, Any] = {}
    for dotted, value in flat.items():
        section: Any = value
        for part in reversed(dotted.split(".")):
            section = {part: section}
        values = merged(values, section)
    return values


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested sections into dotted keys; the inverse of `nested`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and key != "cell":
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
