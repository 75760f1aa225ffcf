"""Judges bundles against the reference engine, with NumPy alone: no framework is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dots_conformance.bundle import RECORDED, Bundle, Manifest
from dots_conformance.cases import Case, Recording, all_cases
from dots_conformance.closeness import FAIL, ILL, PASS, TensorVerdict, judge, sort_of
from dots_conformance.ledger import Entry, read_ledger, stale
from dots_conformance.recorder import suite_version
from dots_conformance.rounding import DRAWS, RoundingDraw
from dots_conformance.thresholds import DRAWN, check_precision
from dots_core.engine.protocol import Runtime, State
from dots_core.errors import UsageError

KNOWN = "known"
"""A failure the ledger excuses."""

GROWTH = "growth"
_KEPT = 8
"""How many of a case's tensors are kept in a comparison, the worst first, and of every sort one at least."""


@dataclass(frozen=True)
class Curve:
    """How far a trajectory drifted from the float64 reference, step by step.

    Attributes
    ----------
    sort : str
        What drifted: ``"growth.loss"``, ``"growth.weights"``, ….
    steps : tuple of str
    engine, reference : tuple of float
        Relative errors of the engine, and the largest among the reference's draws.
    """

    sort: str
    steps: tuple[str, ...]
    engine: tuple[float, ...]
    reference: tuple[float, ...]


@dataclass(frozen=True)
class CaseVerdict:
    """What became of one case on one engine.

    Attributes
    ----------
    verdict : str
        ``"pass"``, ``"fail"``, ``"ill-conditioned"``, ``"known"`` (it fails as the ledger says), or how the
        recording ended where there are no arrays: ``"refused"``, ``"raised"``, ``"crashed"``, ``"timed out"``.
    multiple : float
        Largest error among the case's tensors in multiples of what is allowed; infinite without arrays.
    tensors : tuple of TensorVerdict
        The worst ones.
    curves : tuple of Curve
        Of free-running cases.
    message : str
        Why it did not pass, or what else is to be said of it.
    seconds : float
        What recording it took.
    """

    case: str
    verdict: str
    multiple: float
    tensors: tuple[TensorVerdict, ...] = ()
    curves: tuple[Curve, ...] = ()
    message: str = ""
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether nothing stands against the engine here."""
        return self.verdict in (PASS, ILL, KNOWN)


@dataclass(frozen=True)
class EngineVerdict:
    """What became of one bundle.

    Attributes
    ----------
    manifest : Manifest
    cases : dict of CaseVerdict
        By name.
    ledger : tuple of Entry
        The entries that speak of this engine and version.
    stale : tuple of Entry
        Those among them that excuse nothing any more.
    """

    manifest: Manifest
    cases: dict[str, CaseVerdict]
    ledger: tuple[Entry, ...]
    stale: tuple[Entry, ...]

    @property
    def judged(self) -> bool:
        """Whether any case tells something."""
        return any(case.verdict != ILL for case in self.cases.values())

    @property
    def agrees(self) -> bool:
        """Whether every case passes, is excused or tells nothing, and no entry is stale."""
        return not self.stale and all(case.agrees for case in self.cases.values())


@dataclass(frozen=True)
class Comparison:
    """Several engines beside each other.

    Attributes
    ----------
    engines : tuple of EngineVerdict
    seed : int
    suite : str
        Version of dots.
    """

    engines: tuple[EngineVerdict, ...]
    seed: int
    suite: str

    @property
    def agrees(self) -> bool:
        """Whether every engine does."""
        return all(engine.agrees for engine in self.engines)


Watch = Callable[[str, int, int], None]


def compare(
    bundles: Iterable[Bundle], ledger: tuple[Entry, ...] | None = None, watch: Watch = lambda *_: None
) -> Comparison:
    """Judge bundles.

    Bundles of the reference engine among them serve as what the others are judged by; what is
    missing of it is computed here, by NumPy.

    Raises
    ------
    UsageError
        If there is nothing to judge, the bundles are of different cases, or one is of an unknown precision.
    CorruptFile
        If a file is damaged.
    """
    given = list(bundles)
    judged = [b for b in given if b.manifest.backend != "reference"]
    judged = judged or [b for b in given if b.manifest.draw == 0 and b.manifest.precision != "float64"] or given
    if not judged:
        raise UsageError("there is no bundle to judge")
    seeds = sorted({bundle.manifest.seed for bundle in given})
    if len(seeds) > 1:
        raise UsageError(f"the bundles were recorded with different seeds, {seeds}; record them with the same --seed")
    for bundle in given:
        check_precision(bundle.manifest.precision)
        if bundle.manifest.suite != suite_version():
            raise UsageError(
                f"{bundle.folder} was recorded by dots {bundle.manifest.suite} and this is {suite_version()}, "
                "whose cases may differ; compare with the version that recorded, or record again"
            )
    entries = read_ledger() if ledger is None else ledger
    references = References([b for b in given if b.manifest.backend == "reference"], all_cases(seeds[0]))
    wanted = [name for name in references.cases if any(name in bundle.manifest.cases for bundle in judged)]
    verdicts: list[dict[str, CaseVerdict]] = [{} for _ in judged]
    used: list[set[Entry]] = [set() for _ in judged]
    for number, name in enumerate(wanted):
        watch(name, number, len(wanted))
        for bundle, found, excuses in zip(judged, verdicts, used, strict=True):
            if name in bundle.manifest.cases:
                found[name] = _judge_case(bundle, name, references, entries, excuses)
    engines = []
    for bundle, found, excuses in zip(judged, verdicts, used, strict=True):
        m = bundle.manifest
        concerned = tuple(e for e in entries if e.concerns(m.backend, m.device, m.versions))
        engines.append(EngineVerdict(m, found, concerned, stale(concerned, excuses, found)))
    return Comparison(tuple(engines), seeds[0], suite_version())


class References:
    """What the reference engine does on each case: read from bundles, or computed."""

    def __init__(self, bundles: list[Bundle], cases: dict[str, Case]) -> None:
        self.cases = cases
        self._bundles = {(b.manifest.precision, b.manifest.draw): b for b in bundles}
        self._kept: tuple[str, dict[tuple[str, int], Recording]] = ("", {})

    def of(self, name: str, precision: str) -> tuple[Recording, list[Recording]]:
        """Return the recording in float64 and the draws that an engine in a precision is judged by."""
        if self._kept[0] != name:
            self._kept = (name, {})
        draws = 1 if self.cases[name].exact else DRAWS
        return self._of(name, "float64", 0), [self._of(name, DRAWN[precision], number) for number in range(draws)]

    def _of(self, name: str, precision: str, draw: int) -> Recording:
        kept = self._kept[1]
        if (precision, draw) not in kept:
            kept[precision, draw] = self._recorded(name, precision, draw)
        return kept[precision, draw]

    def _recorded(self, name: str, precision: str, draw: int) -> Recording:
        bundle = self._bundles.get((precision, draw))
        recorded = None if bundle is None else bundle.read(name)
        return recorded or self.cases[name].record(RoundingDraw(draw), Runtime(precision=precision))


def _judge_case(
    bundle: Bundle, name: str, references: References, entries: tuple[Entry, ...], used: set[Entry]
) -> CaseVerdict:
    manifest = bundle.manifest
    ending = manifest.cases[name]
    concerned = [e for e in entries if e.concerns(manifest.backend, manifest.device, manifest.versions)]

    def excused(tensor: str) -> bool:
        found = next((e for e in concerned if e.excuses(name, tensor)), None)
        if found is not None:
            used.add(found)
        return found is not None

    if ending.status != RECORDED:
        verdict = KNOWN if excused("*") else ending.status
        return CaseVerdict(name, verdict, np.inf, message=ending.message, seconds=ending.seconds)
    recording = bundle.read(name)
    assert recording is not None
    exact, draws = references.of(name, manifest.precision)
    tensors = judge_recording(recording, exact, draws, manifest.precision)
    curves = _curves(recording.arrays, exact.arrays, [draw.arrays for draw in draws])
    disagreement, message = decisions_differ(recording, exact)
    failing = [tensor for tensor in tensors if tensor.verdict == FAIL]
    unexcused = [tensor for tensor in failing if not excused(tensor.key)]
    if disagreement and not excused("decisions"):
        verdict = FAIL
    elif unexcused:
        verdict, message = FAIL, f"{unexcused[0].key}: {unexcused[0].reason}"
    elif failing or disagreement:
        verdict = KNOWN
    elif any(tensor.verdict == ILL for tensor in tensors):
        verdict = ILL
    else:
        verdict = PASS
    multiple = max((tensor.multiple for tensor in tensors), default=0.0)
    kept = _worst(unexcused + [tensor for tensor in tensors if tensor not in unexcused])
    return CaseVerdict(name, verdict, multiple, tuple(kept), curves, message, ending.seconds)


def judge_recording(actual: Recording, exact: Recording, draws: list[Recording], precision: str) -> list[TensorVerdict]:
    """Judge every tensor of a recording; the worst come first."""
    return judge(_judged(actual.arrays), _judged(exact.arrays), [_judged(draw.arrays) for draw in draws], precision)


def _worst(tensors: list[TensorVerdict]) -> list[TensorVerdict]:
    """The tensors that are kept: the first of every sort, so that none is crowded out, and then the others."""
    first = {sort_of(tensor.key): tensor for tensor in reversed(tensors)}
    kept = sorted(tensors, key=lambda tensor: first[sort_of(tensor.key)] is not tensor)[:_KEPT]
    return [tensor for tensor in tensors if tensor in kept]


def _judged(arrays: State) -> State:
    return {key: value for key, value in arrays.items() if not key.startswith("info")}


def _curves(actual: State, exact: State, draws: list[State]) -> tuple[Curve, ...]:
    sorts = sorted({key.partition("/")[0] for key in exact if key.startswith(GROWTH)})
    curves = []
    for sort in sorts:
        keys = sorted(key for key in exact if key.startswith(f"{sort}/") and key in actual)
        curves.append(
            Curve(
                sort,
                tuple(key.partition("/")[2] for key in keys),
                tuple(_error(actual[key], exact[key]) for key in keys),
                tuple(max(_error(draw[key], exact[key]) for draw in draws) for key in keys),
            )
        )
    return tuple(curves)


def _error(found: Any, expected: Any) -> float:
    size = float(np.linalg.norm(expected))
    distance = float(np.linalg.norm(np.asarray(found, np.float64) - expected))
    return distance / size if size else distance


def decisions_differ(actual: Recording, exact: Recording) -> tuple[bool, str]:
    """Whether a decision differs for no good reason, and what is to be said of the first that differs.

    One that differs is a tie if its margin is no more than twice what the array it rests on is
    away. What is decided after it concerns another network and is not compared.
    """
    if len(actual.decisions) != len(exact.decisions):
        return True, f"{len(actual.decisions)} decisions were made, the reference made {len(exact.decisions)}"
    for mine, true in zip(actual.decisions, exact.decisions, strict=True):
        if mine["chosen"] == true["chosen"]:
            continue
        away = float(np.max(np.abs(np.asarray(actual.arrays[true["by"]], np.float64) - exact.arrays[true["by"]])))
        tie = true["margin"] <= 2 * away
        said = (
            f"{true['what']}: {mine['chosen']}, the reference {true['chosen']} by a margin of {true['margin']:.2g}; "
            f"the values are {away:.2g} apart"
        )
        return not tie, f"{said}, so it is a tie" if tie else said
    return False, ""
