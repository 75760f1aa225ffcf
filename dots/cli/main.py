"""The ``dots`` command. stdout is data, stderr is talk; nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from dots.cli import study as study_commands
from dots.console.output import (
    complete_backend,
    complete_search_setting,
    complete_train_setting,
    hush_libraries,
    print_json,
)
from dots.console.streams import streams
from dots_core.errors import DotsError, UsageError, printable, quoted
from dots_core.storage.atomic import FULL

app = typer.Typer(
    name="dots",
    help="Differentiable neural architecture search with topology search, on several frameworks.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
presets_app = typer.Typer(help="List, show and compare presets.", rich_markup_mode=None, invoke_without_command=True)
app.add_typer(presets_app, name="presets")
app.add_typer(study_commands.app, name="study")


def _add_commands() -> None:
    """Add the commands of packages beside this one; one that does not load says so when it is given."""
    for point in entry_points(group="dots.commands"):
        try:
            app.add_typer(point.load(), name=point.name)
        except Exception as error:
            app.command(point.name, hidden=True, context_settings={"ignore_unknown_options": True})(
                _broken(f"the command {quoted(point.name)} does not load: {type(error).__name__}: {quoted(str(error))}")
            )


def _broken(message: str) -> Callable[[list[str] | None], None]:
    def command(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
        raise UsageError(f"{message}; mend or uninstall the package it is of")

    return command


_add_commands()

_debug = False

_LONGEST = 4000
"""Characters of an error's line; values in it are shown up to a bound of their own (`dots_core.errors.quoted`)."""


def _complete_search(incomplete: str) -> list[str]:
    return _complete("search", incomplete)


def _complete_train(incomplete: str) -> list[str]:
    return _complete("train", incomplete)


def _complete_stem(incomplete: str) -> list[str]:
    from dots_core.network.stems import STEMS

    return [name for name in STEMS.names if name.startswith(incomplete)]


def _complete_kind(incomplete: str) -> list[str]:
    from dots.config.parts import REGISTRIES

    return [kind for kind in REGISTRIES if kind.startswith(incomplete)]


def _complete(kind: str, incomplete: str) -> list[str]:
    from dots.config.presets import preset_names

    return [name for name in preset_names(kind) if name.startswith(incomplete)]


Backend = Annotated[
    str | None, typer.Option(help="Engine; default: the first available.", autocompletion=complete_backend)
]
Device = Annotated[str | None, typer.Option(help="Device, for example cpu or cuda:0; default: the engine's preferred.")]
Data = Annotated[str | None, typer.Option(help="digits, an image folder, a CIFAR folder or archive, or an .npz file.")]
_OVERRIDE = "Override a setting; may be repeated."
SearchSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help=_OVERRIDE, autocompletion=complete_search_setting),
]
TrainSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help=_OVERRIDE, autocompletion=complete_train_setting),
]
Scale = Annotated[
    float | None,
    typer.Option(metavar="S", help="Shorten the preset, for example 0.1: all epochs × S, in the same shape."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of all randomness; default: the preset's.")]
Out = Annotated[Path | None, typer.Option(help="Run directory; default: runs/<command>-<preset>-<number>.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or begin it if there is none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, estimate memory and time, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
CellArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CELL",
        help="A finished search's directory, a genotype's file (FILE:NAME of several), its text, or a published name.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the run directory, and errors.")]


def _print_version(asked: bool) -> None:
    if asked:
        from dots import __version__

        print(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    global _debug
    _debug = debug
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def search(
    backend: Backend = None,
    device: Device = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Preset or .yaml file; default: a minute on digits.", autocompletion=_complete_search),
    ] = None,
    data: Data = None,
    settings: SearchSettings = None,
    scale: Scale = None,
    seed: Seed = None,
    out: Out = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search a cell: operations first, then topology."""
    from dots.config.presets import parse_settings
    from dots.run.api import Request, SearchResult

    request = Request(
        "search", preset, backend, device, data, seed, out, resume, settings=parse_settings(settings or []), scale=scale
    )
    result = _carry_out(request, dry_run, as_json, quiet)
    if not isinstance(result, SearchResult):
        return
    if as_json:
        from dots.cli.show import describe

        described = describe(result.genotype)
        print_json(
            "search",
            {
                "run": str(result.run),
                "backend": result.backend,
                "genotype": described["genotype"],
                "params": described["params"],
                "macs": described["macs"],
                "network": described["network"],
                "metrics": result.metrics,
                "margins": result.margins,
                "warnings": list(result.warnings),
                "early_stops": list(result.early_stops),
                "unusable": result.unusable,
                "next_step": result.next_step,
                "report": str(result.report),
            },
        )
    elif quiet:
        print(result.run)
    else:
        print(result)


@app.command()
def train(
    given: CellArgument = None,
    cell: Annotated[str | None, typer.Option(help="The same, as an option.")] = None,
    backend: Backend = None,
    device: Device = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Preset or .yaml file; default: seconds on digits.", autocompletion=_complete_train),
    ] = None,
    data: Data = None,
    settings: TrainSettings = None,
    scale: Scale = None,
    seed: Seed = None,
    out: Out = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a found cell's network from scratch and evaluate it."""
    from dots.config.presets import parse_settings
    from dots.run.api import Request, TrainResult
    from dots.run.cells import one_cell

    found = one_cell(given, cell, _nothing if quiet else _note)
    request = Request(
        "train", preset, backend, device, data, seed, out, resume, found, parse_settings(settings or []), scale
    )
    result = _carry_out(request, dry_run, as_json, quiet)
    if not isinstance(result, TrainResult):
        return
    if as_json:
        document = {"run": str(result.run), "backend": result.backend, "accuracy": result.accuracy}
        document |= {"best_accuracy": result.best_accuracy, "metrics": result.metrics, "report": str(result.report)}
        print_json("train", document)
    elif quiet:
        print(result.run)
    else:
        print(f"test accuracy  {result.accuracy:.2%} (last epoch), {result.best_accuracy:.2%} (best epoch)")
        print(f"run            {result.run}")
        print(f"report         {result.report}")


@app.command()
def show(
    given: CellArgument = None,
    layers: Annotated[int, typer.Option(help="Cells in the network.")] = 20,
    channels: Annotated[int, typer.Option(help="Initial channels.")] = 36,
    classes: Annotated[int, typer.Option(help="Classes.")] = 10,
    image_size: Annotated[int, typer.Option(help="Height and width of the images.")] = 32,
    stem: Annotated[str, typer.Option(help="A stem of `dots parts stems`.", autocompletion=_complete_stem)] = "cifar",
    auxiliary: Annotated[bool, typer.Option("--auxiliary", help="Count the auxiliary head's parameters.")] = False,
    picture: Annotated[
        list[Path] | None, typer.Option(help="Write a picture: .svg, .png or .dot; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a cell: genotype, parameters, multiply-accumulates (MACs) and picture."""
    from dots.cli.show import describe
    from dots.report.cells.figure import draw
    from dots.report.cells.text import dot_text, terminal_text
    from dots.run.cells import one_cell

    genotype = one_cell(given, None, _note)
    if genotype is None:
        raise UsageError(
            "give the cell to show: a search's run directory, a genotype's file or text, or a published name, "
            "which `dots cells` lists"
        )
    described = describe(genotype, layers, channels, classes, image_size, stem, auxiliary)
    for path in picture or []:
        draw(genotype, path)
    if as_json:
        print_json("show", {**described, "dot": dot_text(genotype)})
        return
    print(terminal_text(genotype))
    print(f"network     {layers} cells, {channels} channels, {classes} classes, {image_size}×{image_size} images")
    print(f"parameters  {described['params']:,}" + (" with the auxiliary head" if auxiliary else ""))
    print(f"MACs        {described['macs']:,} (multiply-accumulates of one image; 1 MAC = 2 FLOPs)")


@app.command()
def cells(as_json: Json = False) -> None:
    """List the published cells, which `dots show` and `dots train` take by name."""
    from dots_core.search_space.named_cells import cell_source, named_cell, named_cells

    if as_json:
        found = {
            name: {"source": cell_source(name), "genotype": named_cell(name).to_record()} for name in named_cells()
        }
        print_json("cells", {"cells": found})
        return
    for name in named_cells():
        print(f"{name:16} {cell_source(name)}")


@app.command("parts")
def list_parts(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="Of this kind only.", autocompletion=_complete_kind)
    ] = None,
    as_json: Json = False,
) -> None:
    """List what settings take by name: levels, samplings, topology spaces, …, those of installed packages too."""
    from dots.config.parts import parts
    from dots.console.output import beside

    found = parts(kind)
    if as_json:
        print_json("parts", {"kinds": found})
        return
    for name, described in found.items():
        print(f"{name}: {described['what']} ({', '.join(described['settings'])})")
        for part, about in described["parts"].items():
            print(beside(f"  {part:16} ", about))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The directory of a search or a training, finished or not.")],
    as_json: Json = False,
) -> None:
    """Write a run's page, report.html, again."""
    from dots.report.page import write_report
    from dots.report.record import read_run

    path = write_report(run, "run the same command again")
    record = read_run(run)
    if as_json:
        last = record.rows[-1] if record.rows else {}
        found = {"report": str(path), "finished": record.finished, "metrics": last}
        print_json("report", {**found, "warnings": record.warnings, "early_stops": record.early_stops})
        return
    for told in (*record.early_stops, *record.warnings):
        print(told, file=sys.stderr)
    print(path)


@presets_app.callback()
def _presets(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_presets()


@presets_app.command("list")
def list_presets(as_json: Json = False) -> None:
    """List the presets."""
    from dots.config.presets import preset_about, preset_names
    from dots.console.output import beside

    found = {kind: {name: preset_about(kind, name) for name in preset_names(kind)} for kind in ("search", "train")}
    if as_json:
        print_json("presets", found)
        return
    for kind, names in found.items():
        print(f"{kind}:")
        for name, about in names.items():
            print(beside(f"  {name:24} ", about))


@presets_app.command("show")
def show_preset(
    name: str,
    kind: Annotated[str, typer.Option(help="search or train, where both have a preset of the name.")] = "",
    as_json: Json = False,
) -> None:
    """Print every setting of a preset."""
    import yaml

    values = _preset(name, kind)
    if as_json:
        print_json("preset", values)
    else:
        print(yaml.safe_dump(values, sort_keys=False, default_flow_style=None), end="")


@presets_app.command("diff")
def diff_presets(
    first: str,
    second: str,
    kind: Annotated[str, typer.Option(help="search or train, where both have a preset of the name.")] = "",
    as_json: Json = False,
) -> None:
    """Print the settings in which two presets differ."""
    from dots.config.presets import flattened

    a, b = (flattened(_preset(name, kind)) for name in (first, second))
    changed = {key: [a.get(key), b.get(key)] for key in {**a, **b} if a.get(key) != b.get(key)}
    if as_json:
        print_json("preset-diff", changed)
        return
    for key, (one, other) in changed.items():
        print(f"{key}: {one} → {other}")


def _preset(name: str, kind: str) -> dict[str, Any]:
    from dots.config.presets import preset_names, preset_values
    from dots.config.schema import CONFIGS, parse_config

    kinds = [kind] if kind else [k for k in CONFIGS if name in preset_names(k)] or ["search"]
    if kinds[0] not in CONFIGS:
        raise UsageError(f"--kind is search or train, not '{kind}'")
    if len(kinds) > 1:
        print(f"dots: '{name}' is a search and a train preset; showing the search one (see --kind)", file=sys.stderr)
    config = parse_config(CONFIGS[kinds[0]], preset_values(kinds[0], name), f"preset {name}")
    return config.model_dump(mode="json")


@app.command()
def env(as_json: Json = False) -> None:
    """Print versions of everything results depend on."""
    from dots.cli.doctor import environment

    found = environment()
    if as_json:
        print_json("env", found)
        return
    print(f"python    {found['python']}, {found['platform']}")
    for name, number in found["packages"].items():
        print(f"{name:12} {number or 'not installed'}")
    for backend in found["backends"]:
        framework = ", ".join(f"{name} {number}" for name, number in backend["framework"].items() if number)
        state = "available" if backend["available"] else f"framework not installed ({backend['install']})"
        print(
            f"engine {backend['name']:10} {state}{', ' + framework if framework else ''}; tried on: {backend['tried']}"
        )


@app.command()
def doctor(backend: Backend = None, device: Device = None, as_json: Json = False) -> None:
    """Try the engines: a real forward, backward and step, compared with the reference."""
    from dots.cli.doctor import examine

    reports = examine(backend, device)
    if as_json:
        print_json("doctor", {"engines": reports})
    else:
        for report in reports:
            print(f"{report['name']}: {'works' if report['ok'] else 'DOES NOT WORK'}")
            for name, number in report.get("versions", {}).items():
                print(f"  {name} {number}")
            for name, about in report.get("devices", {}).items():
                print(f"  device {name}: {about}")
            if report["ok"]:
                print(
                    f"  gradients on {report['device']} within {report['gradient_error']:.1e} of the reference engine"
                )
            else:
                print(f"  {report['problem']}")
    if not all(report["ok"] for report in reports):
        raise typer.Exit(3)


def _note(remark: str) -> None:
    print(f"dots: note: {printable(remark)}", file=sys.stderr)


def _nothing(remark: str) -> None:
    pass


def _carry_out(request: Any, dry_run: bool, as_json: bool, quiet: bool) -> Any:
    """Run a request, or print what it would need and return None."""
    if quiet:
        hush_libraries()
    from dots.run.api import prepare, run

    if not dry_run:
        return run(request, talk=not quiet)
    from dots.run.estimate import DECODED_AT_MOST, estimate, estimate_text

    found = estimate(prepare(request, DECODED_AT_MOST))
    if as_json:
        print_json("dry-run", found)
    elif not quiet:
        print(estimate_text(found))
    return None


def main() -> None:
    """Run the command line and exit with the code its error asks for."""
    if "_DOTS_COMPLETE" in os.environ:
        from dots.config.completion import rejoin

        rejoin(os.environ)
    with streams() as data:
        code = _code_of(sys.argv[1:])
        data.flush()
        if data.lost is not None:
            # Whoever read our output and has left needs no telling.
            if not isinstance(data.lost, BrokenPipeError):
                _say(f"cannot write the output: {data.lost.strerror}")
            code = code or 1
    if code:
        sys.exit(code)


def _code_of(arguments: list[str]) -> int:
    """Carry the command out and return its exit code; what went wrong is said."""
    try:
        _check_text(arguments)
        code = app(standalone_mode=False)
        # A Ctrl-C within a command comes back as its code; that of a run is an error of its own.
        return _failed("interrupted", code) if code == 130 else code if isinstance(code, int) else 0
    except DotsError as error:
        return _failed(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _failed("interrupted", 130)
    except OSError as error:
        reason = error.strerror or str(error)
        room = (
            "; make room, then run the same command again, with --resume if it is a run" if error.errno in FULL else ""
        )
        return _failed(f"{reason}: {error.filename or 'no file is named'}{room}", 1)
    except MemoryError:
        return _failed(
            "the memory is not enough; close other programs, or take a smaller batch, fewer channels or images "
            "(--dry-run says what a run needs)",
            1,
        )
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a usage error of the parser
            return _failed(error.format_message(), 2)
        return _failed(f"unexpected {type(error).__name__}: {error}; run `dots --debug …` for the traceback", 1)


def _check_text(arguments: list[str]) -> None:
    """Refuse what is no text before anything is done: no file of a run could name it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"'{quoted(argument)}' is not UTF-8 text; rename what it stands for, or set a UTF-8 locale "
                "(export LC_ALL=C.UTF-8)"
            ) from None


def _failed(message: str, code: int) -> int:
    if _debug:
        import traceback

        traceback.print_exc()
    _say(message)
    return code


def _say(message: str) -> None:
    text = printable(" ".join(message.split()))
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    print(f"dots: error: {text}", file=sys.stderr)
