"""What is said of a run whose process died of a signal."""

from __future__ import annotations

from pathlib import Path

from dots.config.plan import plan_of
from dots.run_directory.images import DATA
from dots.run_directory.layout import read_run_config
from dots_core.engine.crashes.diagnosis import FAULTS, death, died_at
from dots_core.engine.crashes.forms import Form, network_forms
from dots_core.engine.registry import choose_backend
from dots_core.errors import DotsError
from dots_core.plan.plan import Plan
from dots_core.storage.reading import read_json


def run_died_at(code: int, run: Path) -> str:
    """Return how a run's process ended and, if by a fault of its own, at which layer, in one line.

    Parameters
    ----------
    code : int
        The process's return code, that of a signal if negative.
    run : Path
        The run directory, which may not be there yet.
    """
    if -code not in FAULTS:
        return death(code)
    try:
        config = read_run_config(run)
        plan = plan_of(config)
        images = read_json(run / DATA)
        shape = (images["channels"], images["height"], images["width"])
        forms = _forms(plan, len(images["classes"]), shape)
        backend = choose_backend(config.backend).name
    except (DotsError, OSError, KeyError, TypeError):  # it died before there was a run, or the run is damaged
        return death(code)
    return died_at(code, forms, backend, plan.runtime)


def _forms(plan: Plan, classes: int, shape: tuple[int, int, int]) -> tuple[Form, ...]:
    """The forms of all networks; what a stage before retains, a later one holds in the same places."""
    forms: dict[Form, None] = {}
    for stage in plan.stages:
        if not stage.retains:
            spec = stage.network(plan, stage.cells_by_type(), classes, shape)
            forms |= dict.fromkeys(network_forms(spec, plan.batch))
    return tuple(forms)
