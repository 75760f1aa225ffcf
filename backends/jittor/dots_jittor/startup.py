"""Jittor's import, made harmless: what it needs is set up before, what it changes is put back after.

Jittor compiles itself when it is first imported, downloads oneDNN unless it finds it in its own
folder, fails where a CUDA compiler stands on the path without CUDA, writes to stdout, takes over
the process's signals (Ctrl-C and the death of any child process end it at once), turns off the
verification of HTTPS certificates and raises Python's recursion limit. Import ``jt`` from here.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import os
import resource
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dots_core.errors import EngineMissing
from dots_jittor import onednn

_SIGNALS = tuple(
    int(s)
    for s in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGCHLD,
        signal.SIGQUIT,
        signal.SIGSEGV,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGBUS,
    )
)

_NVCC, _USE_ONEDNN, _NO_POOL = "nvcc_path", "use_mkl", "DISABLE_MULTIPROCESSING"
"""Environment variables that Jittor reads."""

_SIGACTION_BYTES = 512
"""More than ``struct sigaction`` takes on any Linux."""

_OPTIMISATION = "-O3 -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -freciprocal-math"
"""For kernels, instead of Jittor's -Ofast.

That one lets the compiler assume that there is no NaN, so that a diverged run would not be
noticed, and every kernel linked with it makes the whole process round small numbers to 0. Sums
may still be reordered to vectors; nothing else of it made a kernel faster.
"""


def cuda_usable() -> bool:
    """Whether there is a CUDA device, with the compiler that Jittor needs to use it."""
    if not shutil.which("nvcc") and not Path("/usr/local/cuda/bin/nvcc").exists():
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _start() -> Any:
    """Import Jittor.

    Raises
    ------
    EngineMissing
        If it cannot be compiled; the message says why.
    """
    if sys.platform != "linux":
        raise EngineMissing(f"the jittor engine runs on Linux, not on {sys.platform}")
    if "jittor" in sys.modules:
        return sys.modules["jittor"]
    folder = Path.home() / ".cache" / "jittor"
    folder.mkdir(parents=True, exist_ok=True)
    # Jittor writes its configuration and its compiled core without a lock that covers both.
    with open(folder / "dots.lock", "w") as lock, _quiet(), _process_unchanged(), _environment():
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _import()


def _import() -> Any:
    try:
        utils = importlib.import_module("jittor_utils")
    except Exception as error:
        raise EngineMissing(
            f"Jittor compiles itself and could not start to ({error}); it needs g++ and the headers of this Python: "
            "on Debian, apt-get install g++ python3-dev"
        ) from error
    chosen = _USE_ONEDNN in os.environ
    with_onednn = _choose_onednn(Path(utils.home()) / ".cache" / "jittor" / "mkl")
    variant = f"{'onednn' if with_onednn else 'plain'}-{'cuda' if os.environ.get(_NVCC) != '' else 'cpu'}"
    cache = Path(utils.cache_path)
    marker = cache / f"dots-{variant}"
    if not marker.exists():
        if not any(cache.rglob("jittor_core*.so")):
            _say("Jittor compiles itself for this machine, once; this takes about four minutes on two cores")
        if not with_onednn and not chosen:
            # Once: a line on every run would stand beside the errors of each.
            _say(
                f"no oneDNN {onednn.MAJOR} was found; Jittor's own, slower convolutions and products are used. "
                "On Debian: apt-get install libdnnl-dev"
            )
        _compile()
        marker.touch()
    try:
        jittor = importlib.import_module("jittor")
    except Exception as error:
        raise EngineMissing(f"Jittor does not load: {type(error).__name__}: {error}") from error
    jittor.flags.use_parallel_op_compiler = min(16, os.cpu_count() or 1)
    jittor.flags.cc_flags = jittor.flags.cc_flags.replace(" -Ofast ", f" {_OPTIMISATION} ")
    return jittor


def _choose_onednn(folder: Path) -> bool:
    if _USE_ONEDNN in os.environ:
        return os.environ[_USE_ONEDNN] == "1"
    if onednn.provide(folder):
        return True
    os.environ[_USE_ONEDNN] = "0"
    return False


def _compile() -> None:
    """Import Jittor in a process of its own, which compiles whatever is not compiled yet."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import jittor"],
        env={name: value for name, value in os.environ.items() if name != _NO_POOL},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = child.communicate()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if child.returncode:
        end = "\n".join(output.splitlines()[-15:])
        raise EngineMissing(f"Jittor could not be compiled (exit code {child.returncode}):\n{end}")


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set the variables that Jittor reads at import; the user's own win."""
    before = dict(os.environ)
    if not cuda_usable():
        os.environ.setdefault(_NVCC, "")
    os.environ.setdefault("gdb_path", "")
    # Threads that wait by spinning take the core from the one they wait for, where another process is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # A compiled Jittor needs no pool of processes, which would live as long as this one.
    os.environ[_NO_POOL] = "1"
    os.environ.setdefault("log_silent", "1")
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send to stderr what is written to stdout, by Python or not."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


@contextlib.contextmanager
def _process_unchanged() -> Iterator[None]:
    """Put back the signal handlers and settings of the process that Jittor's import changes."""
    library = ctypes.CDLL(None)
    actions = {number: ctypes.create_string_buffer(_SIGACTION_BYTES) for number in _SIGNALS}
    for number, action in actions.items():
        library.sigaction(number, None, action)
    recursion, stack = sys.getrecursionlimit(), resource.getrlimit(resource.RLIMIT_STACK)
    https = getattr(ssl, "_create_default_https_context", None)
    try:
        yield
    finally:
        for number, action in actions.items():
            library.sigaction(number, action, None)
        sys.setrecursionlimit(recursion)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_STACK, stack)
        if https is not None:
            ssl._create_default_https_context = https


def _say(text: str) -> None:
    print(f"dots: {text}", file=sys.stderr, flush=True)


jt = _start()
