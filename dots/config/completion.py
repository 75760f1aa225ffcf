"""What a shell offers for ``--set KEY=VALUE``: keys and values from the settings' own description."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, MutableMapping
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dots.config.schema import CONFIGS, choices, known_keys

_KEY = "_DOTS_COMPLETED_KEY"
"""Whose value is completed, where the shell has taken a setting apart at its "=" and asks for what is behind alone."""


def complete_setting(kind: str, incomplete: str, environment: MutableMapping[str, str]) -> list[str]:
    """Return what a setting that has been begun can become.

    Of several keys each with a "=" behind; of one key what may be set, or else its default. Nothing is offered that
    would be refused whatever else is set.

    Parameters
    ----------
    kind : str
        ``"search"`` or ``"train"``.
    environment : mapping
        Of the process (`rejoin`).
    """
    model = CONFIGS[kind]
    if _KEY in environment:
        return [each for each in _values(model, environment[_KEY]) if each.startswith(incomplete)]
    key, equals, value = incomplete.partition("=")
    if not equals:
        keys = [each for each in known_keys(model) if each.startswith(key) and each != "kind"]
        if len(keys) != 1:
            return [f"{each}=" for each in keys]
        key = keys[0]
    return [f"{key}={each}" for each in _values(model, key) if each.startswith(value)]


def rejoin(environment: MutableMapping[str, str]) -> None:
    """Put a setting together again that Bash has taken apart: ``channels = 8``, to it three words."""
    if environment.get("_DOTS_COMPLETE") != "complete_bash" or "COMP_WORDS" not in environment:
        return
    try:
        words, at = shlex.split(environment["COMP_WORDS"]), int(environment["COMP_CWORD"])
    except ValueError:  # an open quotation mark
        return
    joined: list[str] = []
    glued = False  # whether the next word belongs to the one before
    place, alone = len(words), False
    for number, word in enumerate(words):
        behind = glued
        if word == "=" and joined and joined[-1].startswith("-"):  # --set=…
            joined += [""] if number == at else []
        elif word == "=" and joined and not glued:
            joined[-1] += word
            behind = glued = True
        elif glued:
            joined[-1] += word
            glued = False
        else:
            joined.append(word)
        if number == at:
            place, alone = len(joined) - 1, behind
    if at >= len(words):
        place, alone = len(joined) - glued, glued
    if alone:
        environment[_KEY], _, joined[place] = joined[place].partition("=")
    environment["COMP_WORDS"], environment["COMP_CWORD"] = shlex.join(joined), str(place)


def _values(model: type[BaseModel], dotted: str) -> Iterator[str]:
    """What may be set, where that can be listed, and the default otherwise."""
    *sections, name = dotted.split(".")
    for section in sections:
        inner = model.model_fields[section].annotation if section in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return
        model = inner
    field = model.model_fields.get(name)
    if field is None:
        return
    offered = list(_choices(field))
    if not offered and isinstance(field.default, (int, float, str)):
        offered = [field.default]
    yield from dict.fromkeys(yaml.safe_dump(each).removesuffix("\n...\n").strip() for each in offered)


def _choices(field: FieldInfo) -> Iterator[Any]:
    for each in choices(field):
        yield from each.names
    annotation = field.annotation
    for part in (annotation, *get_args(annotation)):
        if part is bool:
            yield from (True, False)
        elif get_origin(part) is Literal:
            yield from get_args(part)
        elif part is type(None):
            yield None
