"""Small real files for the tests of the data room."""

from __future__ import annotations

import io
import tarfile
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
    """Pack ``{"folder/name": bytes}`` into a ``.tar.gz`` file and return its path."""

    def write(members: Mapping[str, bytes | tarfile.TarInfo], name: str = "cifar.tar.gz") -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w:gz") as archive:
            for member, content in members.items():
                if isinstance(content, tarfile.TarInfo):
                    archive.addfile(content)
                    continue
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return write
