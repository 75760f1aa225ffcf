"""Taking what a user gives for an array; what does not let go of its values, or has none that are numbers, is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dots_core.data.files.pixels import BYTE_LIMIT
from dots_core.data.messages import reason
from dots_core.errors import UsageError, quoted

UNIQUE = "classes, labels = numpy.unique(labels, return_inverse=True), over train and test labels together"
"""Code that turns labels of any kind into class numbers and names."""


def array_of(given: ArrayLike, name: str, where: str) -> NDArray[Any]:
    """Return an array of numbers, truth values or text with the values that were given.

    Parameters
    ----------
    given : array_like, of any shape
        Images or labels.
    name : str
        What the user calls them, for messages: code in a message begins with it.
    where : str
        Where they come from, for messages.

    Raises
    ------
    UsageError
        If there is no such array, values are masked, or a view stands for more than 16 GiB.
    """
    what = f"{where} {name}"
    _check_mask(given, name, what)
    try:
        array = np.asarray(given)
    # What stands for an array may raise anything instead of becoming one.
    except Exception as error:
        raise UsageError(
            f"{what} cannot be made an array ({quoted(reason(error))}); give {_freed(given, name)}"
        ) from None
    kind = array.dtype.kind
    if kind == "O":
        raise UsageError(f"{what} {_objects(given, array, name)}")
    if kind == "c":
        raise UsageError(f"{what} is {array.dtype}; give real numbers, e.g. {name}.real or numpy.abs({name})")
    if array.dtype.names:
        fields = array.dtype.names
        raise UsageError(f"{what} has the fields {quoted(', '.join(fields))}; give one of them: {name}[{fields[0]!r}]")
    if kind == "S" and not array.ndim:
        raise UsageError(
            f"{what} is bytes, not an array; say of what shape, e.g. "
            f"{name} = numpy.frombuffer({name}, 'uint8').reshape(-1, 32, 32, 3)"
        )
    if kind == "U" and not array.ndim:
        raise UsageError(
            f"{what} is the text '{quoted(str(array))}', not an array; give a place of images to dots.search(data=…)"
        )
    # What is taken as it is fits in memory; a view may stand for more than that.
    if array.size > BYTE_LIMIT and not (array.dtype == np.uint8 and array.flags.c_contiguous):
        raise UsageError(
            f"{what} stands for {array.size:,} values, over the limit of {BYTE_LIMIT:,}; give fewer or smaller images, "
            "or a folder of files"
        )
    return array


def check_finite(arrays: list[NDArray[Any]], names: tuple[str, ...], where: str) -> None:
    """Raise :class:`UsageError` if images hold values that are no numbers, naming each array and the first place.

    The arrays may have any shape.
    """
    found, lowest, highest = [], 0.0, 1.0
    for array, name in zip(arrays, names, strict=True):
        if array.dtype.kind != "f" or not array.size or np.isfinite([array.min(), array.max()]).all():
            continue
        finite = np.isfinite(array)
        lowest = float(np.min(array, where=finite, initial=lowest))
        highest = float(np.max(array, where=finite, initial=highest))
        found.append(f"{name} holds {_strange(array, finite)}")
    if found:
        code = f"images = numpy.nan_to_num(images, nan=0.0, posinf={highest!r}, neginf={lowest!r})"
        raise UsageError(f"{where} {' and '.join(found)}; look at where they come from, or replace them by {code}")


def check_finite_labels(labels: NDArray[Any], name: str, what: str) -> None:
    """Raise :class:`UsageError` if labels, shape (N,) or (N, classes), hold values that are no numbers."""
    if labels.dtype.kind != "f" or (finite := np.isfinite(labels)).all():
        return
    images = name.replace("labels", "images").replace("y_", "x_").replace("Y_", "X_")
    keep = f"numpy.isfinite({name})" + (".all(axis=1)" if labels.ndim > 1 else "")
    raise UsageError(
        f"{what} holds {_strange(labels, finite)}; leave these images out: keep = {keep}; "
        f"{images}, {name} = {images}[keep], {name}[keep]"
    )


def _strange(array: NDArray[Any], finite: NDArray[np.bool_]) -> str:
    places = np.flatnonzero(~finite)
    nans = int(np.isnan(array.reshape(-1)[places]).sum())
    kinds = [f"{count} {kind}" for count, kind in ((nans, "NaN"), (len(places) - nans, "±inf")) if count]
    first = [int(number) for number in np.unravel_index(places[0], array.shape)]
    return f"{' and '.join(kinds)}, the first at {quoted(first)}"


def _check_mask(given: ArrayLike, name: str, what: str) -> None:
    parts = given if isinstance(given, (list, tuple)) else (given,)
    masked = [part for part in parts if isinstance(part, np.ma.MaskedArray)]
    hidden = sum(int(np.ma.getmaskarray(part).sum()) for part in masked)
    if hidden:
        total = sum(part.size for part in masked)
        filled = f"{name}.filled(0)" if isinstance(given, np.ma.MaskedArray) else f"[part.filled(0) for part in {name}]"
        raise UsageError(
            f"{what} is masked at {hidden} of {total} values, and what is masked has no value; "
            f"say which, e.g. {name} = {filled}, or leave these images out"
        )


def _freed(given: object, name: str) -> str:
    """Return code that makes an array of what would not become one by itself."""
    many = isinstance(given, (list, tuple))
    one: Any = next((part for part in given if hasattr(part, "detach")), None) if many else given  # type: ignore[attr-defined]
    if hasattr(one, "detach"):  # PyTorch's
        if str(one.device) == "meta":
            return "a tensor with values, as one on the device meta has none"
        steps = ".detach()" + (".to_dense()" if getattr(one, "is_sparse", False) else "") + ".cpu()"
        steps += "" if "int" in str(one.dtype) else ".float()"
        code = f"[part{steps}.numpy() for part in {name}]" if many else f"{name}{steps}.numpy()"
        return f"its values: {name} = {code}"
    if hasattr(given, "get"):  # CuPy's
        return f"its values: {name} = {name}.get()"
    if _holds_pairs(given):
        place = "1" if "labels" in name or name.lower().startswith("y_") else "0"
        return f"images and labels as arrays: {name} = numpy.array([numpy.asarray(pair[{place}]) for pair in {name}])"
    return "rows of one length, images of one size" if many else "a NumPy array of its values"


def _holds_pairs(given: object) -> bool:
    """Whether it is a data set of PyTorch's kind, or another sequence of images with their labels."""
    try:
        return len(given) > 0 and all(isinstance(given[n], tuple) and len(given[n]) == 2 for n in (0, -1 % len(given)))  # type: ignore
    except Exception:  # whatever a stranger's class may raise
        return False


def _objects(given: object, array: NDArray[Any], name: str) -> str:
    """Say why what became an array of Python objects is none of numbers."""
    if not array.ndim:
        found = "None" if given is None else f"of the type {quoted(type(given).__name__)}"
        if hasattr(given, "toarray"):  # SciPy's sparse matrices
            return f"is {found}, not an array; give its values: {name} = {name}.toarray()"
        if isinstance(given, Mapping):
            key = next(iter(given), "images")
            return f"is {found}, not an array; give one of its values: {name} = {name}[{quoted(repr(key))}]"
        if hasattr(given, "__iter__"):
            return f"is {found}, not an array; give its values: {name} = numpy.array(list({name}))"
        return f"is {found}, not an array; give a NumPy array"
    items = array.reshape(-1)
    kinds = sorted({type(item).__name__ for item in items[:10_000]})
    found = f"is an array of Python objects ({quoted(', '.join(kinds))})"
    shapes = {np.shape(item) for item in items[:10_000]} if all(hasattr(item, "__array__") for item in items) else set()
    if array.ndim == 1 and len(shapes) == 1:
        return f"{found}; give {name} = numpy.stack({name})"
    if shapes:
        few = ", ".join(map(str, sorted(shapes)[:3]))
        return f"{found} of shapes {few}, …; bring all to one shape, then give numpy.stack({name})"
    for number, item in enumerate(items):
        if item is None:
            return f"{found}, the first None being number {number}; give a number for each, or leave these images out"
    if all(isinstance(item, str) for item in items):
        return f"{found}; make it text by {name} = {name}.astype(str)"
    return f"{found}; give numbers, e.g. by {name} = {name}.astype({'int' if 'float' not in kinds else 'float'})"
