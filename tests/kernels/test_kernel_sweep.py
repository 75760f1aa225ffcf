"""No layer form that the core can emit damages an engine's memory, ends its process or gives what is no number."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
from emitted import CHANNELS, SIDES, WIDTHS, by_kind, kind, registrable_forms, sampled, whole
from out_of_tree import OVERRUNNING, install

from dots_core.engine.crashes.alone import CHILD, Job, run_alone
from dots_core.engine.crashes.heap import malloc_checking
from dots_core.search_space.operations import DARTS, NONE

FOLDER = Path(__file__).parent
CONTIGUOUS = (sys.executable, str(FOLDER / "contiguous.py"))
UNMENDED = (sys.executable, str(FOLDER / "unmended.py"))

SWEEPS = {
    # Engine, precision, process, sampled forms of each kind.
    "torch": ("torch", "float32", CHILD, 33),
    "torch-contiguous": ("torch", "float32", CONTIGUOUS, 33),
    "torch-float64": ("torch", "float64", CHILD, 9),
    "torch-bfloat16": ("torch", "bfloat16", CHILD, 9),
    "mindspore": ("mindspore", "float32", CHILD, 4),
    # Which compiles some kernels for every form that is new to it.
    "jittor": ("jittor", "float32", CHILD, 1),
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors this small are computed on one thread; more would wait for each other, spinning."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize(
    "sweep", [pytest.param(name, marks=pytest.mark.engine(of[0])) for name, of in SWEEPS.items()], ids=list(SWEEPS)
)
def test_no_form_damages_memory(sweep: str, request: pytest.FixtureRequest) -> None:
    backend, precision, child, per_kind = SWEEPS[sweep]
    complete = request.config.getoption("kernel_sweep") == "whole"
    forms = whole() if complete else sampled(per_kind)
    if malloc_checking() is None:
        warnings.warn("no libc_malloc_debug.so.0 here: of what damages memory only crashes are seen", stacklevel=1)
    outcome = run_alone(Job(backend, forms, precision=precision), most_deaths=5, child=child)
    assert not outcome.said, outcome.said
    assert [f"{how}: {form.name}" for form, how in outcome.deaths] == []
    assert [f"{what}: {form.name}" for form, what in outcome.wrong] == []
    assert outcome.begun == len(forms)


@pytest.mark.release
@pytest.mark.engine("torch")
@pytest.mark.parametrize("child", [CHILD, CONTIGUOUS], ids=["as it comes", "contiguous"])
@pytest.mark.parametrize("instructions", ["DEFAULT", "AVX2"])
def test_no_convolution_of_another_package_damages_memory(
    child: tuple[str, ...], instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the kernels that oneDNN takes on this processor, and with those that have had a fault."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", instructions)
    forms = tuple(registrable_forms())
    outcome = run_alone(Job("torch", forms), most_deaths=5, child=child)
    assert (outcome.said, outcome.deaths, outcome.wrong, outcome.begun) == ("", [], [], len(forms))


@pytest.mark.parametrize("name", [pytest.param(e, marks=pytest.mark.engine(e)) for e in ("torch", "mindspore")])
def test_forms_give_what_the_reference_gives(name: str) -> None:
    """Loosely: at numbers of channels and sizes that conformance does not go through."""
    forms = sampled(2)
    outcome = run_alone(Job(name, forms, judged=True))
    assert (outcome.said, outcome.deaths, outcome.wrong, outcome.begun) == ("", [], [], len(forms))


@pytest.mark.parametrize("per_kind", sorted({of[3] for of in SWEEPS.values()}))
def test_the_sample_covers_every_kind_and_every_number_of_channels(per_kind: int) -> None:
    taken: dict[tuple[object, ...], set[int]] = {}
    for form in sampled(per_kind):
        taken.setdefault(kind(form), set()).add(form.channels)
    assert taken.keys() == by_kind().keys()
    assert all(len(taken[each]) == min(per_kind, len(channels)) for each, channels in by_kind().items())
    assert set(CHANNELS) <= set().union(*taken.values())


def test_the_whole_sweep_goes_through_channels_sizes_widths_operations_and_strides() -> None:
    stacked = {(form.channels, form.size[0], len(form.sequences)) for form in whole()}
    assert {(c, s, w) for c in CHANNELS for s in SIDES for w in WIDTHS} <= stacked
    # The identity alone has no layers: all others are there with both strides, in supernets and derived networks.
    wide = {kind(form) for form in whole() if len(form.sequences) == max(WIDTHS) and form.channels == 4}
    assert len(wide) == 2 * (2 * len(set(DARTS) - {NONE}) - 1)


@pytest.mark.engine("torch")
def test_the_sweep_finds_the_fault_that_is_routed_around() -> None:
    """With the call put back that `dots_torch.kernel_faults` stands for, on a processor that has the fault."""
    if malloc_checking() is None:
        pytest.skip("no libc_malloc_debug.so.0 here, without which the fault shows by chance only")
    pairs = tuple(form for form in whole() if "shifted pair 4→4 " in form.name and form.size == (8, 8))
    assert run_alone(Job("torch", pairs)).deaths == []
    outcome = run_alone(Job("torch", pairs), child=UNMENDED, form_limit=20)
    if not outcome.deaths and outcome.begun == len(pairs):
        pytest.skip("the kernels that PyTorch takes on this processor do not have the fault")
    ((form, how),) = outcome.deaths
    assert "shifted pair 4→4" in form.name
    assert how.startswith(("was killed by SIG", "did not end within"))


def test_a_byte_written_out_of_bounds_ends_the_process_and_the_form_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that gives right results and writes one byte too many in the shifted pair."""
    if malloc_checking() is None:
        pytest.skip("no libc_malloc_debug.so.0 here")
    for key, value in install(tmp_path / "site", "overrunning", OVERRUNNING).items():
        monkeypatch.setenv(key, value)
    forms = tuple(form for form in sampled(1) if form.channels < 5)
    outcome = run_alone(Job("overrunning", forms), most_deaths=100)
    assert outcome.begun == len(forms)
    assert [form for form, _ in outcome.deaths] == [form for form in forms if "shifted pair" in form.name]
    assert {how for _, how in outcome.deaths} == {"was killed by SIGABRT"}
