"""A oneDNN of the system, put where Jittor looks for the one it would download."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sysconfig
import tempfile
from pathlib import Path

MAJOR = 2
"""Jittor 1.3.11 is written for this version of oneDNN's interface; 3 has another."""


def provide(folder: Path) -> bool:
    """Make sure that Jittor finds a oneDNN in its own folder.

    Parameters
    ----------
    folder : Path
        Where Jittor keeps it, ``$JITTOR_HOME/.cache/jittor/mkl``.

    Returns
    -------
    bool
        Whether there is one now; if not, Jittor must be told to do without.
    """
    suffix = {"x86_64": "", "aarch64": "_aarch64"}.get(platform.machine())
    if suffix is None:
        return False
    place = folder / f"dnnl_lnx_2.2.0_cpu_gomp{suffix}"
    if library(folder) is not None:
        return True
    found = find()
    if found is None:
        return False
    headers, shared = found
    folder.mkdir(parents=True, exist_ok=True)
    # Complete before it appears under its name: another process may look at any moment.
    staged = Path(tempfile.mkdtemp(dir=folder, prefix="staged-"))
    (staged / "include").mkdir()
    (staged / "lib").mkdir()
    for header in (*headers.glob("dnnl*.h*"), headers / "oneapi"):
        if header.exists():
            (staged / "include" / header.name).symlink_to(header)
    for name in ("libdnnl.so", "libmkldnn.so"):
        (staged / "lib" / name).symlink_to(shared)
    if place.exists():
        shutil.rmtree(place)  # links to a library that is gone, or an unfinished download
    staged.rename(place)
    return True


def library(folder: Path) -> Path | None:
    """Return the library in Jittor's folder, None if there is none."""
    for place in sorted(folder.glob("dnnl*/lib/libmkldnn.so")):
        if place.is_file():
            return place
    return None


def version(folder: Path) -> str | None:
    """Return the version of the library in Jittor's folder, for example ``"2.6.0"``; None if there is none."""

    class Version(ctypes.Structure):
        _fields_ = (("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int))

    place = library(folder)
    if place is None:
        return None
    ask = ctypes.CDLL(str(place)).dnnl_version
    ask.restype = ctypes.POINTER(Version)
    found = ask().contents
    return f"{found.major}.{found.minor}.{found.patch}"


def find() -> tuple[Path, Path] | None:
    """Return the folder of a system oneDNN's headers and its shared library; None if there is none to build with."""
    roots = [Path(os.environ[name]) for name in ("DNNLROOT", "CONDA_PREFIX") if os.environ.get(name)]
    roots += [Path("/usr/local"), Path("/usr")]
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for root in roots:
        headers = root / "include"
        if _major(headers) != MAJOR:
            continue
        for folder in ("lib", f"lib/{multiarch}", "lib64"):
            shared = root / folder / "libdnnl.so"
            if shared.is_file():
                return headers, shared
    return None


def _major(headers: Path) -> int | None:
    for name in ("oneapi/dnnl/dnnl_version.h", "dnnl_version.h"):
        if (headers / name).is_file():
            found = re.search(r"define\s+DNNL_VERSION_MAJOR\s+(\d+)", (headers / name).read_text(errors="replace"))
            if found:
                return int(found[1])
    return None
