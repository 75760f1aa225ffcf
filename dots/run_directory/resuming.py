"""Going on with a run: what may change when it is, and what can be done instead where something else has."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from dots.config.presets import flattened, setting_text
from dots.config.schema import Config
from dots.run_directory.layout import CONFIG, differences
from dots_core.errors import UsageError, quoted

MOVABLE = ("backend", "device", "data")
"""Settings that say where a run computes and where its images lie; the images are known by their fingerprint."""

_SHOWN = 5


def check_unchanged(run: Path, saved: Config, asked: Config, repeated: bool, cell: object = None) -> None:
    """Check that a run is asked to go on as it was begun, but for what is movable.

    Parameters
    ----------
    repeated : bool
        Whether the request names a preset and so describes a whole run, not only what is to change.
    cell : str or Genotype, optional
        The cell the request names.

    Raises
    ------
    UsageError
        Naming what differs and the command that starts a new run of it.
    """
    texts = {text.partition(":")[0]: text for text in differences(saved, asked)}
    changed = {key: text for key, text in texts.items() if key not in MOVABLE}
    if not changed:
        return
    anew = f"--out {shlex.quote(str(_beside(run)))}"
    if repeated:
        instead = f"give the same command with {anew}"
    else:
        instead = f"{_over(run, asked, [*changed, *(key for key in texts if key == 'data')], cell)} {anew}"
    if (run / "summary.json").is_file():
        standing = "is finished, and its schedules span the epochs it has: it is neither lengthened nor changed"
        remedy = f"start a new run: {instead}"
    else:
        standing = "was begun with other settings"
        remedy = f"start a new run: {instead}; or go on as it was begun: {resume_command(saved.kind, run)}"
    shown = [quoted(text) for text in list(changed.values())[:_SHOWN]]
    if len(changed) > _SHOWN:
        shown.append(f"and {len(changed) - _SHOWN} more")
    raise UsageError(f"{quoted(str(run))} {standing} ({'; '.join(shown)}); {remedy}")


def resume_command(kind: str, run: Path) -> str:
    """Return the command that goes on with a run."""
    return f"dots {kind} --out {shlex.quote(str(run))} --resume"


def _over(run: Path, asked: Config, changed: Iterable[str], cell: object) -> str:
    """Return the command that starts a run like another one but for what changed."""
    values = flattened(asked.model_dump(mode="json"))
    parts = ["dots", asked.kind, "--preset", str(run / CONFIG)]
    for key in changed:
        if key == "cell":
            parts += ["--cell", cell if isinstance(cell, str) else "CELL"]
        elif key == "data":
            parts += ["--data", values[key]]
        else:
            parts += ["--set", f"{key}={setting_text(values.get(key))}"]
    return shlex.join(parts)


def _beside(run: Path) -> Path:
    """Return a name for a run beside another that none has."""
    run = run if run.name not in ("", "..") else run.resolve()
    number = 2
    while os.path.lexists(other := run.with_name(f"{run.name}-{number}")):
        number += 1
    return other
