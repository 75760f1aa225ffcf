"""What several processes need is worked out by one of them, and is the same for all."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
from dots_conformance.cases import all_cases, select
from dots_conformance.cases.handed import handed
from dots_conformance.closeness import FAIL, TensorVerdict
from dots_conformance.comparison import _KEPT, _worst

from dots_core.engine.protocol import Runtime, State
from dots_core.engine.registry import load_engine


def work_out_slowly(folder: Path, marks: Path) -> None:
    def work_out() -> State:
        with open(marks, "a") as file:
            file.write("x")
        time.sleep(0.3)
        return {"a": np.arange(3.0)}

    assert handed(folder, "steps/one case", work_out)["a"].tolist() == [0, 1, 2]


def test_two_processes_work_it_out_once(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=work_out_slowly, args=(tmp_path / "shared", tmp_path / "marks")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "marks").read_text() == "x"


def test_a_case_is_the_same_with_handed_states(tmp_path: Path) -> None:
    name = "steps/optimizers/defaults"
    engine, runtime = load_engine("reference"), Runtime(precision="float32")
    cases = [select(all_cases(0, shared), (name,))[name] for shared in (None, tmp_path, tmp_path)]
    alone, first, second = (case.record(engine, runtime).arrays for case in cases)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert list(alone) == list(first) == list(second)
    for key, value in alone.items():
        assert value.tobytes() == first[key].tobytes() == second[key].tobytes(), key


def test_no_sort_of_tensor_is_crowded_out_of_what_is_kept() -> None:
    """Which of many gradients is off most hangs on rounding; that the output is off too must show."""
    many = [TensorVerdict(f"gradient/{n}", FAIL, 1000.0 - n) for n in range(20)]
    kept = _worst([*many, TensorVerdict("logits", FAIL, 5.0), TensorVerdict("loss", FAIL, 2.0)])
    assert len(kept) == _KEPT
    assert [tensor.key for tensor in kept] == [*(f"gradient/{n}" for n in range(_KEPT - 2)), "logits", "loss"]
