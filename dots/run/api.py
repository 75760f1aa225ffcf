"""Searching and training: settings in, a run directory and a result out."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from dots.config.plan import plan_of
from dots.config.presets import merged, nested, preset_values
from dots.config.schema import CONFIGS, Config, SearchConfig, parse_config
from dots.config.shortening import shortened
from dots.console.progress import ConsoleProgress, NoProgress
from dots.console.signals import ending_by
from dots.run.capacity import check_fits
from dots.run.cells import Cell, find_cell
from dots.run.next_step import training_after
from dots.run_directory.images import images_of, write_images_record
from dots.run_directory.layout import RunExists, differences, is_run, log_event, owned, read_run_config, replace_config
from dots.run_directory.new import check_place, create_run, create_unnamed_run, unused_directories
from dots.run_directory.resuming import check_unchanged, resume_command
from dots_core.data import ImageData
from dots_core.data.sources.load import is_address
from dots_core.engine.protocol import Engine
from dots_core.engine.registry import Backend, choose_backend, load_engine
from dots_core.errors import DataMissing, UsageError, quoted
from dots_core.plan.plan import Plan
from dots_core.search.batches import BatchSource
from dots_core.search.runner import Outcome, Runner, check_unrolling
from dots_core.search_space.genotype import Genotype
from dots_core.storage.atomic import to_json, write_atomic
from dots_core.storage.reading import checked_path

Data = str | PathLike[str] | ImageData


@dataclass(frozen=True)
class SearchResult:
    """What a search found; as text, what a person wants to know of it.

    Attributes
    ----------
    genotype : Genotype
    run : Path
        The run directory.
    metrics : dict
        The last epoch's row of metrics.
    margins : dict
        The smallest margin of the chosen candidate over the next, for each sort of decision and cell
        type, for example ``"alpha.normal"`` (`dots_core.search.diagnostics.Decision`).
    backend : str
    report : Path
        The run's page, ``report.html``.
    warnings : tuple of str
        What makes the result doubtful, in plain words; empty if nothing does.
    early_stops : tuple of str
        Which phases ended early, when and why.
    unusable : str
        Why the cell is not to be used, in a few words; empty if nothing speaks against it.
    next_step : str
        The command that trains the cell on the same images with a preset that fits them; where they were
        passed from Python as ``data``, the call that does.
    """

    genotype: Genotype
    run: Path
    metrics: dict[str, Any]
    margins: dict[str, float]
    backend: str
    report: Path
    warnings: tuple[str, ...] = ()
    early_stops: tuple[str, ...] = ()
    unusable: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        from dots.console.summary import search_summary
        from dots.report.cells.text import terminal_text

        lines = [
            terminal_text(self.genotype),
            search_summary(self.metrics, self.margins, self.warnings, self.early_stops, self.unusable),
            f"run                {self.run}",
            f"picture            {self.run / 'cell.svg'}",
            f"report             {self.report}",
            f"train it           {self.next_step}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class TrainResult:
    """What a training reached.

    Attributes
    ----------
    accuracy : float
        On the test split, after the last epoch.
    best_accuracy : float
        The best of all epochs on the test split; the choice of the epoch has seen that split.
    run : Path
        The run directory; ``last/`` and ``best/`` in it hold the weights.
    metrics : dict
        The last epoch's row of metrics.
    backend : str
    report : Path
        The run's page, ``report.html``.
    """

    accuracy: float
    best_accuracy: float
    run: Path
    metrics: dict[str, Any]
    backend: str
    report: Path


@dataclass
class Request:
    """What a user asked for; None means: as the preset, or the saved run, says.

    Attributes
    ----------
    data : str, path or ImageData
        Where the images are; an ImageData is used as it is.
    settings : mapping
        Nested settings that override the preset's, and stand as they are if that is scaled.
    scale : float, optional
        By which the preset's epochs are multiplied (`dots.config.shortening`).
    """

    kind: str
    preset: str | None = None
    backend: str | None = None
    device: str | None = None
    data: Data | None = None
    seed: int | None = None
    out: Path | None = None
    resume: bool = False
    cell: Cell | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scale: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is of a type that no setting or place can have, before anything is done."""
        for name in ("preset", "backend", "device"):
            if not isinstance(given := getattr(self, name), str | None):
                raise UsageError(f"{name} is a text, not {quoted(given)}")
        if self.preset is not None:
            checked_path(self.preset, "preset")
            self.preset = os.path.expanduser(self.preset)
        # NumPy's numbers will do.
        seed: object = self.seed
        if seed is not None:
            if isinstance(seed, bool) or not isinstance(seed, Integral):
                raise UsageError(f"seed is a whole number, not {quoted(seed)}")
            self.seed = int(seed)
        scale: object = self.scale
        if scale is not None:
            if isinstance(scale, bool) or not isinstance(scale, Real):
                raise UsageError(f"scale is a number, not {quoted(scale)}")
            self.scale = float(scale)
        if self.out is not None:
            self.out = checked_path(self.out, "out")
        if self.data is not None and not isinstance(self.data, ImageData):
            if not isinstance(self.data, str | PathLike):
                raise UsageError(
                    f"data is a text or a path, not {quoted(self.data)}; make images of arrays by dots.from_arrays("
                    "train_images, train_labels, test_images, test_labels)"
                )
            checked_path(self.data, "data")
        if not isinstance(self.settings, Mapping):
            raise UsageError(f"settings are a mapping such as {{'topology.epochs': 10}}, not {quoted(self.settings)}")

    def preset_values(self, name: str) -> dict[str, Any]:
        """The settings of a preset, scaled down if the user asked for it."""
        values = preset_values(self.kind, name)
        return values if self.scale is None else shortened(self.kind, values, self.scale, f"preset {name}")

    def overrides(self) -> dict[str, Any]:
        """The explicit settings, nested."""
        explicit: dict[str, Any] = {
            "backend": self.backend,
            "device": self.device,
            "seed": self.seed,
            "data": self._data_name(),
        }
        values = {key: value for key, value in explicit.items() if value is not None}
        if self.cell is not None:
            values["cell"] = find_cell(self.cell).to_record()
        return merged(self.settings, values)

    def _data_name(self) -> str | None:
        if self.data is None or isinstance(self.data, ImageData):
            return None if self.data is None else f"python:{self.data.name}"
        return str(self.data)


def _located(config: Config) -> Config:
    """Make the images' path absolute, so that a run can go on from another directory."""
    if config.data is None or config.data == "digits" or config.data.startswith("python:") or is_address(config.data):
        return config
    return config.model_copy(update={"data": str(Path(os.path.expanduser(config.data)).absolute())})


@dataclass(frozen=True)
class Prepared:
    """A request made definite."""

    config: Config
    plan: Plan
    engine: Engine
    data: ImageData
    out: Path
    preset: str
    continues: bool


def prepare(request: Request, decoded_at_most: int | None = None) -> Prepared:
    """Resolve settings, engine and data, and check that they fit; writes nothing.

    Parameters
    ----------
    decoded_at_most : int, optional
        See `dots_core.data.load`.

    Raises
    ------
    DotsError
        If anything is unknown, impossible or missing.
    """
    model = CONFIGS[request.kind]
    overrides = request.overrides()
    continues = request.resume and request.out is not None and is_run(request.out)
    if request.resume and request.out is None:
        raise UsageError("--resume needs --out, the directory of the run to go on with")
    if continues:
        assert request.out is not None
        saved = read_run_config(request.out, model)
        begun = saved.model_dump(mode="json")
        if request.preset or request.scale is not None:
            named = request.preset or _usual_preset(request.kind, choose_backend(saved.backend))
            asked = parse_config(model, merged(request.preset_values(named), overrides), "settings")
            # What the preset leaves open was filled in when the run began.
            begun |= {key: value for key, value in asked.model_dump(mode="json").items() if value is not None}
        config = _located(parse_config(model, merged(begun, overrides), "settings"))
        check_unchanged(request.out, saved, config, repeated=bool(request.preset or request.scale), cell=request.cell)
        backend = choose_backend(config.backend)
        if request.device is None and config.backend != saved.backend:
            config = config.model_copy(update={"device": None})  # the old engine's may mean nothing to the new one
        out, preset = request.out, ""
    else:
        wanted = parse_config(model, overrides, "settings").backend
        usual = choose_backend(wanted)
        preset = request.preset or _usual_preset(request.kind, usual)
        values = request.preset_values(preset)
        if request.device is None and wanted not in (None, values.get("backend")):
            values.pop("device", None)  # a saved configuration's device belongs to its own engine
        config = _located(parse_config(model, merged(values, overrides), f"preset {preset}"))
        backend = choose_backend(config.backend)
        out = request.out or next(unused_directories(request.kind, preset))
        check_place(out)
    backend.check_precision(config.precision)
    engine = load_engine(backend.name)
    device = config.device or engine.devices()[0].name
    config = config.model_copy(update={"backend": backend.name, "device": device})
    plan = plan_of(config)
    engine.check(plan.runtime)
    check_unrolling(plan, engine)
    if config.image_size is not None:
        # What is too big whatever the images hold is told before they are read.
        check_fits(plan, engine, classes=2, shape=(1, config.image_size, config.image_size))
    data = _load_data(request, config, continues, decoded_at_most)
    check_fits(plan, engine, len(data.classes), data.shape)  # refuses what cannot be built, too
    BatchSource(plan, data).check()
    return Prepared(config, plan, engine, data, out, preset, continues)


def _usual_preset(kind: str, backend: Backend) -> str:
    return backend.search_preset if kind == "search" else backend.train_preset


def _load_data(request: Request, config: Config, continues: bool, decoded_at_most: int | None) -> ImageData:
    if isinstance(request.data, ImageData):
        return images_of(config, request.data)
    if config.data is None:
        raise DataMissing(
            "this preset brings no images: give --data with an image folder (train/<class>/*.jpg, test/<class>/*.jpg), "
            "a CIFAR archive or folder, or digits"
        )
    if config.data.startswith("python:"):
        raise DataMissing(
            "this run was begun with images passed from Python; pass the same again as data=, or name a place "
            "that holds them by --data"
        )
    if continues and config.data != "digits" and not Path(config.data).exists():
        assert request.out is not None
        raise DataMissing(
            f"{quoted(config.data)}: the images are not there; if they have moved, say where they are now: "
            f"{resume_command(request.kind, request.out)} --data PLACE"
        )
    return images_of(config, decoded_at_most=decoded_at_most)


def run(request: Request, talk: bool = True) -> SearchResult | TrainResult:
    """Carry a request out to its end.

    Raises
    ------
    DotsError
        See `dots_core.search.runner.Runner.run` and `prepare`.
    """
    prepared = prepare(request)
    config, out = prepared.config, prepared.out
    if prepared.continues:
        held = owned(out)
    elif request.out is not None:
        try:
            held = create_run(out, config)
        except RunExists:
            if request.resume and is_run(out):
                return run(request, talk)  # another has begun it since
            raise
    else:
        out, held = create_unnamed_run(prepared.preset, config)
        prepared = replace(prepared, out=out)  # another may have taken the name that was free before
    with held:
        engine = prepared.engine
        event = "resumed" if prepared.continues else "started"
        log_event(out, event, engine=engine.name, versions=engine.versions(), device=config.device)
        observer = ConsoleProgress(out) if talk else NoProgress(out)
        driver = Runner(prepared.plan, prepared.data, engine, out, observer)
        try:
            with _stopping(driver.request_stop):
                driver.open()  # refuses other images than the run's
                observer.images(prepared.data)
                write_images_record(out, prepared.data, anew=driver.resumed_from is None)
                if prepared.continues and differences(read_run_config(out, type(config)), config):
                    replace_config(out, config)  # it goes on elsewhere
                outcome = driver.run()
        except BaseException as error:
            log_event(out, "stopped", reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            observer.close()
        result = _finish(prepared, outcome)
        log_event(out, "finished")
    return result


def _finish(prepared: Prepared, outcome: Outcome) -> SearchResult | TrainResult:
    """Write what a finished run leaves; doing so again writes the same."""
    from dots.report.cells.figure import picture
    from dots.report.cells.text import dot_text
    from dots.report.page import write_report
    from dots.report.record import read_run

    out, backend = prepared.out, prepared.engine.name
    genotype = outcome.genotype
    if genotype is None:
        report = write_report(out)
        result = TrainResult(
            outcome.last_row["validation_accuracy"], outcome.best_accuracy, out, outcome.last_row, backend, report
        )
        summary = {"accuracy": result.accuracy, "best_accuracy": result.best_accuracy, "metrics": result.metrics}
        write_atomic(out / "summary.json", to_json(summary))
        return result
    write_atomic(out / "cell.dot", dot_text(genotype))
    for suffix in (".svg", ".png"):
        write_atomic(out / f"cell{suffix}", picture(genotype, suffix))
    write_atomic(out / "genotype.json", genotype.to_json())
    report, record = write_report(out), read_run(out)
    told, stops = record.warnings, record.early_stops
    summary = {"metrics": outcome.last_row, "margins": outcome.margins, "warnings": told, "early_stops": stops}
    summary |= {"unusable": record.unusable}
    write_atomic(out / "summary.json", to_json(summary))
    assert isinstance(prepared.config, SearchConfig)
    training = training_after(prepared.config, prepared.data, out)
    return SearchResult(
        genotype,
        out,
        outcome.last_row,
        outcome.margins,
        backend,
        report,
        tuple(told),
        tuple(stops),
        record.unusable,
        str(training),
    )


def _stopping(stop: Callable[[int], None]) -> contextlib.AbstractContextManager[None]:
    """Turn Ctrl-C and SIGTERM into a request to stop after the step at hand; a Ctrl-C after it stops at once."""

    def handle(number: int) -> None:
        stop(128 + number)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    return ending_by(handle)


def search(
    preset: str | PathLike[str] | None = None,
    *,
    backend: str | None = None,
    device: str | None = None,
    data: Data | None = None,
    seed: int | None = None,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    scale: float | None = None,
    verbose: bool = True,
) -> SearchResult:
    """Search a cell, as ``dots search`` does.

    Parameters
    ----------
    preset : str or path, optional
        A preset's name or a YAML file; by default the engine's smoke preset.
    backend, device : str, optional
        By default the first available engine and its preferred device.
    data : str, path or ImageData, optional
        ``"digits"``, an image folder, a CIFAR folder or archive, an ``.npz`` file, or
        `dots_core.data.from_arrays`; by default what the preset names.
    seed : int, optional
    out : path, optional
        The run directory; by default ``runs/search-<preset>-<number>``.
    resume : bool
        Go on with the run in ``out``, or begin it if there is none.
    settings : mapping, optional
        Overrides with dotted keys, for example ``{"topology.epochs": 10}``.
    scale : float, optional
        By which all lengths of the preset, counted in epochs, are multiplied, so that it keeps its shape: a
        number above 0 and at most 1. ``settings`` stand as they are.
    verbose : bool
        Report progress on stderr.

    Returns
    -------
    SearchResult

    Raises
    ------
    DotsError
        With a message that names cause, place and remedy.
    """
    request = Request(
        "search",
        _preset(preset),
        backend,
        device,
        data,
        seed,
        _path(out),
        resume,
        settings=nested({} if settings is None else settings),
        scale=scale,
    )
    result = run(request, talk=verbose)
    assert isinstance(result, SearchResult)
    return result


def train(
    cell: Cell,
    preset: str | PathLike[str] | None = None,
    *,
    backend: str | None = None,
    device: str | None = None,
    data: Data | None = None,
    seed: int | None = None,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    scale: float | None = None,
    verbose: bool = True,
) -> TrainResult:
    """Train a cell's network from scratch and evaluate it, as ``dots train`` does.

    Parameters
    ----------
    cell : str, path or Genotype
        A genotype, a published name (`dots_core.search_space.named_cells`), a genotype's file or text in any of
        the known forms (`dots_core.search_space.genotype_text`), ``FILE:NAME`` for one of several in a file, or a
        finished search's run directory.

    Other parameters are those of `search`.

    Returns
    -------
    TrainResult
    """
    request = Request(
        "train",
        _preset(preset),
        backend,
        device,
        data,
        seed,
        _path(out),
        resume,
        cell,
        nested({} if settings is None else settings),
        scale,
    )
    result = run(request, talk=verbose)
    assert isinstance(result, TrainResult)
    return result


def _path(out: str | PathLike[str] | None) -> Path | None:
    return None if out is None else checked_path(out, "out")


def _preset(preset: str | PathLike[str] | None) -> str | None:
    return str(checked_path(preset, "preset")) if isinstance(preset, PathLike) else preset
