"""A run's newest checkpoint as a network, a state and a batch, for comparing engines on it."""

from __future__ import annotations

from pathlib import Path

from dots.config.plan import plan_of
from dots.run_directory.images import images_of
from dots.run_directory.layout import read_run_config
from dots_conformance.snapshot import NetworkSnapshot
from dots_core.engine.protocol import Setup
from dots_core.engine.state import rounded_state
from dots_core.errors import DataMissing, UsageError
from dots_core.search.batches import BatchSource
from dots_core.search.progress import Progress
from dots_core.search_space.mixing import Temperature
from dots_core.storage.checkpoint import newest_checkpoint


def snapshot_of_run(run: Path) -> NetworkSnapshot:
    """Return the network and state of a run's newest checkpoint, with the next batch w would learn from.

    Raises
    ------
    UsageError
        If it is no run, or has no checkpoint.
    DataMissing
        If its images were passed from Python.
    CorruptFile
        If a file of it is damaged.
    """
    config = read_run_config(run)
    found = newest_checkpoint(run / "checkpoints")
    if found is None:
        raise UsageError(f"{run} has no checkpoint yet")
    if config.data is None or config.data.startswith("python:"):
        raise DataMissing(f"{run} was begun with images passed from Python, which are not kept with it")
    plan, progress = plan_of(config), Progress.from_record(found[1].progress)
    progress.check_within(plan, found[0])
    stage = plan.stages[min(progress.stage, len(plan.stages) - 1)]
    ended = progress.stage == len(plan.stages)
    phase = stage.phases[-1 if ended else progress.phase]
    epoch = phase.epochs - 1 if ended else progress.epoch
    data = images_of(config)
    spec = stage.network(plan, progress.cell_specs(), len(data.classes), data.shape)
    number = ["w" in update.groups for update in phase.updates].index(True)
    batch = next(iter(BatchSource(plan, data).loader(stage, phase, number, spec).batches(progress.global_epoch, 0)))
    temperature = Temperature(
        phase.alpha_temperature.at(epoch, phase.epochs), phase.beta_temperature.at(epoch, phase.epochs)
    )
    setup = Setup(spec, stage.optimizers, plan.loss, plan.runtime)
    return NetworkSnapshot(setup, rounded_state(found[1].state), batch, temperature)
