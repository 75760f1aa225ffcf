"""Run directories: created in one step, owned by one process at a time, never another's overwritten."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dots.config import CONFIGS, Config, ConfigClass, parse_config
from dots.presets import flattened, read_yaml
from dots_core.errors import CorruptFile, UsageError, quoted
from dots_core.files import cannot_write, sync_directory, to_json, write_atomic, write_synced
from dots_core.reading import read_json

MARKER = "run.json"
CONFIG = "config.yaml"
FORMAT = "dots-run"
VERSION = 1


class RunExists(UsageError):
    """The directory for a new run is taken."""


def is_run(path: Path) -> bool:
    """Whether a directory is a run of ours."""
    return (path / MARKER).is_file()


def free_directory(kind: str, preset: str) -> Path:
    """Return the first unused directory name for a run: ``runs/<kind>-<preset>-<number>``."""
    number = 1
    while (path := Path("runs") / f"{kind}-{Path(preset).stem}-{number}").exists():
        number += 1
    return path


def create_run(path: Path, config: Config) -> None:
    """Create a run directory with its settings; all of it or nothing.

    Raises
    ------
    RunExists
        If a run stands there already.
    UsageError
        If something else does.
    DotsError
        If it cannot be written.
    """
    if is_run(path):
        raise RunExists(f"{path} is a run already; go on with it by --resume, or give another --out")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} exists and is not a run of dots; give another --out")
    path = path.absolute()
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        beside.mkdir(parents=True)
        write_synced(beside / CONFIG, config_text(config).encode())
        marker = to_json({"format": FORMAT, "version": VERSION, "kind": config.kind})
        write_synced(beside / MARKER, marker.encode())
        sync_directory(beside)
        os.rename(beside, path)
        sync_directory(path.parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise RunExists(f"{path} was just created by another process; give another --out") from None
        raise cannot_write(path, error) from None


def config_text(config: Config) -> str:
    """Return the settings as YAML that ``--preset FILE`` takes."""
    import yaml

    body = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)
    return f"# Every setting of this run; repeat it with: dots {config.kind} --preset config.yaml\n{body}"


def read_run_config(path: Path, model: ConfigClass | None = None) -> Config:
    """Return the settings of a run, which must be of the model's kind if one is given.

    Raises
    ------
    UsageError
        If it is a run of another kind or no run.
    CorruptFile
        If its files are damaged.
    """
    try:
        marker: Any = read_json(path / MARKER)
        kind, version = marker["kind"], marker["version"]
        known = marker["format"] == FORMAT and kind in CONFIGS
    except OSError:
        raise UsageError(
            f"{quoted(str(path))} is not a run of dots: it has no {MARKER}; give the directory of a run"
        ) from None
    except (KeyError, TypeError):
        raise CorruptFile(f"{quoted(str(path / MARKER))} is damaged") from None
    if not known or version != VERSION:
        raise CorruptFile(f"{quoted(str(path))} is a run of format {quoted(version)}, this release reads {VERSION}")
    if model is not None and CONFIGS[kind] is not model:
        raise UsageError(f"{path} is a {kind}; go on with it by: dots {kind} --out {path} --resume")
    try:
        return parse_config(CONFIGS[kind], read_yaml(path / CONFIG), str(path / CONFIG))
    except UsageError as error:
        raise CorruptFile(str(error)) from None


def replace_config(path: Path, config: Config) -> None:
    """Write changed settings (the engine or device a run goes on with)."""
    write_atomic(path / CONFIG, config_text(config))


def differences(saved: Config, asked: Config) -> list[str]:
    """Return the settings that differ, as ``key: saved → asked``; cells, which are long, by name only."""
    before, after = (flattened(config.model_dump(mode="json")) for config in (saved, asked))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [key if key == "cell" else f"{key}: {before.get(key)} → {after.get(key)}" for key in changed]


@contextlib.contextmanager
def owned(path: Path) -> Iterator[None]:
    """Hold a run directory; another process that wants it is refused.

    Raises
    ------
    UsageError
        If another process holds it.
    """
    try:
        file = open(path / ".lock", "a+b")  # noqa: SIM115 (closed below, after the caller is done)
    except OSError as error:
        raise cannot_write(path / ".lock", error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is running {path}; wait for it, or give another --out") from None
        except OSError:
            # A file system without locks: nothing keeps two processes apart, which is no reason to run none.
            pass
        yield


def log_event(path: Path, event: str, **details: Any) -> None:
    """Append what happened, with the time, to ``events.jsonl``; no result depends on it."""
    record = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **details}
    with contextlib.suppress(OSError), open(path / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
