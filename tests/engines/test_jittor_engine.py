"""The Jittor engine keeps the promises every engine makes, and agrees with the reference."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dots_conformance.engine_suite import RATES, EngineSuite
from dots_conformance.networks import CASES, NetworkCase, operation_spec

from dots_core.engine.protocol import GROUPS, Runtime
from dots_core.engine.registry import load_engine
from dots_core.errors import CorruptFile, EngineMissing, UsageError
from dots_core.plan.gradients import SecondOrder
from dots_core.plan.plan import Update
from dots_core.search.step import Stepper, StepPosition
from dots_core.search_space.layers import GlobalAverage
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS
from dots_core.search_space.topology import Topology

pytestmark = pytest.mark.engine("jittor")


class JittorSuite(EngineSuite):
    backend = "jittor"


class TestJittorFloat32(JittorSuite):
    precision = "float32"


@pytest.mark.release
class TestJittorFloat64(JittorSuite):
    precision = "float64"


def built(case, precision="float32"):
    from dots_jittor.engine import engine

    return case.build(engine, precision)


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_precisions_jittor_does_not_compute_in_are_refused(precision):
    with pytest.raises(UsageError, match=precision):
        built(CASES["pairs"], precision)


def test_cuda_is_refused_where_there_is_none():
    from dots_jittor.engine import engine
    from dots_jittor.startup import jt

    if jt.has_cuda:
        pytest.skip("this Jittor has a CUDA device")
    with pytest.raises(EngineMissing, match="CUDA"):
        engine.check(Runtime("cuda"))


def test_statistics_of_a_shared_pool_that_differ_are_refused():
    network = built(CASES["operations"])
    state = network.export_state()
    name = next(key for key in state if "max_pool_3x3.norm.running_mean" in key and ".0-3." in key)
    state[name] = state[name] + 1
    with pytest.raises(CorruptFile, match="max_pool_3x3"):
        network.import_state(state)


def test_the_graph_does_not_grow_from_step_to_step():
    """Jittor is lazy: what is never run, and what is kept, stays."""
    from dots_jittor.startup import jt

    case = CASES["operations"]
    network = built(case)
    alive = []
    for number in range(6):
        network.step(("w",), case.batch(number % 2), RATES, case.temperature)
        network.step(("alpha", "beta"), case.batch(number % 2), RATES, case.temperature)
        network.pop_losses()
        alive.append(jt.number_of_lived_vars())
    assert alive[-1] <= alive[1]


def search(sampling="none", partial=1, nodes=2, operations=DARTS):
    """A small search of operations and edges, as a case."""
    topology = Topology("edge-softmax")
    spec = operation_spec("single", operations, nodes, topology, sampling, partial, input_shape=(2, 6, 7))
    return NetworkCase(spec, Temperature(0.5, 0.8), seed=1)


SECOND_ORDER = (Update(("alpha", "beta"), "half-b", gradient=SecondOrder()), Update(("w",), "half-a"))


@pytest.mark.parametrize(("sampling", "partial"), [("none", 1), ("hard", 1), ("soft", 2)])
def test_second_order_leaves_nothing_behind(sampling, partial):
    """What is accumulated or set aside would keep the graph that it came from."""
    from dots_jittor.startup import jt

    case = search(sampling, partial)
    network = built(case)
    stepper = Stepper(network, case.spec, SECOND_ORDER, 3, "graph")
    batches = [replace(case.batch(number), draws=None) for number in range(2)]
    alive = []
    for number in range(6):
        stepper.step(batches.__getitem__, RATES, case.temperature, StepPosition(0, number, 6))
        network.pop_losses()
        alive.append(jt.number_of_lived_vars())
    # A vector of zeros may be made in any step, and is kept.
    assert alive[-1] <= alive[2] + 4


def test_another_choice_compiles_no_other_kernels():
    """Jittor fuses what it computes itself: were it another graph for every sample, each would be compiled."""
    from dots_jittor.startup import jt

    spec = operation_spec("group-v2", nodes=4, topology=Topology("edge-softmax"), sampling="hard", layers=2)
    case = NetworkCase(spec, seed=1)
    network = built(case)
    kernels = []
    for number in range(16):
        with jt.profile_scope() as report:
            network.step(GROUPS, case.batch(number), RATES, case.temperature)
        kernels.append({row[0] for row in report[1:]})
    choices = {case.batch(number).draws["reduce"].chosen.tobytes() for number in range(16)}
    assert len(choices) == 16
    assert len(kernels[0]) > 30
    # Operations that the first sample lacks may come, and zeros for the gradient of what reaches nothing.
    assert len(set().union(*kernels) - kernels[0]) <= 2


@pytest.mark.parametrize("partial", [1, 2])
def test_nodes_that_hear_nothing(partial):
    """Where samples chose `none` for every edge, a node is a constant of zeros, which has a gradient all the same."""
    case = search("hard", partial, operations=("none", "skip_connect", "sep_conv_3x3"))
    network, reference = built(case, "float64"), case.build(load_engine("reference"), "float64")
    batch = case.batch()
    chosen = np.zeros(case.spec.normal.operation_groups.shape, bool)
    chosen[:, case.spec.normal.column("none")] = True
    for silent in ({"normal"}, {"reduce"}, {"normal", "reduce"}):
        draws = {
            kind: replace(draw, chosen=chosen if kind in silent else draw.chosen) for kind, draw in batch.draws.items()
        }
        found, expected = (
            each.gradients(replace(batch, draws=draws), case.temperature, trace=True) for each in (network, reference)
        )
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-12, err_msg=key)


def test_a_cell_of_hard_samples_mixes_where_nothing_is_drawn():
    """Its edges are not stacked, and each has its own pools."""
    case = search("hard")
    network, reference = built(case, "float64"), case.build(load_engine("reference"), "float64")
    batch = replace(case.batch(), draws=None)
    found, expected = (each.gradients(batch, case.temperature) for each in (network, reference))
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("module", ["native", "portable"])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_of_equal_maxima_the_first_gets_the_gradient(module, size):
    from dots_jittor.arrays import download, upload
    from dots_jittor.startup import jt
    from dots_jittor.window import Window

    ops = importlib.import_module(f"dots_jittor.{module}")
    x = upload(np.full((1, 1, *size), -2.0)).start_grad()
    y = ops.max_pool(x, Window(2, 2, over=True))
    assert (download(y) == -2).all()
    expected = np.zeros(size)
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(download(jt.grad(y.sum(), x))[0, 0], expected)


# What each primitive is given: shapes of its tensors, and a function of them and of a set of primitives.


def _primitives():
    from dots_jittor.window import Window

    from dots_core.search_space.mixing import SoftmaxGroups

    blocks = SoftmaxGroups(np.array([2, 2, -1, 5, 5, 5, 2]))
    shifted = replace(blocks, offsets=np.linspace(1, -1, 7), free=np.arange(7) != 3)
    weight, image = (8, 1, 3, 3), (2, 4, 5, 7)
    return {
        "depthwise": (
            (image, weight),
            lambda ops, x, w: [
                ops.depthwise(x, w, Window(3, 1, 1), True),
                ops.depthwise(x, w, Window(3, 2, 2, 2), False),
            ],
        ),
        "pointwise": (
            (image, (6, 2, 1, 1), (6, 4, 1, 1)),
            lambda ops, x, v, w: [
                ops.pointwise(x, v, 2, False),
                ops.pointwise(x, w, 1, True, 2, 0),
                ops.pointwise(x, w, 1, True, 2, 1),
            ],
        ),
        "normalise": ((image, (2,), (4,)), lambda ops, x, scale, shift: list(ops.normalise(x, scale, shift))),
        "max_pool": (
            (image,),
            lambda ops, x: [ops.max_pool(x, w) for w in (Window(3, 1, 1), Window(3, 2, 1), Window(2, 2, over=True))],
        ),
        "interleave": ((image, (2, 8, 5, 7)), lambda ops, x, y: [ops.interleave(x, y, 3)]),
        "average_pool": (
            (image,),
            lambda ops, x: [ops.average_pool(x, w) for w in (Window(3, 1, 1), Window(3, 2, 1), Window(5, 2))],
        ),
        "mix": (((3, 2), image, image), lambda ops, f, x, y: [ops.mix(f, [x, y])]),
        "rectify": ((image,), lambda ops, x: [ops.rectify(x)]),
        "add": ((image,) * 6, lambda ops, *terms: [ops.add(terms)]),
        "group_softmax": (((7,),), lambda ops, x: [_softmax(ops, blocks)(x, 0.7)]),
        "group_softmax_shifted": (((7,),), lambda ops, x: [_softmax(ops, shifted)(x, 0.7, np.linspace(0, 1, 7))]),
        "cross_entropy": (
            ((3, 5),),
            lambda ops, x: list(ops.cross_entropy(x, _labels(), smoothing=0.1, share=0.3)),
        ),
        "normalise_by": (
            (image, (2,), (4,), (4,)),
            lambda ops, x, scale, shift, mean: [ops.normalise_by(x, scale, shift, mean, mean * mean)],
        ),
        "sgd": (((9,),) * 3, lambda ops, *vectors: list(_tensors(ops).sgd(*vectors, _optimizers(), 0.1))),
        "adam": (
            ((9,),) * 4,
            lambda ops, g, x, m, v: list(_tensors(ops).adam(x, m, v * v, g, _optimizers(), 3, 0.1)),
        ),
        "approach": (((9,),) * 2, lambda ops, old, new: [ops.approach(old, new, 0.1)]),
        "approach_some": (((9,),) * 2, lambda ops, old, new: [ops.approach_some(old, new, _some(9), 0.1)]),
        "add_scaled": (((3, 3),) * 2, lambda ops, total, term: [_tensors(ops).add_scaled(total, term, -0.3)]),
        "clipped": (((9,), (2, 3)), lambda ops, *given: _tensors(ops).clipped(given, 0.5)),
        "norm": (((9,),), lambda ops, x: [_tensors(ops).norm([x])]),
        "perturbed": (
            ((9,),) * 2,
            lambda ops, w, g: [_tensors(ops).perturbed(w, g, 0.1), _tensors(ops).perturbed(w, g - g, 0.1)],
        ),
    }


PRIMITIVES = (
    *("depthwise", "pointwise", "normalise", "max_pool", "average_pool", "mix", "rectify", "add", "group_softmax"),
    *("interleave", "group_softmax_shifted", "cross_entropy", "normalise_by", "sgd", "adam", "approach"),
    *("approach_some", "add_scaled", "norm", "perturbed", "clipped"),
)
WITHOUT_GRADIENT = (
    *("normalise_by", "sgd", "adam", "approach", "approach_some", "add_scaled", "norm", "perturbed", "clipped"),
)


def _tensors(ops):
    from dots_jittor import native
    from dots_jittor.tensors import JittorTensors, NativeTensors

    return (NativeTensors if ops is native else JittorTensors)(np.float64)


def _softmax(ops, groups):
    from dots_jittor import native
    from dots_jittor.mixture import NativeSoftmax

    from dots_core.engine.mixture import GroupSoftmax

    return (NativeSoftmax if ops is native else GroupSoftmax)(groups, _tensors(ops))


def _some(count):
    from dots_jittor.arrays import upload

    return upload((np.arange(count) % 3 == 0).astype(np.uint8))


def _labels():
    from dots_jittor.arrays import upload

    return upload(np.array([4, 0, 2], np.int32))


def _optimizers():
    from dots_core.engine.protocol import Optimizers

    return Optimizers(clip=0.5, epsilon=1e-3)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_compiled_kernels_agree_with_jittor_s_operators(name):
    """Values and gradients of the CPU's kernels and of the formulation for other devices, in float64."""
    from dots_jittor import native, portable
    from dots_jittor.arrays import download, upload
    from dots_jittor.startup import jt

    shapes, function = _primitives()[name]
    draw = np.random.default_rng(7)
    arrays = [draw.standard_normal(shape) for shape in shapes]
    results = []
    for ops in (native, portable):
        inputs = [upload(array).start_grad() for array in arrays]
        outputs = function(ops, *inputs)
        found = [download(output) for output in outputs]
        if name not in WITHOUT_GRADIENT:
            differentiable = outputs[:1] if name in ("normalise", "cross_entropy") else outputs
            upstream = [np.random.default_rng(8).standard_normal(tuple(o.shape)) for o in differentiable]
            loss = sum((o * upload(u)).sum() for o, u in zip(differentiable, upstream, strict=True))
            found += [download(gradient) for gradient in jt.grad(loss, inputs)]
        results.append(found)
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype == np.float64
        np.testing.assert_allclose(one, other.reshape(one.shape), rtol=1e-11, atol=1e-12)


def test_the_gradient_of_the_global_average_is_exact_in_float64():
    """Jittor's own mean divides its gradient by a float32 number of pixels."""
    from dots_jittor.engine import engine

    draw = np.random.default_rng(5)
    images, upstream = draw.standard_normal((2, 4, 5, 7)), draw.standard_normal((2, 4))
    found = engine.run_layers(((GlobalAverage(),),), {}, images, upstream, Runtime(precision="float64"))
    np.testing.assert_allclose(found["output"], images.mean((2, 3)), rtol=1e-13)
    expected = np.broadcast_to(upstream[:, :, None, None] / 35, images.shape)
    np.testing.assert_allclose(found["gradient/images"], expected, rtol=1e-13)


def test_a_far_mean_costs_batch_norm_no_digits():
    """Mean 100, standard deviation 0.01: E[x²] − E[x]² would have none left in float32."""
    from dots_jittor import native
    from dots_jittor.arrays import download, upload
    from dots_jittor.startup import jt

    draw = np.random.default_rng(3)
    x = (100 + 0.01 * draw.standard_normal((3, 6, 9, 12))).astype(np.float32)
    dy = draw.standard_normal(x.shape).astype(np.float32)
    scale = draw.standard_normal(2).astype(np.float32)
    found = []
    for dtype in (np.float32, np.float64):
        inputs = [upload(array.astype(dtype)).start_grad() for array in (x, scale, np.zeros(6))]
        y, moments = native.normalise(*inputs)
        gradients = jt.grad((y * upload(dy.astype(dtype))).sum(), inputs)
        found.append([download(var) for var in (y, moments, *gradients)])
    for rough, exact in zip(*found, strict=True):
        assert np.abs(rough - exact).max() <= 3e-6 * np.abs(exact).max()


@pytest.mark.parametrize(
    "name",
    ["rectify", "max_pool", "average_pool", "depthwise", "pointwise", "normalise", "mix", "interleave"],
)
def test_a_nan_comes_through(name):
    """A compiler told that there is no NaN turns max(NaN, 0) into 0, and a diverged run goes on unnoticed."""
    from dots_jittor import native
    from dots_jittor.arrays import download, upload

    shapes, function = _primitives()[name]
    inputs = [upload(np.full(shape, np.nan, np.float32)) for shape in shapes]
    for output in function(native, *inputs):
        values = download(output)
        assert not np.isfinite(values).any() or name == "pointwise"  # which reads zeros beyond the border
        assert np.isnan(values).any()


STARTED = """
import json, os, signal, ssl, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: seen.append("SIGTERM"))
seen, context, limit = [], ssl._create_default_https_context, sys.getrecursionlimit()
environment = dict(os.environ)
from dots_jittor.startup import jt
import numpy as np
small = float(np.float32(1e-40))
(jt.array(np.ones(3, np.float32)) + 1).numpy()
child = subprocess.Popen(["sleep", "60"]); child.kill(); child.wait()
os.kill(os.getpid(), signal.SIGTERM)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    seen.append("SIGINT")
print(json.dumps({
    "seen": seen,
    "certificates": ssl._create_default_https_context is context,
    "recursion": sys.getrecursionlimit() == limit,
    "environment": dict(os.environ) == environment,
    "subnormal": float(np.float32(1e-20) * np.float32(1e-20)) > 0,
}))
"""


def test_importing_jittor_leaves_the_process_as_it_was():
    """Signals, children, certificates, settings, small numbers; and stdout holds nothing but ours."""
    run = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report.pop("seen") == ["SIGTERM", "SIGINT"]
    assert all(report.values()), report


def test_a_system_onednn_is_linked_where_jittor_looks(tmp_path, monkeypatch):
    from dots_jittor import onednn

    root = tmp_path / "root"
    (root / "include" / "oneapi" / "dnnl").mkdir(parents=True)
    (root / "lib").mkdir()
    (root / "include" / "dnnl.hpp").touch()
    (root / "lib" / "libdnnl.so").touch()
    version = root / "include" / "oneapi" / "dnnl" / "dnnl_version.h"
    monkeypatch.setenv("DNNLROOT", str(root))
    version.write_text("#define DNNL_VERSION_MAJOR 2\n")
    folder = tmp_path / "mkl"
    assert onednn.library(folder) is None
    assert onednn.provide(folder)
    library = onednn.library(folder)
    assert library is not None
    assert library.resolve() == (root / "lib" / "libdnnl.so").resolve()
    assert (library.parents[1] / "include" / "dnnl.hpp").exists()
    assert [path.name for path in folder.iterdir()] == [library.parents[1].name]

    # Another version has another interface.
    version.write_text("#define DNNL_VERSION_MAJOR 3\n")
    found = onednn.find()
    assert found is None or not Path(found[1]).is_relative_to(root)


def test_a_missing_onednn_is_told_once_and_not_beside_every_error(tmp_path, monkeypatch, capsys):
    import jittor_utils
    from dots_jittor import onednn, startup

    monkeypatch.setattr(jittor_utils, "cache_path", str(tmp_path))
    monkeypatch.setattr(onednn, "provide", lambda folder: False)
    monkeypatch.setattr(startup, "_compile", lambda: None)
    for told in (True, False):
        monkeypatch.delenv("use_mkl", raising=False)
        startup._import()
        assert ("no oneDNN 2 was found" in capsys.readouterr().err) is told


def test_gradients_that_a_caller_has_switched_off_are_on_within_and_off_again_after():
    """Without them a search would run to its end and learn nothing."""
    from dots_jittor.startup import jt

    case = CASES["pairs"]
    network, other = built(case), built(case)
    network.step(("w", "alpha", "beta"), case.batch(), RATES, case.temperature)
    with jt.no_grad():
        other.step(("w", "alpha", "beta"), case.batch(), RATES, case.temperature)
        assert jt.flags.no_grad == 1
    for name, value in network.export_state().items():
        assert value.tobytes() == other.export_state()[name].tobytes()
