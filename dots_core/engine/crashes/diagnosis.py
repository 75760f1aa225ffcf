"""Which layer was it? What is said of a process that died of a signal."""

from __future__ import annotations

from dots_core.engine.crashes.alone import CHILD, FAULTS, Job, death, run_alone
from dots_core.engine.crashes.forms import Form
from dots_core.engine.protocol import Runtime

__all__ = ["FAULTS", "death", "died_at"]


def died_at(code: int | None, forms: tuple[Form, ...], backend: str, runtime: Runtime) -> str:
    """Return how a process ended and, if by a fault of its own, at which layer, in one line.

    For that, each layer of the forms and each form are run alone. It takes an engine's start and seconds.

    Parameters
    ----------
    code : int or None
        The process's return code, that of a signal if negative.
    forms : tuple of Form
        What it had to run.
    """
    how = death(code)
    if code is None or -code not in FAULTS or not forms:
        return how
    apart = tuple(dict.fromkeys(part for form in forms for part in (*form.layers(), form)))
    outcome = run_alone(Job(backend, apart, runtime.device, runtime.precision), child=CHILD)
    if outcome.deaths:
        form, alone = outcome.deaths[0]
        return f"{how}; run layer by layer, it {alone} at: {form.name}"
    if outcome.begun < len(apart):
        return f"{how}; layer by layer it could not be run"
    return f"{how}; run layer by layer, it dies of none of its {len(apart)} layer forms"
