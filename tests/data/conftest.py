"""Small real files for the tests of reading data."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Write ``{"train/cat/a.png": array}`` below a fresh folder and return the folder."""

    def write(files: Mapping[str, np.ndarray]) -> Path:
        root = tmp_path / "pictures"
        for name, pixels in files.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
        return root

    return write


@pytest.fixture
def write_archive(tmp_path: Path) -> Callable[..., Path]:
    """Pack ``{"folder/name": bytes}`` into an archive of the kind its name says and return its path."""

    def write(members: Mapping[str, bytes | tarfile.TarInfo], name: str = "cifar.tar.gz") -> Path:
        path = tmp_path / name
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
                for member, content in members.items():
                    packed.writestr(member, content if isinstance(content, bytes) else b"")
            return path
        modes = {"tar": "w", "bz2": "w:bz2", "tbz2": "w:bz2", "xz": "w:xz", "txz": "w:xz"}
        with tarfile.open(path, modes.get(name.lower().rpartition(".")[2], "w:gz")) as archive:
            for member, content in members.items():
                if isinstance(content, tarfile.TarInfo):
                    archive.addfile(content)
                    continue
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return write
