"""Presets: files of settings, each value beside its source, and overrides on top of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from dots_core.errors import CorruptFile, UsageError, nearest, quoted
from dots_core.storage.reading import read_file

_FOLDER = Path(__file__).parent
_SIZE_LIMIT = 1 << 20
_DEEPEST = 8
"""Dots in a key, far more than any has."""


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
        if not path.exists():
            raise UsageError(f"there is no preset file {quoted(name)}")
        return path
    path = _FOLDER / kind / f"{name}.yaml"
    names = preset_names(kind)
    if name not in names:
        raise UsageError(
            f"unknown {kind} preset '{quoted(name)}'{nearest(name, names)}; presets: {', '.join(names)}, "
            "or a .yaml file"
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
        raise UsageError(f"{path}: extends must name a preset, not {quoted(base)}")
    return merged(preset_values(kind, base), values)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file, plain values only.

    Raises
    ------
    CorruptFile
        If the file is not YAML, holds anything but plain values, or no mapping.
    """
    from dots.config.presets.plain_yaml import parse_yaml

    try:
        values = parse_yaml(read_file(path, _SIZE_LIMIT).decode("utf-8-sig"))
    except ValueError as error:  # of the text's encoding, too
        raise CorruptFile(f"{quoted(str(path))} is not a YAML settings file ({quoted(str(error))})") from None
    except OSError as error:
        raise UsageError(f"cannot read {quoted(str(path))}: {error.strerror}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise CorruptFile(f"{quoted(str(path))} holds no settings, which are lines of the form key: value")
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
    from dots.config.presets.plain_yaml import parse_yaml

    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes KEY=VALUE, for example topology.epochs=10, not '{quoted(text)}'")
        try:
            parsed = parse_yaml(value)
        except ValueError as error:
            raise UsageError(f"--set {quoted(key)}: the value '{quoted(value)}' cannot be read ({error})") from None
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
    """Turn dotted keys into nested sections.

    Raises
    ------
    UsageError
        If what is given is no mapping of dotted keys, or two of them say the same setting.
    """
    if not isinstance(flat, Mapping):
        raise UsageError(f"settings are a mapping such as {{'topology.epochs': 10}}, not {quoted(flat)}")
    values: dict[str, Any] = {}
    for dotted, value in flat.items():
        if not isinstance(dotted, str) or dotted.count(".") > _DEEPEST:
            raise UsageError(f"unknown key '{quoted(dotted)}'; keys are texts such as topology.epochs")
        section: Any = value
        for part in reversed(dotted.split(".")):
            section = {part: section}
        values = _joined(values, section)
    return values


def _joined(values: Mapping[str, Any], more: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the settings of both, as `merged` does, refusing one that both have."""
    joined = dict(values)
    for key, value in more.items():
        if key not in joined:
            joined[key] = value
        elif isinstance(joined[key], Mapping) and isinstance(value, Mapping):
            joined[key] = _joined(joined[key], value, f"{above}{key}.")
        else:
            raise UsageError(f"the settings give '{quoted(f'{above}{key}')}' twice; give it once")
    return joined


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested sections into dotted keys; the inverse of `nested`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and key != "cell":
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
