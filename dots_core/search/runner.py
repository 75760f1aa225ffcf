"""Executes any plan on any engine: stages, phases, epochs, steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dots_core.data import ImageData
from dots_core.engine.protocol import Engine, Network, Rates, State
from dots_core.errors import CorruptFile, DotsError, NonFiniteLoss, UsageError
from dots_core.network.spec import NetworkSpec
from dots_core.plan.cell_records import cell_to_record
from dots_core.plan.early_stop import Stability, convolution_ranking
from dots_core.plan.plan import Phase, Plan, Retained, Stage, Update
from dots_core.search.batches import BatchSource, endless
from dots_core.search.diagnostics import (
    ArchitectureSummary,
    completed,
    decisions,
    retention_margin,
    smallest_margins,
    summarise_architecture,
)
from dots_core.search.evaluation import Evaluation
from dots_core.search.progress import Progress, Sums
from dots_core.search.saving import Saving
from dots_core.search.step import Stepper, StepPosition, due
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.derivation import derive
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature
from dots_core.storage.checkpoint import Checkpoint

_POP_EVERY = 20
"""Steps between reading losses back: often enough to stop soon after a NaN, rarely enough not to wait."""


class Interrupted(DotsError):
    """The run was asked to stop, saved a checkpoint and did."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Observer(Protocol):
    """Whoever watches a run."""

    def started(self, plan: Plan, progress: Progress, resumed_from: Path | None) -> None:
        """The run begins or goes on."""
        ...

    def warned(self, message: str) -> None:
        """Something the user should know, though the run goes on."""
        ...

    def stepped(self, stage: Stage, phase: Phase, progress: Progress, steps: int, temperature: Temperature) -> None:
        """Some steps are done; ``steps`` is how many the epoch has."""
        ...

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done and its row of metrics written."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes
    ----------
    genotype : Genotype or None
        None for a plan that derives none.
    last_row : dict
        The last epoch's metrics.
    best_accuracy : float
        Best accuracy on the test split; −1 if it was never evaluated.
    margins : dict
        For each sort of decision and trained cell type (``"alpha.normal"``, …), the smallest margin
        of the chosen candidate over the next (`dots_core.search.diagnostics.Decision`).
    """

    genotype: Genotype | None
    last_row: dict[str, Any]
    best_accuracy: float
    margins: dict[str, float]


def check_unrolling(plan: Plan, engine: Engine) -> None:
    """Raise `UsageError` if a plan asks for exact gradients of second order of an engine that has none."""
    updates = (update for stage in plan.stages for phase in stage.phases for update in phase.updates)
    if any(update.gradient.unrolls for update in updates) and not getattr(engine, "unrolls", False):
        raise UsageError(
            f"the engine {engine.name} cannot differentiate through a step of SGD; "
            "set operation.hypergradient and topology.hypergradient to finite-difference, or take an engine that "
            "can (torch)"
        )


class Runner:
    """One run of a plan in a folder.

    Parameters
    ----------
    folder : Path
        An existing folder, in which `dots_core.search.saving.Saving` keeps what the run leaves.

    Attributes
    ----------
    resumed_from : Path or None
        The checkpoint that `open` took up; None if it began.
    """

    def __init__(self, plan: Plan, data: ImageData, engine: Engine, folder: Path, observer: Observer) -> None:
        self.plan = plan
        self._data = data
        self._engine = engine
        self._observer = observer
        self._saving = Saving(folder, plan, data)
        self._batches = BatchSource(plan, data)
        self._evaluation = Evaluation(plan, data, engine, self._batches)
        self._stop_code: int | None = None
        self._last_row: dict[str, Any] = {}

    def request_stop(self, exit_code: int) -> None:
        """Finish the step at hand, save and raise `Interrupted` with the given exit code."""
        self._stop_code = exit_code

    def open(self) -> None:
        """Take the newest checkpoint up, or begin and write the first.

        Raises
        ------
        CorruptFile
            If the checkpoint is damaged or belongs to other data or another plan, the files beside it
            are not those it was written with, or there is none though the run has had one.
        UsageError
            If the engine cannot do what the plan asks for (`check_unrolling`).
        """
        check_unrolling(self.plan, self._engine)
        found = self._saving.take_up()
        if found is None:
            self._progress = self._fresh_progress()
            self._build(self._cells())
            self._save()
        else:
            self._restore(*found)
        self._saving.begin_files(self._progress)
        self.resumed_from = None if found is None else found[0]

    def run(self) -> Outcome:
        """Run the plan from where `open` took it up to its end.

        Raises
        ------
        Interrupted
            If a stop was requested; everything is saved.
        NonFiniteLoss
            If a loss or what was learned is not finite; the last checkpoint is from before.
        """
        self._observer.started(self.plan, self._progress, self.resumed_from)
        while self._progress.stage < len(self.plan.stages):
            self._epoch()
        return self._outcome()

    # -- where the run stands

    @property
    def _stage(self) -> Stage:
        return self.plan.stages[min(self._progress.stage, len(self.plan.stages) - 1)]

    @property
    def _phase(self) -> Phase:
        return self._stage.phases[self._progress.phase]

    def _engine_record(self) -> dict[str, Any]:
        runtime = self.plan.runtime
        return {
            "name": self._engine.name,
            "versions": self._engine.versions(),
            "device": runtime.device,
            "precision": runtime.precision,
        }

    def _fresh_progress(self) -> Progress:
        cells = self.plan.stages[0].cells_by_type()
        records = {kind: cell_to_record(cells[kind]) for kind in CELL_TYPES}
        return Progress(records, self._engine_record(), self._data.fingerprint, self.plan.digest)

    def _cells(self) -> dict[str, CellSpec]:
        return self._progress.cell_specs()

    def _build(self, cells: dict[str, CellSpec]) -> None:
        plan, stage = self.plan, self._stage
        self._spec: NetworkSpec = stage.network(plan, cells, len(self._data.classes), self._data.shape)
        self._network: Network = stage.build(plan, self._spec, self._engine)

    def _restore(self, path: Path, checkpoint: Checkpoint, progress: Progress) -> None:
        self._progress = progress
        self._build(self._cells())
        try:
            self._network.import_state(checkpoint.state)
        except CorruptFile as error:
            raise CorruptFile(f"{path}: {error}; {self._saving.way_out()}") from None
        # Nothing is refused any more.
        self._saving.cut(progress)
        now = self._engine_record()
        changed = [key for key in now if progress.engine.get(key) != now[key]]
        if changed:
            was, is_now = ({key: record.get(key) for key in changed} for record in (progress.engine, now))
            self._observer.warned(
                f"going on with {is_now}, saved with {was}: what follows need not be byte-equal to an uninterrupted run"
            )
        progress.engine = now

    def _save(self) -> None:
        self._saving.save(self._progress, self._finite_state())

    def _finite_state(self) -> State:
        """Export the network's state, refusing one that is not worth keeping."""
        state = self._network.export_state()
        for name, array in state.items():
            if not np.isfinite(array).all():
                step = self._progress.global_step
                raise NonFiniteLoss(self._lost(f"'{name}' became non-finite by step {step} of the run"))
        return state

    # -- an epoch

    def _epoch(self) -> None:
        progress = self._progress
        phase, temperature = self._phase, self._phase.temperature(progress.epoch)
        rate = self.plan.weights_rate(progress.stage, progress.phase, progress.epoch, progress.global_epoch)
        rates = Rates(rate, self._stage.architecture_rate)
        loaders = [self._batches.loader(self._stage, phase, n, self._spec) for n in range(len(phase.updates))]
        steps = loaders[["w" in update.groups for update in phase.updates].index(True)].steps
        if progress.step >= steps or progress.sums.steps != progress.step:
            raise CorruptFile(
                f"{self._saving.checkpoints}: the newest stands at step {progress.step} of an epoch of {steps} "
                f"steps, with {progress.sums.steps} counted; {self._saving.way_out()}"
            )
        before = progress.global_epoch - progress.epoch
        batches = [
            endless(loader, self._read_before(update, steps), before)
            for update, loader in zip(phase.updates, loaders, strict=True)
        ]
        salt = f"{self._stage.name}/{phase.name}"
        stepper = Stepper(self._network, self._spec, phase.updates, self.plan.seed, salt)
        pending: list[tuple[int, int, bool]] = []
        try:
            while progress.step < steps:
                position = StepPosition(progress.global_epoch, progress.step, steps)
                progress.step += 1
                progress.global_step += 1
                rows = stepper.step(lambda number: next(batches[number]), rates, temperature, position)
                pending += [(progress.step, number, own) for number, own in rows]
                last = progress.step == steps
                save = progress.step % self.plan.checkpoint_every == 0 and not last
                often = progress.step % _POP_EVERY == 0
                if last or save or often or self._stop_code is not None:
                    self._absorb(pending, steps)
                    pending = []
                    self._observer.stepped(self._stage, phase, progress, steps, temperature)
                if not last and (save or self._stop_code is not None):
                    self._save()
                    self._stop_if_asked()
        finally:
            for source in batches:
                source.close()
        self._finish_epoch(steps, rates, temperature)
        self._save()
        self._stop_if_asked()

    def _read_before(self, update: Update, steps: int) -> int:
        """How many batches an update has used in this phase."""
        progress = self._progress
        if update.once_at is None:
            return progress.epoch * steps + progress.step
        made = any(due(update, StepPosition(0, step, steps)) for step in range(progress.step))
        return progress.epoch + made

    def _absorb(self, pending: list[tuple[int, int, bool]], steps: int) -> None:
        """Add losses to the epoch's sums, in order.

        Parameters
        ----------
        pending : list of (step, number of the update, whether the row is of its own loss)
            One entry a row.
        """
        sums = self._progress.sums
        losses = self._network.pop_losses()
        if len(losses) != len(pending):
            raise UsageError(
                f"the gradients of {self._stage.name}/{self._phase.name} tell of {len(pending)} losses, and left "
                f"{len(losses)}; mend the package of the level: accumulate returns one entry a loss"
            )
        for (step, number, own), (loss, correct) in zip(pending, losses, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLoss(self._lost(f"the loss became {loss} at step {step} of {steps}"))
            if not own:
                continue
            if "w" in self._phase.updates[number].groups:
                sums.steps += 1
                sums.loss += float(loss)
                sums.correct += int(correct)
            else:
                sums.architecture_steps += 1
                sums.architecture_loss += float(loss)

    def _lost(self, what: str) -> str:
        found = self._saving.newest()
        kept = f"the last good checkpoint is {found[0]}" if found else "no checkpoint was written"
        return (
            f"{what} in {self._stage.name}/{self._phase.name}, epoch {self._progress.epoch + 1}; {kept}. "
            "Lower the learning rate (--set weights.learning_rate=…) or raise the precision, in a new run"
        )

    def _stop_if_asked(self) -> None:
        if self._stop_code is not None and self._progress.stage < len(self.plan.stages):
            raise Interrupted(
                f"stopped after step {self._progress.global_step}, everything is saved in {self._saving.folder}; "
                "go on with --resume",
                self._stop_code,
            )

    def _finish_epoch(self, steps: int, rates: Rates, temperature: Temperature) -> None:
        progress, sums, stage = self._progress, self._progress.sums, self._stage
        state = self._finite_state()
        row: dict[str, Any] = {
            "epoch": progress.global_epoch + 1,
            "step": progress.global_step,
            "stage": stage.name,
            "phase": self._phase.name,
            "learning_rate": rates.weights,
            "train_loss": sums.loss / sums.steps,
            "train_accuracy": sums.correct / (sums.steps * self.plan.batch),
        }
        if sums.architecture_steps:
            row["architecture_loss"] = sums.architecture_loss / sums.architecture_steps
        stands = summarise_architecture(self._spec, self._network.architecture(), temperature)
        reason = None
        if stands is not None:
            row.update(stands.metrics)
            reason = self._early_stop(stands, temperature)
        if reason is not None:
            row["stopped_early"] = reason
        last_of_phase = reason is not None or progress.epoch == self._phase.epochs - 1
        last_of_stage = last_of_phase and progress.phase == len(stage.phases) - 1
        if last_of_stage:
            row.update(self._retention_margins(temperature))
        due = (progress.global_epoch + 1) % self.plan.evaluate_every == 0
        measure_gap = stands is not None and self._gap_is_due(last_of_stage)
        best = False
        if stage.validation != "none" and (due or last_of_stage or measure_gap):
            loss, accuracy = self._evaluation.measure(self._network, self._spec, stage, temperature)
            row.update(validation_split=stage.validation, validation_loss=loss, validation_accuracy=accuracy)
            if measure_gap and stands is not None:
                derived = self._evaluation.derived_accuracy(self._network, self._spec, stage, stands.genotype, state)
                if derived is not None:
                    row.update(derived_accuracy=derived, discretisation_gap=accuracy - derived)
            if stage.validation == "test" and accuracy > progress.best_accuracy:
                progress.best_accuracy, best = accuracy, True
        self._saving.append(progress, row, None if stands is None else stands.record)
        self._last_row = row
        if not self.plan.derive:
            self._saving.write_weights(state, row, best)
        self._observer.epoch(row)
        progress.epoch += 1
        progress.step = 0
        progress.global_epoch += 1
        progress.sums = Sums()
        if last_of_phase:
            self._advance(temperature)

    def _early_stop(self, stands: ArchitectureSummary, temperature: Temperature) -> str | None:
        """Say why the phase ends with this epoch though epochs are left; None if it does not."""
        progress, rule = self._progress, self._phase.early_stop
        if rule is None or "normal" not in self._spec.kinds():
            return None
        alpha = self._network.architecture()["alpha.normal"]
        progress.stability.count(convolution_ranking(self._spec.normal, alpha, temperature))
        if progress.epoch == self._phase.epochs - 1:
            return None
        return rule.reason(stands.genotype, progress.stability)

    def _retention_margins(self, temperature: Temperature) -> dict[str, float]:
        """How clear the choice is of what the next stage retains."""
        number = self._progress.stage + 1
        cells = self.plan.stages[number].cells if number < len(self.plan.stages) else None
        if not isinstance(cells, Retained):
            return {}
        architecture = self._network.architecture()
        found = {
            kind: retention_margin(self._spec.cell(kind), architecture[f"alpha.{kind}"], cells.rule, temperature)
            for kind in self._spec.kinds()
        }
        return {f"retained_margin_{kind}": margin for kind, margin in found.items() if margin is not None}

    def _gap_is_due(self, last_of_stage: bool) -> bool:
        # A stage that only chooses what the next one retains derives no cell.
        derives = self._spec.normal.matrix is not None or self._progress.stage == len(self.plan.stages) - 1
        gap, epoch = self.plan.gap, self._progress.global_epoch + 1
        return derives and ((gap.last and last_of_stage) or (gap.every > 0 and epoch % gap.every == 0))

    # -- from phase to phase

    def _advance(self, temperature: Temperature) -> None:
        """Go to the next phase, or build the next stage's network, or finish.

        Parameters
        ----------
        temperature : Temperature
            Of the epoch that ends.
        """
        progress = self._progress
        progress.epoch = 0
        progress.stability = Stability()
        progress.phase += 1
        if progress.phase < len(self._stage.phases):
            return
        progress.phase = 0
        progress.stage += 1
        if progress.stage == len(self.plan.stages):
            return
        cells = self._stage.cells_by_type(self._cells(), self._network.architecture(), temperature)
        progress.cells = {kind: cell_to_record(cells[kind]) for kind in CELL_TYPES}
        self._build(cells)

    def _outcome(self) -> Outcome:
        if not self._last_row:
            self._last_row = self._saving.last_row()
        row, best = self._last_row, self._progress.best_accuracy
        if not self.plan.derive:
            return Outcome(None, row, best, {})
        cells = self._cells()
        architecture = completed(cells, self._network.architecture())
        temperature = Temperature(row.get("alpha_temperature", 1.0), row.get("beta_temperature", 1.0))
        genotype = derive(cells, architecture, temperature)
        margins = smallest_margins(decisions(cells, architecture, self._spec.kinds(), temperature, genotype))
        return Outcome(genotype, row, best, margins)
