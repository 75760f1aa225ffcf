"""``dots conformance``: record what engines do, judge it, report it, and find where an engine parts."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dots.console.output import complete_backend, print_json
from dots_core.errors import UsageError

if TYPE_CHECKING:
    from dots_conformance.comparison import Comparison
    from dots_conformance.locate import Finding

app = typer.Typer(
    help="Prove how closely engines agree with the reference engine.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

MISMATCH = 7

_SHOWN = 3
"""How many cases that failed are named."""

Device = Annotated[str | None, typer.Option(help="Device; default: the engine's preferred.")]
Precision = Annotated[str, typer.Option("--dtype", help="float32, float64, tf32, hf32, bfloat16 or float16.")]
Cases = Annotated[
    list[str] | None, typer.Option("--cases", help="Only cases that match, for example 'layers/*'; may be repeated.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Only the quick set of cases.")]
Seed = Annotated[int, typer.Option(help="Seed of the cases' weights and images.")]
Limit = Annotated[float, typer.Option(help="Seconds a case may take; one that takes longer is a result.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
JUnit = Annotated[Path | None, typer.Option(help="Also write the result as JUnit XML.")]
Out = Annotated[Path | None, typer.Option(help="Folder for bundles and reports; default: none are kept.")]


@app.callback()
def conformance(
    context: typer.Context,
    backends: Annotated[
        str | None, typer.Option(help="Engines, separated by commas; default: all that are available.")
    ] = None,
    device: Device = None,
    precision: Precision = "float32",
    cases: Cases = None,
    quick: Quick = False,
    seed: Seed = 0,
    time_limit: Limit = 300.0,
    jobs: Annotated[int | None, typer.Option(help="Engines that record at the same time.")] = None,
    out: Out = None,
    junit: JUnit = None,
    as_json: Json = False,
) -> None:
    """Record engines and the reference, compare and report: exit code 7 where an engine disagrees."""
    if context.invoked_subcommand is not None:
        return
    from dots_conformance.conform import Request, conform

    settings: dict[str, Any] = {} if jobs is None else {"jobs": jobs}
    request = Request(
        _named(backends), device, precision, seed, tuple(cases or ()), quick, time_limit=time_limit, **settings
    )
    if out is not None and out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; give another --out")
    with tempfile.TemporaryDirectory() as scratch, _Ticker() as ticker:
        comparison = conform(request, (out or Path(scratch)) / "bundles", ticker.case)
    _finish(comparison, out, junit, as_json)


@app.command("run")
def run(
    backend: Annotated[str, typer.Option(help="Engine to record.", autocompletion=complete_backend)],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    device: Device = None,
    precision: Precision = "float32",
    cases: Cases = None,
    quick: Quick = False,
    seed: Seed = 0,
    time_limit: Limit = 300.0,
    as_json: Json = False,
) -> None:
    """Record a bundle of one engine on this machine, to be judged anywhere by ``compare``."""
    from dots_conformance.recorder import Job, record
    from dots_core.engine.registry import choose_backend

    job = Job(
        choose_backend(backend).name,
        device,
        precision,
        seed,
        cases=tuple(cases or ()),
        quick=quick,
        time_limit=time_limit,
    )
    with _Ticker() as ticker:
        bundle = record(job, out, lambda case, number, count: ticker.case(backend, case, number, count))
    endings: dict[str, int] = {}
    for ending in bundle.manifest.cases.values():
        endings[ending.status] = endings.get(ending.status, 0) + 1
    if as_json:
        print_json("conformance-run", {"bundle": str(out), "label": bundle.manifest.label, "cases": endings})
    else:
        print(f"{out}: {bundle.manifest.label}, " + ", ".join(f"{n} {status}" for status, n in endings.items()))
        print(f"judge it anywhere: dots conformance compare {out}")


@app.command("compare")
def compare(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of bundles.")],
    out: Out = None,
    junit: JUnit = None,
    as_json: Json = False,
) -> None:
    """Judge bundles with NumPy alone: exit code 7 where an engine disagrees."""
    from dots_conformance.bundle import Bundle
    from dots_conformance.comparison import compare

    opened = [Bundle.open(folder) for folder in bundles]
    with _Ticker() as ticker:
        comparison = compare(opened, watch=lambda case, number, count: ticker.case("comparison", case, number, count))
    _finish(comparison, out, junit, as_json)


@app.command("locate")
def locate(
    backend: Annotated[str, typer.Option(help="Engine to examine.", autocompletion=complete_backend)],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A run, whose newest checkpoint is examined; default: small networks.")
    ] = None,
    device: Device = None,
    precision: Precision = "float32",
    cases: Annotated[
        list[str] | None,
        typer.Option(
            "--cases", help="Cases that failed: they are tried, and their networks examined; may be repeated."
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Name the first tensor that leaves its budget, forward, backward, in evaluation or in an update.

    Exit code 7 if there is one, or if a case that was named fails.
    """
    from dots_conformance.cases import all_cases, select
    from dots_conformance.comparison import References
    from dots_conformance.failures import failures, layer_at_fault, locate_among, networks_of, small_networks
    from dots_conformance.snapshot import ACTS
    from dots_conformance.thresholds import check_precision
    from dots_core.engine.protocol import Runtime
    from dots_core.engine.registry import choose_backend, load_engine

    if cases and checkpoint is not None:
        raise UsageError("--cases and --checkpoint name different networks; give one of them")
    check_precision(precision)
    chosen = select(all_cases(seed), tuple(cases)) if cases else {}
    engine = load_engine(choose_backend(backend).name)
    runtime = Runtime(device or engine.devices()[0].name, precision)
    engine.check(runtime)
    with _Ticker() as ticker:
        failed = [] if not chosen else list(failures(engine, runtime, chosen.values(), References([], chosen).of))
        if checkpoint is not None:
            from dots_conformance.run_snapshot import snapshot_of_run

            snapshots = {str(checkpoint): lambda: snapshot_of_run(checkpoint)}
        elif cases and not failed:
            snapshots = {}
        else:
            snapshots = {**networks_of(failed), **small_networks()}
        found = layer_at_fault(failed) or locate_among(
            engine, runtime, snapshots, lambda name, number, count: ticker.case("networks", name, number, count)
        )
    agrees = found is None and not failed
    if as_json:
        record: dict[str, Any] = {"agrees": agrees, "networks": list(snapshots)}
        if cases:
            record["cases"] = {"tried": list(chosen), "failing": {f.case.name: f.message for f in failed}}
        if found is not None:
            from dataclasses import asdict

            from dots_conformance.documents import finite

            record |= {"network": found[0], **finite(asdict(found[1]))}
        print_json("conformance-locate", record)
    elif found is not None:
        _say_where(backend, *found)
    elif failed:
        print(f"{backend} fails {len(failed)} of {len(chosen)} cases, and nothing is off where they were looked into:")
        for failure in failed[:_SHOWN]:
            print(f"  fails        {failure.case.name}: {failure.message}")
        if len(failed) > _SHOWN:
            print(f"               and {len(failed) - _SHOWN} more")
        print(f"  looked into  {', '.join(snapshots)}")
        print(f"  looked at    {'; '.join(act.what for act in ACTS)}")
        print("  try          --dtype float64, which tells a mistake from rounding; another --seed;")
        print("               --checkpoint RUN, to look into a run's own network and state")
    elif cases:
        print(f"{backend} agrees with the reference in {len(chosen)} cases: there is nothing to locate")
    else:
        print(
            f"{backend} agrees with the reference forward, backward and in its updates, and in evaluation: "
            f"{', '.join(snapshots)}"
        )
        print(f"where a case of `dots conformance` fails: dots conformance locate --backend {backend} --cases CASE")
    if not agrees:
        raise typer.Exit(MISMATCH)


def _say_where(backend: str, network: str, finding: Finding) -> None:
    verdict = finding.verdict
    print(f"{backend} parts from the reference in '{network}', {finding.direction}:")
    if finding.tensor:
        print(f"  tensor       {finding.tensor}")
    print(f"  place        {finding.place}")
    print(f"  explanation  {finding.explanation}")
    print(f"  error        {verdict.reason or verdict.relative}")
    if verdict.index:
        print(f"               at {verdict.index} it holds {verdict.value:.6g}, the reference {verdict.expected:.6g}")


@app.command("cases")
def cases(quick: Quick = False, as_json: Json = False) -> None:
    """List the cases."""
    from dots_conformance.cases import all_cases, select

    names = list(select(all_cases(), quick=quick))
    if as_json:
        print_json("conformance-cases", {"cases": names})
    else:
        print("\n".join(names))


def _named(backends: str | None) -> tuple[str, ...]:
    from dots_core.engine.registry import backends as known

    if backends is not None:
        return tuple(name.strip() for name in backends.split(",") if name.strip())
    found = tuple(b.name for b in known() if b.available and b.name != "reference")
    return found or ("reference",)


def _finish(comparison: Comparison, out: Path | None, junit: Path | None, as_json: bool) -> None:
    from dots_conformance.documents import comparison_record
    from dots_conformance.report.junit import junit_report
    from dots_conformance.report.markdown import markdown_report
    from dots_conformance.report.page import html_report
    from dots_core.storage.atomic import to_json, write_atomic

    summary, record = markdown_report(comparison), comparison_record(comparison)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / "report.html", html_report(comparison))
        write_atomic(out / "report.md", summary)
        write_atomic(out / "report.json", to_json(record))
    if junit is not None:
        write_atomic(junit, junit_report(comparison))
    if as_json:
        print_json("conformance", record)
    else:
        print(summary)
        if out is not None:
            print(f"report  {out / 'report.html'}")
    if not comparison.agrees:
        _say_how_to_locate(comparison)
        raise typer.Exit(MISMATCH)


def _say_how_to_locate(comparison: Comparison) -> None:
    """Say, on stderr, the command that looks into the cases that failed."""
    for engine in comparison.engines:
        # A case that ends the process would end the one that locates too.
        failing = [case.case for case in engine.cases.values() if case.verdict in ("fail", "raised")]
        if failing:
            m = engine.manifest
            line = ["dots conformance locate", f"--backend {m.backend}"]
            line += [f"--cases {case}" for case in failing[:_SHOWN]]
            line += [f"--seed {m.seed}"] * (m.seed != 0) + [f"--dtype {m.precision}"] * (m.precision != "float32")
            line += [f"--device {m.device}"] * (m.device not in ("", "cpu"))
            print(f"where {m.backend} parts from the reference: {' '.join(line)}", file=sys.stderr)


class _Ticker:
    """Says on stderr what is being recorded: one line that changes on a terminal, else one a part."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._begun: dict[str, float] = {}

    def __enter__(self) -> _Ticker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live and self._begun:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def case(self, who: str, case: str, number: int, count: int) -> None:
        """A case begins."""
        first = who not in self._begun
        began = self._begun.setdefault(who, time.monotonic())
        if self._live:
            left = (time.monotonic() - began) / number * (count - number) if number else 0.0
            text = f"{who}  {number + 1}/{count}  {case}" + (f"  {left:.0f} s left" if number else "")
            print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)
        elif first:
            print(f"{who}: {count} cases", file=sys.stderr, flush=True)
