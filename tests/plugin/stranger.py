"""A stranger's side: packages in folders of their own, and processes that see them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from command import environment

LOOPBACK = Path(__file__).with_name("dots-loopback")


def install(package: Path, site: Path) -> Path:
    """Install a package into a folder, without reaching for the network."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *map(str, options), str(package)], check=True)
    return site


def seeing(site: Path) -> dict[str, str]:
    """Return the environment of a process for which what lies in a folder is installed."""
    outer = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**environment(), "PYTHONPATH": os.pathsep.join([str(site), *outer])}


def run(
    command: list[str], cwd: Path, site: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    env = seeing(site) if site else environment()
    return subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, timeout=timeout)


def pytest_run(
    *arguments: str, cwd: Path, site: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run pytest to its end, in a session that has nothing to do with this one."""
    return run([sys.executable, "-m", "pytest", *arguments], cwd, site, timeout)
