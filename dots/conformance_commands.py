"""``dots conformance``: record what engines do, judge it, report it, and find where an engine parts."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dots.output import complete_backend, print_json
from dots_core.errors import UsageError

if TYPE_CHECKING:
    from dots_conformance.comparison import Comparison

app = typer.Typer(
    help="Prove how closely engines agree with the reference engine.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

MISMATCH = 7

Device = Annotated[str | None, typer.Option(help="Device; default: the engine's preferred.")]
Precision = Annotated[str, typer.Option("--dtype", help="float32, float64, tf32, bfloat16 or float16.")]
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

    from dots_core.backends import choose_backend

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
    as_json: Json = False,
) -> None:
    """Name the first tensor that leaves its budget, forward, backward or in an update: exit code 7 if there is one."""
    from dots_conformance.locate import Situation, locate
    from dots_conformance.networks import CASES

    from dots_core.backends import choose_backend, load_engine
    from dots_core.engine import Runtime

    engine = load_engine(choose_backend(backend).name)
    runtime = Runtime(device or engine.devices()[0].name, precision)
    engine.check(runtime)
    if checkpoint is None:
        situations = {name: Situation.of(case) for name, case in CASES.items()}
    else:
        from dots.situations import situation_of_run

        situations = {str(checkpoint): situation_of_run(checkpoint)}
    for name, situation in situations.items():
        finding = locate(engine, situation, runtime)
        if finding is None:
            continue
        if as_json:
            from dataclasses import asdict

            from dots_conformance.documents import finite

            print_json("conformance-locate", {"agrees": False, "network": name, **finite(asdict(finding))})
        else:
            verdict = finding.verdict
            print(f"{backend} parts from the reference in network '{name}', {finding.direction}:")
            print(f"  tensor       {finding.tensor}")
            print(f"  place        {finding.place}")
            print(f"  explanation  {finding.explanation}")
            print(
                f"  error        {verdict.reason or verdict.relative}; at {verdict.index} it holds {verdict.value:.6g},"
            )
            print(f"               the reference {verdict.expected:.6g}")
        raise typer.Exit(MISMATCH)
    if as_json:
        print_json("conformance-locate", {"agrees": True, "networks": list(situations)})
    else:
        print(f"{backend} agrees with the reference forward, backward and in its updates: {', '.join(situations)}")


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
    from dots_core.backends import backends as known

    if backends is not None:
        return tuple(name.strip() for name in backends.split(",") if name.strip())
    found = tuple(b.name for b in known() if b.available and b.name != "reference")
    return found or ("reference",)


def _finish(comparison: Comparison, out: Path | None, junit: Path | None, as_json: bool) -> None:
    from dots_conformance.documents import comparison_record
    from dots_conformance.report.html import html_report
    from dots_conformance.report.junit import junit_report
    from dots_conformance.report.markdown import markdown_report

    from dots_core.files import to_json, write_atomic

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
        raise typer.Exit(MISMATCH)


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
