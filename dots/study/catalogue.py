"""Which studies there are, what each is asked by default, and how a request becomes a study."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dots.study.questions.ablation import SMALL, AblationStudy
from dots.study.questions.ablations import ABLATIONS
from dots.study.questions.paths import PathStudy
from dots.study.questions.rank_correlation import RankCorrelationStudy
from dots.study.scale import Scale
from dots.study.study import Study
from dots_core.engine.registry import choose_backend
from dots_core.errors import UsageError, nearest, quoted

_ABLATION = "ablation "
_COMMON: dict[str, Any] = {
    "preset": None,
    "train_preset": None,
    "settings": {},
    "train_settings": {},
    "data": None,
    "device": None,
    "seeds": 3,
    "seed": 0,
}
_OWN: dict[str, dict[str, Any]] = {
    "rank-correlation": {"darts_settings": {}},
    "paths": {"topologies": 180, "best": 20, "seeds": 1},
}
_SMALL_SHALLOW: dict[str, Any] = {
    "data": "digits",
    "channels": 4,
    "epochs": 4,
    "batch": 32,
    "weights.learning_rate": 0.1,
    "augmentation.flip": False,
    "augmentation.crop": 1,
}
"""What makes the training of ``shallow`` one of seconds on the embedded digits."""


def ablation_name(name: str) -> str:
    """Return the study of an ablation.

    Raises
    ------
    UsageError
        If there is no ablation of that name.
    """
    if name not in ABLATIONS:
        names = list(ABLATIONS)
        raise UsageError(f"unknown ablation '{quoted(name)}'{nearest(name, names)}; ablations: {', '.join(names)}")
    return f"{_ABLATION}{name}"


def catalogue() -> dict[str, dict[str, str]]:
    """Return title and source of every study by name."""
    found = {
        "rank-correlation": (RankCorrelationStudy.title, RankCorrelationStudy.source),
        "paths": (PathStudy.title, PathStudy.source),
        **{f"{_ABLATION}{name}": (ablation.title, ablation.source) for name, ablation in ABLATIONS.items()},
    }
    return {name: {"title": title, "source": source} for name, (title, source) in found.items()}


def defaults(study: str) -> dict[str, Any]:
    """Return what a study is asked where the user says nothing; the engine is the first available."""
    return {**_COMMON, "backend": choose_backend(None).name, **_OWN.get(study, {})}


def build(study: str, asked: Mapping[str, Any]) -> Study:
    """Return the study a request asks for.

    Where no preset is asked for, the study has a small scale of its own, on the embedded digits.
    """
    if study.startswith(_ABLATION):
        ablation = ABLATIONS[study.removeprefix(_ABLATION)]
        return AblationStudy(ablation, _scale(asked, asked["preset"] or SMALL, asked["train_preset"] or SMALL))
    if study == "paths":
        train_small = {}
        if asked["train_preset"] is None:
            train_small = {key: value for key, value in _SMALL_SHALLOW.items() if key != "data" or not asked["data"]}
        scale = _scale(asked, "smoke", asked["train_preset"] or "shallow", train_small)
        return PathStudy(scale, asked["topologies"], asked["best"])
    scale = _scale(asked, asked["preset"] or "smoke", asked["train_preset"] or "smoke")
    return RankCorrelationStudy(scale, asked["darts_settings"])


def _scale(
    asked: Mapping[str, Any], preset: str, train_preset: str, train_small: Mapping[str, Any] | None = None
) -> Scale:
    return Scale(
        preset,
        train_preset,
        asked["settings"],
        {**(train_small or {}), **asked["train_settings"]},
        asked["data"],
        asked["backend"],
        asked["device"],
        asked["seeds"],
        asked["seed"],
    )


def command_of(study: str, asked: Mapping[str, Any], out: Path) -> str:
    """Return the command that asks for this study, every choice named."""
    from dots.config.presets import setting_text

    arguments = ["dots", "study", *study.split()]
    for key, value in asked.items():
        if isinstance(value, Mapping):
            option = f"--{key.replace('_', '-').replace('settings', 'set')}"
            arguments += [part for k, v in value.items() for part in (option, f"{k}={setting_text(v)}")]
        elif value is not None:
            arguments += [f"--{key.replace('_', '-')}", str(value)]
    return shlex.join([*arguments, "--out", str(out)])
