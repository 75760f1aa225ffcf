"""One-line faults in a copy of an engine, as they are made when a framework is ported to.

Each is an edit of one place of an engine's source. The copy is a package of its own, so the engine the suite
judges by stays whole. Here are those of the reference engine; `torch_faults` holds PyTorch's.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import dots_core.engine
from dots_core.engine.protocol import Engine


@dataclass(frozen=True)
class Fault:
    """One edit.

    Attributes
    ----------
    file : str
        The file it is in.
    right, wrong : str
        What stands there once, and what stands there instead.
    cases : str
        Pattern of the conformance cases that must catch it.
    tensor : str
        Regular expression of the key that must be off in one of them.
    place : str
        Regular expression of what ``locate`` must say.
    networks : tuple of str
        Small networks in which it is located: the first that shows anything counts. Where there are
        none, it shows only in the cases that fail, and is located there.
    """

    file: str
    right: str
    wrong: str
    cases: str
    tensor: str
    place: str
    networks: tuple[str, ...] = ("operations", "pairs", "derived")


FAULTS = {
    "biased running variance": Fault(
        "normalisation.py",
        "(mean, variance * (count / (count - 1)))",
        "(mean, variance)",
        "layers/norm/c4-*",
        "statistics/norm.running_var",
        "update: running statistics.*running_var",
    ),
    "average pool counts the padding": Fault(
        "pooling.py",
        "count, _ = _window_sum(real, 3, stride, 1)",
        "count = x.dtype.type(9)",
        "layers/pool-avg-*/c4-*",
        "output",
        "forward: cell .*, edge .*, avg_pool_3x3 .*Pool",
    ),
    "factorised reduce without the shift": Fault(
        "convolution.py",
        "shifted[:, :, :-1, :-1] = x[:, :, 1:, 1:]",
        "shifted[...] = x",
        "layers/shifted-pair/c4-*",
        "output",
        "forward: cell .*ShiftedPair",
    ),
    "dilation ignored": Fault(
        "layers.py",
        "layer.stride, layer.padding, layer.dilation, layer.groups",
        "layer.stride, layer.padding // layer.dilation, 1, layer.groups",
        "layers/dilated-*/c4-*",
        "output",
        "forward: cell .*, edge .*, dil_conv_.* Convolution .*depthwise",
    ),
    "stride in the second depthwise": Fault(
        "layers.py",
        "    for layer in layers:\n",
        "    for layer in (__import__('dataclasses').replace(one, stride=1 if one.name.endswith('depthwise1') else "
        "max(each.stride for each in layers if isinstance(each, Convolution))) if isinstance(one, Convolution) "
        "and one.name.endswith(('depthwise1', 'depthwise2')) else one for one in layers):\n",
        "operations/sep_conv_3x3-stride2/supernet-*",
        "output",
        "forward: cell .*, edge .*, sep_conv_.* Convolution .*depthwise",
    ),
    "gamma without 1/N(c)": Fault(
        "mixture.py",
        "cell.matrix.shares.astype(dtype)",
        "(cell.matrix.shares > 0).astype(dtype)",
        "networks/topology/2-edges/*",
        "logits",
        "forward: cell 0 .normal., node 2.* weighs .* should weigh",
    ),
    "temperature of beta for alpha": Fault(
        "mixture.py",
        "cell.operation_groups, temperature.alpha, noise",
        "cell.operation_groups, temperature.beta, noise",
        "networks/mixed/group-v2/*",
        "gradient/",
        "forward: cell 0 .normal., node 2.* weighs .* should weigh",
    ),
    "momentum of running statistics reversed": Fault(
        "normalisation.py",
        "(1.0 - NORM_MOMENTUM) * running + NORM_MOMENTUM * batch",
        "NORM_MOMENTUM * running + (1.0 - NORM_MOMENTUM) * batch",
        "layers/norm/c4-*",
        "statistics/norm.running_mean",
        "update: running statistics",
    ),
    "variance in one pass": Fault(
        "normalisation.py",
        "variance = _channel_dot(centred, centred) / count",
        "variance = _channel_dot(x, x) / count - np.square(mean)",
        "layers/norm/badly-scaled",
        "output",
        "forward: layers/norm/badly-scaled",
        (),  # at the scale of a network's tensors it makes no difference
    ),
    "Adam's epsilon under the root": Fault(
        "optimizers.py",
        "(np.sqrt(square) + constants.epsilon)",
        "np.sqrt(square + constants.epsilon)",
        "steps/optimizers/large-epsilon",
        "architecture/after-0/",
        "update: Adam's update",
    ),
    "Adam's epsilon before the bias correction": Fault(
        "optimizers.py",
        "(np.sqrt(square) + constants.epsilon)",
        "((np.sqrt(second) + constants.epsilon) / np.sqrt(1.0 - beta2**steps))",
        "steps/optimizers/large-epsilon",
        "architecture/after-0/",
        "update: Adam's update",
    ),
    "weight decay of alpha dropped": Fault(
        "optimizers.py",
        "gradient = gradient + constants.architecture_weight_decay * value",
        "gradient = gradient + 0.0 * value",
        "steps/optimizers/large-decay",
        "adam.first/after-0/",
        "update: weight decay or first moment of Adam",
    ),
    "clipping over a subset": Fault(
        "optimizers.py",
        "for gradient in gradients.values()])",
        "for gradient in gradients.values() if gradient.ndim > 1])",
        "steps/optimizers/clipped",
        "momentum/after-",
        "update: gradient clipping",
    ),
    "Nesterov momentum": Fault(
        "optimizers.py",
        "return weight - rate * momentum, momentum",
        "return weight - rate * (gradient + constants.momentum * momentum), momentum",
        "steps/optimizers/defaults",
        "weights/after-0/",
        "update: SGD's update",
    ),
    "edges of a reduction cell swapped": Fault(
        "cell.py",
        "weighted = mixture.gamma[number] * np",
        "weighted = mixture.gamma[3 - number if layout.kind == 'reduce' and number in (1, 2) else number] * np",
        "networks/topology/2-edges/*",
        "logits",
        "forward: cell .* .reduce., node 2.*edge .* weighs .* should weigh",
    ),
    "outputs of nodes in reverse": Fault(
        "cell.py",
        "[nodes[node] for node in cell.concat]",
        "[nodes[node] for node in reversed(cell.concat)]",
        "networks/mixed/group-v2/1-cells",
        "logits",
        "forward: cell 0, output",
    ),
    "no ReLU before preprocessing": Fault(
        "cell.py",
        "layout.preprocess(number, spec.affine) for",
        "layout.preprocess(number, spec.affine)[1:] for",
        "networks/mixed/group-v2/1-cells",
        "gradient/",
        "forward: cell 0 .normal., preprocessing of input 0",
    ),
    "drop-path of another cell": Fault(
        "network.py",
        "None if drop_path is None else drop_path[index]",
        "None if drop_path is None else drop_path[index - 1]",
        "networks/derived/darts_v2",
        "logits",
        "forward: cell 0 .*, node",
    ),
    "label smoothing over the other classes": Fault(
        "loss.py",
        "smoothing / classes",
        "smoothing / (classes - 1)",
        "steps/derived/smoothing-0.1",
        "loss/after-0",
        "forward: loss",
    ),
    "auxiliary gradient unweighted": Fault(
        "network.py",
        "auxiliary_gradient = (constants.auxiliary_weight / samples)",
        "auxiliary_gradient = (1.0 / samples)",
        "networks/derived/darts_v2",
        "gradient/",
        "backward: cells.2",
    ),
    "a tie's gradient to the last maximum": Fault(
        "pooling.py",
        "padded[window] > best",
        "padded[window] >= best",
        "layers/pool-max-stride1/tied",
        "gradient/images",
        "backward: layers/pool-max-stride1/tied",
        (),  # values of a running network do not tie
    ),
    "gradient of gamma without alpha": Fault(
        "cell.py",
        "mixture.gamma_gradient[number] += alpha * inner",
        "mixture.gamma_gradient[number] += inner",
        "networks/topology/2-edges/*",
        "gradient/beta",
        "backward: beta",
    ),
    "evaluation with the batch's statistics": Fault(
        "layers.py",
        "    if not context.training:\n        mean",
        "    if False:\n        mean",
        "networks/mixed/group-v2/*",
        "evaluation/loss",
        "evaluation: loss in evaluation",
        ("pairs",),
    ),
    "no straight-through gradient": Fault(
        "mixture.py",
        "self._weights, self.alpha_gradient",
        "self.alpha, self.alpha_gradient",
        "networks/sampling/hard/group-v2",
        "gradient/alpha",
        "backward: alpha",
        ("hard sampling",),
    ),
    "noise not added": Fault(
        "mixture.py",
        "temperature.alpha, noise",
        "temperature.alpha, None",
        "networks/sampling/soft/group-v2",
        "gradient/",
        "forward: cell 0 .normal., node 2.* weighs .* should weigh",
        ("soft sampling",),
    ),
    "operations mixed where one is chosen": Fault(
        "mixture.py",
        "self.alpha = draw.chosen.astype(dtype)",
        "self.alpha = draw.chosen * self._weights",
        "networks/sampling/hard/group-v2",
        "logits",
        "forward: cell 0 .normal., node 2.* weighs .* should weigh 1",
        ("hard sampling",),
    ),
    "offsets ignored": Fault(
        "mixture.py",
        "cell.operation_groups, temperature.alpha, noise",
        "__import__('dataclasses').replace(cell.operation_groups, offsets=None), temperature.alpha, noise",
        "networks/attention/mixed",
        "gradient/",
        "forward: cell 0 .normal., node 2.* weighs .* should weigh",
        ("one cell",),
    ),
    "fixed logit not fixed": Fault(
        "mixture.py",
        "self.gamma_gradient, cell.combination_groups,",
        "self.gamma_gradient, __import__('dataclasses').replace(cell.combination_groups, free=None),",
        "networks/topology/edge-sigmoid/*",
        "gradient/beta",
        "backward: beta",
        ("edge sigmoid",),
    ),
    "shuffle left out": Fault(
        "cell.py",
        "reshape(self._cell.partial, -1).T.ravel()",
        "reshape(self._cell.partial, -1).ravel()",
        "networks/partial/4",
        "logits",
        "forward: cell 0 .normal., node 2.* shuffled",
        ("partial channels",),
    ),
    "shuffle in groups of the wrong size": Fault(
        "cell.py",
        "reshape(self._cell.partial, -1).T.ravel()",
        "reshape(-1, self._cell.partial).T.ravel()",
        "networks/partial/4",
        "logits",
        "forward: cell 0 .normal., node 2.* shuffled",
        (),  # with a half of the channels in two groups of two it makes no difference
    ),
    "bypass not weighted by gamma": Fault(
        "cell.py",
        "mixture.gamma[number] * np.concatenate([mixed, passed_by",
        "np.concatenate([mixture.gamma[number] * mixed, passed_by",
        "networks/partial/4",
        "logits",
        "forward: cell 0 .normal., node 2.* channels that pass by weigh 1 and should weigh",
        ("partial channels",),
    ),
    "gradient of gamma without the bypass": Fault(
        "cell.py",
        "mixture.gamma_gradient[number] += np.vdot(rest, output)",
        "pass",
        "networks/partial/4",
        "gradient/beta",
        "backward: beta",
        ("partial channels",),
    ),
    "halving max off by one at odd borders": Fault(
        "pooling.py",
        "(0, height % 2), (0, width % 2))",
        "(height % 2, 0), (width % 2, 0))",
        "layers/halving-max/c4-*",
        "output",
        "forward: layers/halving-max/c4-",
        (),  # the small networks have no odd sizes
    ),
    "virtual step without weight decay": Fault(
        "network.py",
        "gradient, rate, constants)[0]",
        "gradient, rate, __import__('dataclasses').replace(constants, weight_decay=0.0))[0]",
        "steps/perturbed/weight-decay",
        "weights/ahead/",
        "update: .*second order",
        (),  # the weight decay of the small networks is too small to tell
    ),
    "virtual step without momentum": Fault(
        "network.py",
        "sgd(self._weights[name], self._momentum[name], gradient",
        "sgd(self._weights[name], 0 * self._momentum[name], gradient",
        "steps/levels/second-order/one-cell",
        "adam.first/after-1/",
        "update: .*second order",
        ("one cell",),
    ),
    "perturbed from where the virtual step led": Fault(
        "network.py",
        "for name, w in self._unperturbed.items()}",
        "for name, w in self._weights.items()}",
        "steps/levels/second-order/one-cell",
        "adam.first/after-",
        "update: .*second order",
        ("one cell",),
    ),
    "statistics moving while perturbed": Fault(
        "network.py",
        "if self._unperturbed is None:",
        "if True:",
        "steps/levels/second-order/one-cell",
        "statistics/after-",
        "update: running statistics.*second order",
        ("one cell",),
    ),
    "dampened in the first step": Fault(
        "optimizers.py",
        "constants.momentum * momentum + (gradient",
        "constants.momentum * momentum + (1.0 if momentum.any() else 1.0 - constants.momentum) * (gradient",
        "steps/optimizers/defaults",
        "momentum/after-0/",
        "update: gradient clipping, weight decay or momentum of SGD, .*, in the first step",
        ("pairs",),
    ),
    "Adam's first step without bias correction": Fault(
        "optimizers.py",
        "first / (1.0 - beta1**steps), second",
        "first / (1.0 - beta1**steps if steps > 1 else 1.0), second",
        "steps/optimizers/defaults",
        "architecture/after-0/",
        "update: Adam's update, alpha.*, in the first step",
        ("pairs",),
    ),
    "inputs of a cell exchanged": Fault(
        "cell.py",
        "zip(self._preprocess, inputs, strict=True)",
        "zip(self._preprocess, inputs[:: 1 if inputs[0].shape != inputs[1].shape else -1], strict=True)",
        "networks/topology/2-edges/3-cells",
        "logits",
        "forward: cell 1 .reduce., preprocessing of input 0 the cell's inputs are exchanged: it reads cells.0",
        ("arbitrary",),
    ),
    "the cell before twice": Fault(
        "network.py",
        "cell.forward((outputs[-2], outputs[-1])",
        "cell.forward((outputs[-2 + (outputs[-2].shape == outputs[-1].shape)], outputs[-1])",
        "networks/topology/2-edges/3-cells",
        "logits",
        "forward: cell 1 .reduce., preprocessing of input 0 it reads cells.0 where it should read stems.0",
        ("arbitrary",),
    ),
    "a state's momentum left behind": Fault(
        "network.py",
        'take("statistics/"), take("momentum/")',
        'take("statistics/"), dict.fromkeys(self._weights, np.zeros((), self._dtype)) | self._momentum',
        "steps/optimizers/defaults",
        "momentum/after-1/",
        "exchange: momentum/",
        ("pairs",),
    ),
}


SHARED = ("forward", "mixture", "network", "tensors")
"""Modules of `dots_core.engine` that engines share: copied along as ``core_<name>.py``, so that faults can be there."""


def faulty_engine(source: str, fault: Fault, folder: Path, package: str) -> Engine:
    """Return the engine of a copy of an engine with one fault in it.

    Parameters
    ----------
    source : str
        The package that is copied, with what of the core it shares with other engines.
    folder : Path
        Where to.
    package : str
        What the copy is called.
    """
    original = importlib.import_module(source).__file__
    assert original is not None
    home = folder / package
    shutil.copytree(Path(original).parent, home, ignore=shutil.ignore_patterns("__pycache__"))
    core = Path(dots_core.engine.__path__[0])
    for name in SHARED:
        shutil.copy(core / f"{name}.py", home / f"core_{name}.py")
    for path in home.glob("*.py"):
        text = path.read_text("utf-8").replace(source, package)
        for name in SHARED:
            text = text.replace(f"dots_core.engine.{name} import", f"{package}.core_{name} import")
        path.write_text(text, "utf-8")
    path = home / fault.file
    text = path.read_text("utf-8")
    assert text.count(fault.right) == 1, f"'{fault.right}' stands {text.count(fault.right)} times in {fault.file}"
    path.write_text(text.replace(fault.right, fault.wrong), "utf-8")
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        engine: Engine = importlib.import_module(f"{package}.engine").engine
        return engine
    finally:
        sys.path.remove(str(folder))
