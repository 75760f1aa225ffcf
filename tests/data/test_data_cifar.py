from __future__ import annotations

import io
import lzma
import os
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dots_core.data import ImageData, load
from dots_core.data.files import archive
from dots_core.errors import CorruptFile, DataMissing

PER_FILE = 3
NAMES = {10: [f"kind {i}" for i in range(10)], 100: [f"fine {i}" for i in range(100)]}
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def rows(file: int, classes: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(file)
    labels = rng.integers(0, classes, PER_FILE).tolist()
    labels[0] = classes - 1
    return rng.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8), labels


def expected(files: range, classes: int) -> tuple[np.ndarray, list[int]]:
    """The same images, arranged one value at a time."""
    images, labels = [], []
    for file in files:
        pixels, some = rows(file, classes)
        for row in pixels:
            image = np.empty((32, 32, 3), np.uint8)
            for channel in range(3):
                for y in range(32):
                    start = channel * 1024 + y * 32
                    image[y, :, channel] = row[start : start + 32]
            images.append(image)
        labels += some
    return np.stack(images), labels


class _PythonTwo(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[misc]

    def save_string(self, value: bytes) -> None:
        short = len(value) < 256
        self.write((b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value)  # type: ignore[attr-defined]
        self.memoize(value)  # type: ignore[attr-defined]

    dispatch[bytes] = save_string


def python_two(value: Any) -> bytes:
    file = io.BytesIO()
    _PythonTwo(file, 2).dump(value)
    return file.getvalue()


def python_three(value: Any) -> bytes:
    return pickle.dumps({key.decode(): item for key, item in value.items()}, 5)


def binary_files(classes: int) -> dict[str, bytes]:
    if classes == 10:
        names = [*(f"{name}.bin" for name in BATCHES), "test_batch.bin"]
        files = {"batches.meta.txt": ("\n".join(NAMES[10]) + "\n\n").encode()}
    else:
        names = ["train.bin", "test.bin"]
        files = {"fine_label_names.txt": "\r\n".join(NAMES[100]).encode()}
    for file, name in enumerate(names):
        pixels, labels = rows(file, classes)
        coarse = b"\x07" if classes == 100 else b""
        files[name] = b"".join(
            coarse + bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True)
        )
    return files


def python_files(classes: int, dump: Callable[[Any], bytes] = python_two) -> dict[str, bytes]:
    names = [*BATCHES, "test_batch"] if classes == 10 else ["train", "test"]
    key = b"labels" if classes == 10 else b"fine_labels"
    meta, meta_key = ("batches.meta", b"label_names") if classes == 10 else ("meta", b"fine_label_names")
    files = {meta: dump({meta_key: [name.encode() for name in NAMES[classes]], b"num_vis": 3072})}
    for file, name in enumerate(names):
        pixels, labels = rows(file, classes)
        files[name] = dump({b"data": pixels, key: labels, b"batch_label": b"x" * 300, b"coarse_labels": [0] * PER_FILE})
    return files


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def check(found: ImageData, classes: int, origin: Path) -> None:
    train_files = 5 if classes == 10 else 1
    for split, files in ((found.train, range(train_files)), (found.test, range(train_files, train_files + 1))):
        images, labels = expected(files, classes)
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)
    assert found.classes == tuple(NAMES[classes])
    assert found.name == f"cifar{classes}"
    assert found.origin == str(origin)


ALL_FORMS = pytest.mark.parametrize(
    ("files", "classes"),
    [
        pytest.param(binary_files(10), 10, id="binary 10"),
        pytest.param(binary_files(100), 100, id="binary 100"),
        pytest.param(python_files(10), 10, id="python 2, 10"),
        pytest.param(python_files(100), 100, id="python 2, 100"),
        pytest.param(python_files(10, python_three), 10, id="python 3, 10"),
        pytest.param(python_files(100, python_three), 100, id="python 3, 100"),
    ],
)


@ALL_FORMS
def test_every_form_loads_from_a_folder(tmp_path: Path, files: dict[str, bytes], classes: int):
    folder = write(tmp_path / "cifar", files)
    check(load(folder), classes, folder)


@ALL_FORMS
@pytest.mark.parametrize("name", ["cifar.tar.gz", "CIFAR.TGZ", "c.tar", "c.tar.bz2", "c.tar.xz", "c.txz", "c.zip"])
def test_every_form_loads_from_an_archive(
    write_archive: Callable[..., Path], files: dict[str, bytes], classes: int, name: str
):
    path = write_archive({"readme.html": b"hello", **{f"cifar-batches/{name}": files[name] for name in files}}, name)
    before = sorted(path.parent.iterdir())
    check(load(path), classes, path)
    assert sorted(path.parent.iterdir()) == before


def test_binary_form_is_preferred_so_that_no_pickle_is_read(tmp_path: Path):
    folder = write(tmp_path / "cifar", {**binary_files(10), **dict.fromkeys(python_files(10), b"damage")})
    check(load(folder), 10, folder)


def test_classes_without_names_file_are_numbered(tmp_path: Path):
    files = binary_files(10)
    del files["batches.meta.txt"]
    assert load(write(tmp_path / "cifar", files)).classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("batches.meta.txt", b"only\ntwo"),
        ("data_batch_3.bin", b""),
        ("data_batch_3.bin", b"\x00" * 3072),
        ("test_batch.bin", b"\x00" * (3073 * 2 + 1)),
        ("data_batch_1.bin", b"\x0a" + b"\x00" * 3072),
    ],
)
def test_damaged_binary_files_are_named(tmp_path: Path, name: str, content: bytes):
    folder = write(tmp_path / "cifar", {**binary_files(10), name: content})
    with pytest.raises(CorruptFile, match=re.escape(f"{folder}/{name}: ")):
        load(folder)


def test_hundred_classes_have_longer_records(tmp_path: Path):
    folder = write(tmp_path / "cifar", {**binary_files(100), "test.bin": b"\x00" * 3073})
    with pytest.raises(CorruptFile, match="3073 bytes are no whole number of 3074-byte records"):
        load(folder)


GOOD = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"labels": [0, 0]}, "no entry 'data'"),
        ({b"data": GOOD}, "no entry 'labels'"),
        ({b"data": GOOD, b"labels": [0]}, "2 images have 1 labels"),
        ({b"data": GOOD, b"labels": [0, 10]}, "labels are not all in 0 to 9"),
        ({b"data": GOOD, b"labels": [0, -1]}, "no list of class numbers"),
        ({b"data": GOOD, b"labels": [0, 0.5]}, "no list of class numbers"),
        ({b"data": GOOD, b"labels": b"\x00\x00"}, "no list of class numbers"),
        ({b"data": GOOD[:, :3071], b"labels": [0, 0]}, "no uint8 array of shape (N, 3072)"),
        ({b"data": GOOD.astype(float), b"labels": [0, 0]}, "no uint8 array"),
        ({b"data": [GOOD, GOOD], b"labels": [0, 0]}, "no uint8 array"),
        ({b"data": np.array([None]), b"labels": [0]}, "only numbers are admitted"),
        ({b"data": GOOD[:0], b"labels": []}, "labels are not all in"),
    ],
)
def test_wrong_contents_of_python_files_are_named(tmp_path: Path, content: dict[bytes, Any], message: str):
    folder = write(tmp_path / "cifar", {**python_files(10), "data_batch_2": python_two(content)})
    with pytest.raises(CorruptFile, match=re.escape(f"{folder}/data_batch_2: ")) as caught:
        load(folder)
    assert message in str(caught.value)


def test_labels_may_be_an_array(tmp_path: Path):
    content = python_two({b"data": GOOD, b"labels": np.array([4, 5])})
    found = load(write(tmp_path / "cifar", {**python_files(10), "test_batch": content}))
    np.testing.assert_array_equal(found.test.labels, [4, 5])


def test_wrong_names_file_is_named(tmp_path: Path):
    folder = write(tmp_path / "cifar", {**python_files(10), "batches.meta": python_two({b"label_names": 3})})
    with pytest.raises(CorruptFile, match=r"batches\.meta: 'label_names' is no list"):
        load(folder)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("packed", [False, True])
def test_malicious_pickle_is_not_run(tmp_path: Path, write_archive: Callable[..., Path], packed: bool):
    marker = tmp_path / "ran"
    files = {**python_files(10), "data_batch_1": pickle.dumps(Evil(marker))}
    source = write_archive(files) if packed else write(tmp_path / "cifar", files)
    with pytest.raises(CorruptFile, match=r"data_batch_1: refers to '(posix|nt)\.system'"):
        load(source)
    assert not marker.exists()


@pytest.mark.parametrize("files", [binary_files(10), python_files(10)], ids=["binary", "python"])
def test_missing_batches_are_named(tmp_path: Path, files: dict[str, bytes]):
    lost = [name for name in files if name.startswith(("data_batch_2", "test_batch"))]
    folder = write(tmp_path / "cifar", {name: content for name, content in files.items() if name not in lost})
    with pytest.raises(DataMissing, match=f"cifar10 without {', '.join(lost)}"):
        load(folder)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("../x", b"outside", "member '../x' reaches outside the archive"),
        ("a/../../x", b"outside", "member 'a/../../x' reaches outside the archive"),
        ("..\\x", b"outside", "reaches outside the archive"),
        ("/etc/x", b"outside", "member '/etc/x' reaches outside the archive"),
        ("l", special("l", tarfile.SYMTYPE, "/etc/passwd"), "member 'l' is a link"),
        ("l", special("l", tarfile.LNKTYPE, "test_batch.bin"), "member 'l' is a link"),
        ("d", special("d", tarfile.CHRTYPE), "member 'd' is a link, a device"),
        ("b/test_batch.bin", b"again", "two files named 'test_batch.bin'"),
    ],
)
def test_untrusted_members_are_named(
    write_archive: Callable[..., Path], member: str, content: bytes | tarfile.TarInfo, message: str
):
    path = write_archive({**binary_files(10), member: content})
    with pytest.raises(CorruptFile, match=re.escape(message)) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert not (path.parent.parent / "x").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_archive_is_corrupt(write_archive: Callable[..., Path], share: float):
    path = write_archive(binary_files(10))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises((CorruptFile, DataMissing) if share == 0 else CorruptFile, match=re.escape(str(path))):
        load(path)


def test_archive_of_another_kind_is_corrupt(tmp_path: Path):
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(b"PK\x03\x04 not gzip at all")
    with pytest.raises(CorruptFile, match="damaged archive"):
        load(path)


def test_archive_without_cifar_files_is_missing_data(write_archive: Callable[..., Path]):
    with pytest.raises(DataMissing, match="no CIFAR files"):
        load(write_archive({"readme": b"hello"}))


def test_sizes_are_limited(tmp_path: Path, write_archive: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "SIZE_LIMIT", 20_000)
    monkeypatch.setattr(archive, "_CHUNK", 1000)
    with pytest.raises(CorruptFile, match="decompressed exceeds"):
        load(write_archive({"zeros": b"\x00" * 21_000}))
    folder = write(tmp_path / "cifar", {**binary_files(10), "data_batch_4.bin": b"\x00" * 21_000})
    with pytest.raises(CorruptFile, match=r"data_batch_4\.bin has 21,000 bytes, over the limit of 20,000"):
        load(folder)


ARCHIVES = pytest.mark.parametrize("name", ["c.tar", "c.tar.bz2", "c.tar.xz", "c.zip"])


@ARCHIVES
@pytest.mark.parametrize("member", ["../x", "a/../../x", "..\\x", "/etc/x"])
def test_no_member_leaves_any_archive(write_archive: Callable[..., Path], name: str, member: str):
    path = write_archive({**binary_files(10), member: b"outside"}, name)
    with pytest.raises(CorruptFile, match="reaches outside the archive"):
        load(path)


@ARCHIVES
def test_size_of_any_archive_is_limited(write_archive: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(archive, "SIZE_LIMIT", 200_000)
    monkeypatch.setattr(archive, "_CHUNK", 1000)
    path = write_archive({"zeros": b"\x00" * 2_000_000}, name)
    with pytest.raises(CorruptFile, match=r"decompressed exceeds|over the limit"):
        load(path)


@ARCHIVES
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_any_truncated_archive_is_corrupt(write_archive: Callable[..., Path], name: str, share: float):
    path = write_archive(binary_files(10), name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CorruptFile, match=re.escape(str(path))):
        load(path)


@pytest.mark.parametrize("kind", ["tar", "tar.bz2", "tar.xz", "zip"])
def test_compression_is_told_by_content_not_by_name(write_archive: Callable[..., Path], kind: str):
    path = write_archive(binary_files(10), f"c.{kind}")
    renamed = path.with_name("renamed.tar" if kind == "tar" else "renamed.tar.gz")
    check(load(path.rename(renamed)), 10, renamed)


def test_memory_an_xz_file_asks_for_is_limited(tmp_path: Path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    path = tmp_path / "c.tar.xz"
    path.write_bytes(lzma.compress(b"\x00" * 10_000, lzma.FORMAT_XZ, filters=filters))
    with pytest.raises(CorruptFile, match=r"damaged archive .*Memory usage limit"):
        load(path)


def test_xz_file_of_several_streams_is_read_whole(write_archive: Callable[..., Path]):
    path = write_archive(binary_files(10), "c.tar")
    content = path.read_bytes()
    joined = path.with_name("c.tar.xz")
    joined.write_bytes(lzma.compress(content[:5000]) + bytes(8) + lzma.compress(content[5000:]))
    check(load(joined), 10, joined)


def test_links_encrypted_and_oddly_compressed_members_of_zip_files_are_refused(tmp_path: Path):
    path = tmp_path / "c.zip"

    def refused(message: str) -> None:
        with pytest.raises(CorruptFile, match=message):
            load(path)

    with zipfile.ZipFile(path, "w") as packed:
        link = zipfile.ZipInfo("data_batch_1.bin")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
    refused("'data_batch_1.bin' is a link")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("data_batch_1.bin", b"x")
    refused("compressed by method 14")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("data_batch_1.bin", b"x")
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused("is encrypted")


def test_zip_files_of_macos_are_read(write_archive: Callable[..., Path]):
    files = binary_files(10)
    path = write_archive({**files, **{f"__MACOSX/{name}": b"about" for name in files}}, "c.zip")
    check(load(path), 10, path)


@pytest.mark.parametrize(
    ("name", "files", "number"),
    [
        ("cifar-10-batches-py", python_files(10), 10),
        ("cifar-10-batches-bin", binary_files(10), 10),
        ("cifar-100-python", python_files(100), 100),
        ("cifar-100-binary", binary_files(100), 100),
    ],
)
def test_root_of_torchvision_is_read(tmp_path: Path, name: str, files: dict[str, bytes], number: int):
    folder = write(tmp_path / name, files)
    (tmp_path / "cifar.tar.gz").write_bytes(b"not looked at")
    check(load(tmp_path), number, folder)


def test_root_with_two_data_sets_names_both_and_the_remedy_works(tmp_path: Path):
    for name, files in (("cifar-10-batches-py", python_files(10)), ("cifar-100-python", python_files(100))):
        write(tmp_path / name, files)
    with pytest.raises(DataMissing, match="holds cifar-10-batches-py, cifar-100-python; give one of them") as caught:
        load(tmp_path)
    assert str(tmp_path / "cifar-10-batches-py") in str(caught.value)
    check(load(tmp_path / "cifar-10-batches-py"), 10, tmp_path / "cifar-10-batches-py")
