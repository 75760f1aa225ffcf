"""What is said of a run whose process died of a signal."""

from __future__ import annotations

from pathlib import Path

from dots_conformance.diagnosis import FAULTS, death, died_at
from dots_conformance.forms import Form, network_forms

from dots.plans import plan_of
from dots.rundir import read_run_config
from dots_core.backends import choose_backend
from dots_core.data import ImageData, load
from dots_core.errors import DotsError
from dots_core.plan import Plan


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
        forms = _forms(plan, load(config.data or "digits", config.image_size))
        backend = choose_backend(config.backend).name
    except DotsError:  # it died before there was a run, or what the run reads is gone
        return death(code)
    return died_at(code, forms, backend, plan.runtime)


def _forms(plan: Plan, data: ImageData) -> tuple[Form, ...]:
    """The forms of all networks; what a stage before retains, a later one holds in the same places."""
    forms: dict[Form, None] = {}
    for stage in plan.stages:
        cells = stage.fixed_cells()
        if cells is not None:
            spec = stage.network(plan, cells, len(data.classes), data.shape)
            forms |= dict.fromkeys(network_forms(spec, plan.batch))
    return tuple(forms)
