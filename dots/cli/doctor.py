"""Whether an engine works here: versions, devices, and a real forward, backward and step."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from dots_core.engine.batch import Batch
from dots_core.engine.crashes.diagnosis import died_at
from dots_core.engine.crashes.forms import network_forms
from dots_core.engine.protocol import Engine, Rates, Runtime, Setup
from dots_core.engine.registry import Backend, backends, choose_backend, computing, load_engine
from dots_core.errors import DotsError
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import NetworkSpec
from dots_core.random import Stream
from dots_core.search_space.cell import search_cell
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.topology import Topology

_PACKAGES = ("dots-nas", "numpy", "pillow", "safetensors", "pydantic", "PyYAML", "typer", "rich", "matplotlib")

_AGREEMENT = 1e-3
"""Relative distance from the reference beyond which an engine's float32 gradients are called wrong."""

_LABELS = (0, 1, 2, 0)
"""Of the images it tries."""


def environment() -> dict[str, Any]:
    """Return the versions of Python, our dependencies and the installed engines' frameworks; loads none of them."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "backends": [
            {
                "name": backend.name,
                "available": backend.available,
                "install": backend.install,
                "framework": {backend.framework: _version(backend.framework)} if backend.framework else {},
                "description": backend.description,
                "tried": backend.tried,
            }
            for backend in backends()
        ],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine(name: str | None = None, device: str | None = None) -> list[dict[str, Any]]:
    """Try one engine, or all that are available.

    Returns
    -------
    list of dict
        For each engine ``name``, ``ok``, ``device``, ``versions``, ``devices`` and ``problem``, empty if ok.
    """
    if name:
        return [_examine_apart(choose_backend(name), device)]
    reports = [_examine_apart(backend, device) for backend in backends() if backend.available]
    if device is not None:
        # Of a device nobody asked a particular engine for, only those that have it can say anything.
        having = [report for report in reports if report["ok"] or device in report.get("devices", {})]
        return having or reports
    return reports


def _examine_apart(backend: Backend, device: str | None) -> dict[str, Any]:
    """Examine an engine in a process of its own: not every two frameworks can share one, and one may die."""
    command = [sys.executable, "-m", "dots.cli.doctor", backend.name, *([device] if device else [])]
    # What it says on stderr is for the user at once: Jittor compiles itself for minutes when it is first loaded.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
        return report
    except ValueError:
        forms = network_forms(_spec(), len(_LABELS))
        problem = f"its process {died_at(done.returncode, forms, backend.name, Runtime(device or 'cpu'))}"
        return {"name": backend.name, "ok": False, "problem": f"{problem}; what it said last stands above"}


def _examine(backend: Backend, device: str | None) -> dict[str, Any]:
    report: dict[str, Any] = {"name": backend.name, "ok": False, "problem": ""}
    try:
        engine = load_engine(backend.name)
        report["versions"] = engine.versions()
        devices = engine.devices()
        report["devices"] = {d.name: d.description for d in devices}
        report["device"] = device or devices[0].name
        report["gradient_error"] = error = _gradient_error(engine, report["device"])
        if not error <= _AGREEMENT:
            report["problem"] = (
                f"its gradients are {error:.2g} away from the reference engine's (at most {_AGREEMENT} was expected): "
                "results of this installation are not to be trusted; try another version of the framework"
            )
    except DotsError as error:
        report["problem"] = str(error)
    except Exception as error:
        report["problem"] = f"{type(error).__name__}: {error}"
    report["ok"] = not report["problem"]
    return report


def _spec() -> NetworkSpec:
    """The small supernet that is tried."""
    cell = search_cell(nodes=2, groups="group-v2", topology=Topology("k-edges"))
    return NetworkSpec(cell, cell, layers=3, channels=4, classes=3, input_shape=(3, 8, 8))


def _gradient_error(engine: Engine, device: str) -> float:
    """Build the supernet, step it, and return its gradients' distance from the reference's."""
    spec = _spec()
    weights, architecture = initial_weights(spec, 0), initial_architecture(spec, 0, scale=0.1)
    images = Stream(0, "doctor").normal((len(_LABELS), *spec.input_shape)).astype(np.float32)
    batch = Batch(images, np.array(_LABELS, np.int64))
    setup = Setup(spec, runtime=Runtime(device))
    computing(engine.name)
    network = engine.build(setup, weights, architecture)
    network.step(("w", "alpha", "beta"), batch, Rates(0.01, 0.01), Temperature())
    network.pop_losses()
    state = network.export_state()
    exact = load_engine("reference").build(replace(setup, runtime=Runtime(precision="float64")), weights, architecture)
    exact.import_state(state)
    mine, true = (net.gradients(batch, Temperature()) for net in (network, exact))
    names = [name for name in true if name.startswith("gradient/")]
    difference = sum(float(np.sum((mine[n].astype(float) - true[n].astype(float)) ** 2)) for n in names)
    size = sum(float(np.sum(true[n].astype(float) ** 2)) for n in names)
    return float(np.sqrt(difference / size))


if __name__ == "__main__":
    print(json.dumps(_examine(choose_backend(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)))
