"""Run directories: what tells one, its settings, and who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from dots.config.presets import flattened, read_yaml
from dots.config.schema import CONFIGS, Config, ConfigClass, parse_config
from dots_core.errors import CorruptFile, UsageError, quoted
from dots_core.storage.atomic import cannot_write, write_atomic
from dots_core.storage.reading import read_json

MARKER = "run.json"
CONFIG = "config.yaml"
LOCK = ".lock"
FORMAT = "dots-run"
VERSION = 1

_LOOKS, _LOOK = 5, 0.02
"""How often a lock is tried for before it is another's, and seconds in between."""


class RunExists(UsageError):
    """A run stands in the directory, or another process or thread is at work there."""


def is_run(path: Path) -> bool:
    """Whether a directory is a run of ours."""
    return os.path.isfile(path / MARKER)


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
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{quoted(str(path))} is not a run of dots: it has no {MARKER}; give the directory of a run"
        ) from None
    except OSError as error:
        raise UsageError(
            f"cannot read {quoted(str(path / MARKER))}: {error.strerror}; give the directory of a run that you may read"
        ) from None
    except (KeyError, TypeError):
        raise CorruptFile(
            f"{quoted(str(path / MARKER))} is damaged: it does not say of what kind and version the run is; "
            "restore it from a copy, or start a new run"
        ) from None
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


def owned(path: Path) -> IO[bytes]:
    """Hold a run directory until the file returned is closed; another process or thread that wants it is refused.

    Raises
    ------
    RunExists
        If another holds it.
    """
    return lock(path)[0]


def lock(path: Path) -> tuple[IO[bytes], bool]:
    """Hold a directory as `owned` does, and say whether the file system has locks, without which nothing is held."""
    name = path / LOCK
    while True:
        if os.path.lexists(name) and not os.path.isfile(name):
            raise CorruptFile(f"{quoted(str(name))} is no regular file, and cannot be locked; remove it")
        try:
            file = open(name, "a+b")  # noqa: SIM115 (the caller closes it)
        except OSError as error:
            raise cannot_write(name, error) from None
        try:
            _lock_file(file)
        except BlockingIOError:
            file.close()
            raise RunExists(
                f"another process or thread is running {path}; wait for it, or give another --out"
            ) from None
        except OSError:
            # A file system without locks: nothing keeps two processes apart, which is no reason to run none.
            return file, False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(name)):
                return file, True
        file.close()  # whoever made it could make no run here and removed it in between


def _lock_file(file: IO[bytes]) -> None:
    """Lock a file, or raise BlockingIOError; who only looks whether it is locked holds it for a moment."""
    for _ in range(_LOOKS):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_LOOK)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def log_event(path: Path, event: str, **details: Any) -> None:
    """Append what happened, with the time, to ``events.jsonl``; no result depends on it."""
    record = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **details}
    with contextlib.suppress(OSError), open(path / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
