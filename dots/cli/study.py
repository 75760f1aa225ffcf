"""``dots study``: many runs that together answer a question, through a queue, with a table of results."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dots.console.output import complete_backend, complete_search_setting, complete_train_setting, print_json
from dots_core.bounds import COUNT, SEEDS
from dots_core.errors import DotsError, UsageError

app = typer.Typer(
    help="Run the studies the papers rest on, at any scale, resumable.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

Preset = Annotated[str | None, typer.Option(help="Preset of the searches; default: a small scale on digits.")]
TrainPreset = Annotated[str | None, typer.Option(help="Preset of the trainings; default: a small scale on digits.")]
_AS_PRINTED = "`paper`: those of the paper's figures; default: a small scale on digits."
AblationPreset = Annotated[str | None, typer.Option("--preset", help=f"Preset of the searches. {_AS_PRINTED}")]
AblationTrainPreset = Annotated[
    str | None, typer.Option("--train-preset", help=f"Preset of the trainings. {_AS_PRINTED}")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting of the searches.",
        autocompletion=complete_search_setting,
    ),
]
TrainSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--train-set",
        metavar="KEY=VALUE",
        help="Override a setting of the trainings.",
        autocompletion=complete_train_setting,
    ),
]
Data = Annotated[str | None, typer.Option(help="Images of all runs; default: those the presets name.")]
Seeds = Annotated[int | None, typer.Option(min=1, max=SEEDS, help="Seeds a result is averaged over.")]
Seed = Annotated[int | None, typer.Option(min=0, max=COUNT, help="The first seed; default: 0.")]
Backend = Annotated[
    str | None, typer.Option(help="Engine; default: the first available.", autocompletion=complete_backend)
]
Device = Annotated[str | None, typer.Option(help="Device; default: the engine's preferred.")]
Out = Annotated[Path | None, typer.Option(help="Directory; default: runs/study-<name>-<number>.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the study in --out, or begin it if there is none.")]
Jobs = Annotated[int, typer.Option(min=1, help="Runs at the same time; the cores are divided among them.")]
Commands = Annotated[
    bool,
    typer.Option("--commands", help="Only print the commands that can run now, for a scheduler."),
]
Submitit = Annotated[bool, typer.Option("--submitit", help="Hand the runs to a cluster through submitit.")]
SubmititSettings = Annotated[
    list[str] | None,
    typer.Option("--submitit-set", metavar="KEY=VALUE", help="Parameter of submitit, for example timeout_min=60."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the study's directory.")]


@app.callback()
def _study(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_studies()


@app.command("list")
def list_studies(as_json: Json = False) -> None:
    """List the studies and their sources."""
    from dots.study.catalogue import catalogue

    found = catalogue()
    if as_json:
        print_json("studies", {"studies": found})
        return
    for name, about in found.items():
        print(f"{name:26} {about['title']}")
        print(f"{'':26} {about['source']}")


@app.command("rank-correlation")
def rank_correlation(
    preset: Preset = None,
    train_preset: TrainPreset = None,
    settings: Settings = None,
    train_settings: TrainSettings = None,
    darts_settings: Annotated[
        list[str] | None,
        typer.Option("--darts-set", metavar="KEY=VALUE", help="Override a setting of the DARTS search alone."),
    ] = None,
    data: Data = None,
    seeds: Seeds = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    commands: Commands = False,
    submitit: Submitit = False,
    submitit_settings: SubmititSettings = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Correlate the importance of pairs of edges with their accuracy (DOTS fig. 1)."""
    asked = _asked(preset, train_preset, settings, train_settings, data, seeds, seed, backend, device)
    asked["darts_settings"] = _flat(darts_settings)
    _carry_out("rank-correlation", asked, out, resume, jobs, commands, submitit, submitit_settings, as_json, quiet)


@app.command("paths")
def paths(
    topologies: Annotated[int | None, typer.Option(help="Topologies of phase 1; default: all 180.")] = None,
    best: Annotated[int | None, typer.Option(help="The best of them that phase 2 takes; default: 20.")] = None,
    train_preset: TrainPreset = None,
    train_settings: TrainSettings = None,
    data: Data = None,
    seeds: Seeds = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    commands: Commands = False,
    submitit: Submitit = False,
    submitit_settings: SubmititSettings = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train every topology of the cell with its operations fixed, then the best in both cells (eDARTS)."""
    asked = _asked(None, train_preset, None, train_settings, data, seeds, seed, backend, device)
    asked |= {"topologies": topologies, "best": best}
    _carry_out("paths", asked, out, resume, jobs, commands, submitit, submitit_settings, as_json, quiet)


def _complete_ablation(incomplete: str) -> list[str]:
    from dots.study.questions.ablations import ABLATIONS

    return [name for name in ABLATIONS if name.startswith(incomplete)]


@app.command("ablation")
def ablation(
    name: Annotated[str, typer.Argument(help="See `dots study list`.", autocompletion=_complete_ablation)],
    preset: AblationPreset = None,
    train_preset: AblationTrainPreset = None,
    settings: Settings = None,
    train_settings: TrainSettings = None,
    data: Data = None,
    seeds: Seeds = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    commands: Commands = False,
    submitit: Submitit = False,
    submitit_settings: SubmititSettings = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search and train every variant of an ablation over seeds."""
    from dots.study.catalogue import ablation_name

    asked = _asked(preset, train_preset, settings, train_settings, data, seeds, seed, backend, device)
    study = ablation_name(name)
    _carry_out(study, asked, out, resume, jobs, commands, submitit, submitit_settings, as_json, quiet)


def _flat(settings: list[str] | None) -> dict[str, Any] | None:
    from dots.config.presets import flattened, parse_settings

    return flattened(parse_settings(settings)) if settings else None


def _absolute(place: str) -> str:
    return str(Path(os.path.expanduser(place)).absolute())


def _asked(
    preset: str | None,
    train_preset: str | None,
    settings: list[str] | None,
    train_settings: list[str] | None,
    data: str | None,
    seeds: int | None,
    seed: int | None,
    backend: str | None,
    device: str | None,
) -> dict[str, Any]:
    """Return what the user gave, None where nothing; paths are made absolute, so that any directory will do."""
    from dots_core.data.sources.load import is_address

    if data is not None and data != "digits" and not is_address(data):
        data = _absolute(data)
    presets = [
        _absolute(name) if name is not None and name.endswith((".yaml", ".yml")) else name
        for name in (preset, train_preset)
    ]
    return {
        "preset": presets[0],
        "train_preset": presets[1],
        "settings": _flat(settings),
        "train_settings": _flat(train_settings),
        "data": data,
        "seeds": seeds,
        "seed": seed,
        "backend": backend,
        "device": device,
    }


def _carry_out(
    study: str,
    given: dict[str, Any],
    out: Path | None,
    resume: bool,
    jobs: int,
    commands: bool,
    submitit: bool,
    submitit_settings: list[str] | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Settle what is asked, do what of it is not done, and write and print the results."""
    from dots.run_directory.layout import owned
    from dots.run_directory.new import unused_directories
    from dots.study.archive import Archive
    from dots.study.catalogue import build, command_of, defaults
    from dots.study.directory import create, settle
    from dots.study.jobs.execute import StudyInterrupted, command_line, execute, next_runs
    from dots.study.jobs.processes import ProcessQueue
    from dots.study.results import write_results
    from dots_core.engine.registry import choose_backend

    if resume and out is None:
        raise UsageError("--resume needs --out, the directory of the study to go on with")
    if submitit_settings and not submitit:
        raise UsageError("--submitit-set needs --submitit")
    if commands and as_json:
        raise UsageError(
            "--commands prints commands and --json results; give one of them: with --commands the results are "
            "in results.json of the study's directory once all is done"
        )
    unused = (path for path in unused_directories("study", study.replace(" ", "-")) if not path.exists())
    folder = out or next(unused)
    asked = settle(folder, study, given, defaults(study), resume)
    choose_backend(asked["backend"])
    planned = build(study, asked)
    planned.check()

    def report(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    runner: Any = ProcessQueue(jobs, report)
    if submitit:
        from dots.study.jobs.cluster import Submitter

        runner = Submitter(folder / "submitit", _flat(submitit_settings) or {}, report)
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder):
        settle(folder, study, given, defaults(study), resume)  # another may have begun one there since
        Archive(folder).check_images(asked["data"])
        create(folder, study, asked)
        if commands:
            todo = next_runs(planned, folder)
            for run in todo:
                print(command_line(run, folder))
            if todo:
                report(
                    f"when these {len(todo)} have ended, give the same command again, with --resume, for what follows"
                )
                return
        executed = execute(planned, folder, runner, lambda: runner.stopped is not None)
        record = write_results(planned, command_of(study, asked, folder), executed, folder)
    again = f"go on with: dots study {study} --out {folder} --resume"
    if commands:
        report(f"all is done, the results are in {folder / 'results.md'}")
        return
    if runner.stopped is not None:
        left = len(executed.missing)
        raise StudyInterrupted(
            f"stopped with {left} results missing; all runs are saved; {again}", 128 + runner.stopped
        )
    if as_json:
        print_json("study", {"directory": str(folder), **record})
    elif quiet:
        print(folder)
    else:
        print((folder / "results.md").read_text("utf-8").partition("\n## Commands")[0])
        print(f"study  {folder}")
    if executed.missing:
        first = next(iter(executed.problems.items()), None)
        why = f"{len(executed.problems)} runs failed, first {first[0]}: {first[1]}" if first else "runs have no result"
        raise DotsError(f"{len(executed.missing)} results are missing: {why}; {again}")
