"""Descriptions of networks, layers and batches as JSON records and named arrays, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from dots_core.engine.batch import Batch, Draw
from dots_core.engine.protocol import Loss, Optimizers, Runtime, Setup
from dots_core.network.spec import NetworkSpec
from dots_core.plan.cell_records import cell_from_record, cell_to_record
from dots_core.search_space.layers import Convolution, Layer, ShiftedPair
from dots_loopback.wire import Arrays, Record

_LAYERS = {kind.__name__: kind for kind in get_args(Layer)}


def setup_to_record(setup: Setup) -> Record:
    """Return a setup as a record."""
    cells = {kind: cell_to_record(getattr(setup.spec, kind)) for kind in ("normal", "reduce")}
    record = asdict(setup)
    return {**record, "spec": {**record["spec"], **cells}}


def setup_from_record(record: Record) -> Setup:
    """Read what `setup_to_record` wrote."""
    cells = {kind: cell_from_record(record["spec"][kind]) for kind in ("normal", "reduce")}
    return Setup(
        NetworkSpec(**{**_tuples(record["spec"]), **cells}),
        Optimizers(**_tuples(record["optimizers"])),
        Loss(**record["loss"]),
        Runtime(**record["runtime"]),
    )


def _tuples(record: Record) -> Record:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}


def layer_to_record(layer: Layer) -> list[Any]:
    """Return a layer's kind and fields."""
    return [type(layer).__name__, asdict(layer)]


def layer_from_record(record: list[Any]) -> Layer:
    """Read what `layer_to_record` wrote."""
    kind, fields = record
    if _LAYERS[kind] is ShiftedPair:
        return ShiftedPair(**{half: Convolution(**convolution) for half, convolution in fields.items()})
    return _LAYERS[kind](**fields)


def batch_to_arrays(batch: Batch) -> Arrays:
    """Return a batch's arrays by name, ``draws/<cell type>/<field>`` for what was drawn; what is None is left out."""
    arrays = dict(vars(batch))
    for kind, draw in (arrays.pop("draws") or {}).items():
        arrays.update({f"draws/{kind}/{name}": array for name, array in vars(draw).items()})
    return {name: array for name, array in arrays.items() if array is not None}


def batch_from_arrays(arrays: Arrays) -> Batch:
    """Take what `batch_to_arrays` gave."""
    fields = {name: array for name, array in arrays.items() if not name.startswith("draws/")}
    drawn: dict[str, Arrays] = {}
    for name in arrays.keys() - fields.keys():
        _, kind, field = name.split("/")
        drawn.setdefault(kind, {})[field] = arrays[name]
    return Batch(**fields, draws={kind: Draw(**draw) for kind, draw in drawn.items()} or None)
