"""Engines, and members of registries, that exist only for a test, found the way any installed ones are found."""

from __future__ import annotations

import os
from pathlib import Path


def install(
    folder: Path, name: str, source: str, group: str = "dots.backends", holds: str = "engine"
) -> dict[str, str]:
    """Write a module that holds an object, and its entry point; return the environment that finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_{holds}.py").write_text(source, "utf-8")
    record = folder / f"{name}-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    (record / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}_{holds}:{holds}\n", "utf-8")
    path = os.pathsep.join(part for part in (str(folder), os.environ.get("PYTHONPATH", "")) if part)
    return {"PYTHONPATH": path}


MISBEHAVING = '''
"""The reference engine, but it dies on 7×9 images, hangs on 3×3, raises on 8×8 and refuses 1×1."""

import os
import signal
import time

from dots_core.errors import UsageError
from dots_reference.engine import ReferenceEngine


class Misbehaving(ReferenceEngine):
    name = "misbehaving"

    def run_layers(self, sequences, weights, images, upstream, runtime):
        size = images.shape[2:]
        if size == (7, 9):
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if size == (3, 3):
            time.sleep(600)
        if size == (8, 8):
            raise RuntimeError("no 8x8")
        if size == (1, 1):
            raise UsageError("one pixel is no image")
        return super().run_layers(sequences, weights, images, upstream, runtime)


engine = Misbehaving()
'''

BROKEN = '''
"""An engine that kills the process that loads it."""

import os
import sys

print("a framework's last words", file=sys.stderr, flush=True)
os._exit(9)
'''

OVERRUNNING = '''
"""The reference engine, but the shifted pair writes one byte behind a block of memory."""

import ctypes

import numpy as np

from dots_core.search_space.layers import ShiftedPair
from dots_reference.engine import ReferenceEngine


class Overrunning(ReferenceEngine):
    name = "overrunning"

    def run_layers(self, sequences, weights, images, upstream, runtime):
        if any(isinstance(layer, ShiftedPair) for layer in sequences[0]):
            block = np.empty(5000, np.uint8)
            ctypes.memset(block.ctypes.data, 1, 5001)
        return super().run_layers(sequences, weights, images, upstream, runtime)


engine = Overrunning()
'''

DYING = '''
"""The reference engine, but a network's process dies in its gradients, and any process in the shifted pair."""

import os
import signal

from dots_core.search_space.layers import ShiftedPair
from dots_reference.engine import ReferenceEngine


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGSEGV)


class Dying(ReferenceEngine):
    name = "dying"

    def build(self, setup, weights, architecture):
        network = super().build(setup, weights, architecture)
        network.gradients = network.step = network.differentiate = die
        return network

    def run_layers(self, sequences, weights, images, upstream, runtime):
        if any(isinstance(layer, ShiftedPair) for layer in sequences[0]):
            die()
        return super().run_layers(sequences, weights, images, upstream, runtime)


engine = Dying()
'''
