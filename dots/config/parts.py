"""Parts: everything that a setting takes by name, of dots and of installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from dots.config.schema import CONFIGS, OneOf, Several, choices
from dots_core.engine.protocol import PRECISIONS
from dots_core.engine.registry import backends
from dots_core.errors import UsageError, nearest, quoted
from dots_core.network.stems import STEMS
from dots_core.plan.early_stop import EARLY_STOPS
from dots_core.plan.levels import LEVELS
from dots_core.plan.schedules import RATE_SCHEDULES, TEMPERATURE_SCHEDULES
from dots_core.search_space.derivation import RETENTIONS
from dots_core.search_space.mixing import SAMPLINGS
from dots_core.search_space.operations import OPERATIONS
from dots_core.search_space.registry import Registry
from dots_core.search_space.topology import TOPOLOGY_SPACES

_TAKES = (OneOf, Several)

_REGISTRIES: tuple[Registry[Any], ...] = (
    OPERATIONS,
    TOPOLOGY_SPACES,
    RETENTIONS,
    LEVELS,
    SAMPLINGS,
    TEMPERATURE_SCHEDULES,
    RATE_SCHEDULES,
    EARLY_STOPS,
    STEMS,
    PRECISIONS,
)

REGISTRIES = {registry.group.removeprefix("dots.").replace("_", "-"): registry for registry in _REGISTRIES}
"""All kinds of parts, by the names they have in commands and pages."""


def parts(kind: str | None = None) -> dict[str, dict[str, Any]]:
    """Describe the parts of a kind, or of all kinds.

    Returns
    -------
    dict
        For each kind ``what`` it is, the ``entry_point`` group by which a package adds more, the ``settings`` that take
        one, and the ``parts``: for each name its line.

    Raises
    ------
    UsageError
        If there is no such kind.
    """
    if kind is not None and kind not in REGISTRIES:
        hint = nearest(quoted(kind), list(REGISTRIES))
        raise UsageError(f"there is no kind of part '{quoted(kind)}'{hint}; kinds: {', '.join(REGISTRIES)}")
    return {name: _described(registry) for name, registry in REGISTRIES.items() if kind in (None, name)}


def _described(registry: Registry[Any]) -> dict[str, Any]:
    settings = {key: None for model in CONFIGS.values() for key in _settings(model, registry)}
    return {
        "what": registry.kind,
        "entry_point": registry.group,
        "settings": list(settings),
        "parts": {
            part.name: f"{part.about}{_engines(part.name) if registry is PRECISIONS else ''}" for part in registry
        },
    }


def _settings(model: type[BaseModel], registry: Registry[Any], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _settings(section, registry, f"{prefix}{name}.")
        elif any(each.registry is registry for each in (*choices(field), *field.metadata) if isinstance(each, _TAKES)):
            yield f"{prefix}{name}"


def _engines(precision: str) -> str:
    """The engines that say they compute in a precision; others are asked when they are used."""
    return f" ({', '.join(engine.name for engine in backends() if precision in engine.precisions) or 'no engine'})"
