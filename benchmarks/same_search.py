"""One search, one seed, several engines: the first losses, and where decisions part.

Every engine runs the whole preset in a process of its own; the reference runs it in float64 and, as a
measure of what rounding alone does, in float32.

    python benchmarks/same_search.py --preset smoke --backends torch,mindspore,jittor
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from dots_conformance.bundle import case_file, write_recording
from dots_conformance.cases import Recording
from dots_conformance.cases.search import record_search
from dots_conformance.closeness import judge
from dots_conformance.comparison import decisions_differ

from dots.config.plan import plan_of
from dots.config.presets import preset_values
from dots.config.schema import CONFIGS, parse_config
from dots_core.data import load
from dots_core.engine.protocol import Runtime
from dots_core.engine.registry import load_engine
from dots_core.storage.checkpoint import unpack_arrays


def run(preset: str, backend: str, precision: str, folder: str) -> tuple[tuple, float]:
    """Search on one engine; arrays go to the folder, decisions and seconds come back."""
    config = parse_config(CONFIGS["search"], preset_values("search", preset), f"preset {preset}")
    data = load(config.data or "digits", config.image_size)
    begin = time.perf_counter()
    recording = record_search(plan_of(config), data, load_engine(backend), Runtime("cpu", precision))
    write_recording(Path(folder), f"{backend}-{precision}", recording)
    return recording.decisions, time.perf_counter() - begin


def main() -> int:
    """Run, compare and print; the exit status is 1 if an engine differs for no good reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--backends", default="torch,mindspore,jittor")
    given = parser.parse_args()
    runs = [("reference", "float64"), ("reference", "float32"), *((b, "float32") for b in given.backends.split(","))]
    found: dict[tuple[str, str], Recording] = {}
    with tempfile.TemporaryDirectory() as folder:
        for backend, precision in runs:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                decisions, seconds = pool.submit(run, given.preset, backend, precision, folder).result()
            path = case_file(Path(folder), f"{backend}-{precision}")
            found[backend, precision] = Recording(unpack_arrays(path.read_bytes(), path), decisions)
            print(f"{backend} {precision}: {seconds:.0f} s", file=sys.stderr, flush=True)
    exact, wrong = found["reference", "float64"], False
    rough = {key: value for key, value in found["reference", "float32"].arrays.items() if not key.startswith("info")}
    for (backend, precision), recording in found.items():
        if precision == "float64":
            continue
        arrays = {key: value for key, value in recording.arrays.items() if not key.startswith("info")}
        truth = {key: value for key, value in exact.arrays.items() if not key.startswith("info")}
        verdicts = sorted(judge(arrays, truth, [rough], "float32"), key=lambda v: v.key)
        differs, said = decisions_differ(recording, exact)
        wrong = wrong or differs or any(verdict.verdict == "fail" for verdict in verdicts)
        same = sum(a["chosen"] == b["chosen"] for a, b in zip(recording.decisions, exact.decisions, strict=False))
        print(f"{backend} {precision}")
        print("  relative error of the first losses: " + ", ".join(f"{v.relative:.1e}" for v in verdicts))
        print("  in multiples of what is allowed:    " + ", ".join(f"{v.multiple:.2g}" for v in verdicts))
        print(f"  {same} of {len(exact.decisions)} decisions are the reference's; first difference: {said or 'none'}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
