"""Folders whose images are decoded on demand, against the same folders in memory."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dots_core.data import Augmentation, ImageData, Loader, evaluation_batches, load, normalise, random_parts
from dots_core.data import images as images_module
from dots_core.data.batches import loader as loader_module
from dots_core.data.files import decoding as files_module
from dots_core.data.files import pixels
from dots_core.data.files import threads as threads_module
from dots_core.data.on_demand import OnDemand
from dots_core.data.sources import folder as folder_module
from dots_core.errors import CorruptFile, DataMissing, UsageError
from dots_core.random import Stream

Write = Callable[..., Path]
TRAIN, TEST, SIDE = 24, 6, 16
INDICES = st.one_of(
    st.lists(st.integers(-TRAIN, TRAIN - 1), max_size=12).map(lambda found: np.array(found, np.int64)),
    st.lists(st.booleans(), min_size=TRAIN, max_size=TRAIN).map(np.array),
    st.integers(-TRAIN, TRAIN - 1),
    st.slices(TRAIN),
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photos(suffix: str = "jpg") -> dict[str, np.ndarray]:
    """Colour images of many sizes: 24 for training and 6 for testing, in two classes."""
    return {
        f"{part}/{'cat' if i % 2 else 'dog'}/{i:02}.{suffix}": noise(18 + i, 40 - i, 3, seed=i)
        for part, count in (("train", TRAIN), ("test", TEST))
        for i in range(count)
    }


def on_demand(root: Path, image_size: int | None = SIDE) -> ImageData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "IN_MEMORY_LIMIT", 0)
        found = load(root, image_size)
    assert isinstance(found.train.images, OnDemand)
    assert isinstance(found.test.images, OnDemand)
    return found


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dots-")]


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "workers", lambda: 4)
    monkeypatch.setattr(folder_module, "_PIXELS_WORTH_THREADS", 1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageData, ImageData]]:
    """The same photographs in memory and on demand, the latter decoded by four threads."""
    root = tmp_path_factory.mktemp("photos")
    for name, values in photos().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / name)
    held = load(root, SIDE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads_module, "workers", lambda: 4)
        patch.setattr(folder_module, "_PIXELS_WORTH_THREADS", 1)
        yield held, on_demand(root)


@given(index=INDICES)
@settings(max_examples=40, deadline=None)
def test_every_index_gives_the_pixels_of_the_folder_in_memory(both: tuple[ImageData, ImageData], index: object):
    held, stored = (data.train.images for data in both)
    found = stored[index]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, held[index])  # type: ignore[call-overload]


def test_form_and_labels_are_those_of_the_folder_in_memory(both: tuple[ImageData, ImageData]):
    held, stored = both
    assert isinstance(held.train.images, np.ndarray)
    assert (stored.name, stored.classes, stored.origin) == (held.name, held.classes, held.origin)
    for one, other in ((held.train, stored.train), (held.test, stored.test)):
        assert other.images.shape == one.images.shape
        assert other.images.dtype == one.images.dtype
        assert other.images.nbytes == one.images.nbytes
        assert len(other.images) == len(other) == len(one)
        np.testing.assert_array_equal(other.labels, one.labels)
        np.testing.assert_array_equal(np.asarray(other.images), one.images)


@pytest.mark.parametrize("index", [TRAIN, [0, TRAIN], [-TRAIN - 1]])
def test_numbers_outside_the_split_are_refused(both: tuple[ImageData, ImageData], index: object):
    with pytest.raises(IndexError):
        both[1].train.images[index]


def test_search_over_files_sees_the_batches_of_the_folder_in_memory(
    both: tuple[ImageData, ImageData], monkeypatch: pytest.MonkeyPatch
):
    augmentation = Augmentation(crop=0, resized_crop=0.08, jitter=0.4)
    weights, _ = random_parts(TRAIN, 1, (0.8, 0.2))
    monkeypatch.setattr(loader_module, "_FEWEST_PER_TASK", 1)
    monkeypatch.setattr(loader_module, "_BYTES_WORTH_THREADS", 0)

    def batches(data: ImageData) -> list[np.ndarray]:
        train = Loader(data.train, weights, 4, 1, "w", augmentation, both[0].mean, both[0].std)
        test = evaluation_batches(data.test, None, 4, both[0].mean, both[0].std)
        found = [*train.batches(0), *train.batches(1), *test]
        return [array for batch in found for array in (batch.images, batch.labels)]

    held, stored = map(batches, both)
    assert len(held) == 2 * (4 + 4 + 2)
    for one, other in zip(held, stored, strict=True):
        np.testing.assert_array_equal(one, other)
    assert threads() == []


@pytest.mark.usefixtures("many_threads")
def test_batches_of_a_search_on_large_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An eighth of the training images, four fifths of which train the weights, at 224 pixels."""
    root = tmp_path / "pictures"
    for part, count in (("train", 400), ("test", 2)):
        for i in range(count):
            (root / part / str(i % 2)).mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(noise(16, 16, 3, seed=i % 9))
            small.resize((256, 256 + i % 5)).save(root / part / str(i % 2) / f"{i}.jpg")
    data = on_demand(root, 224)
    monkeypatch.setattr(images_module, "STATISTICS_SAMPLE", 20)
    subset = np.sort(Stream(2, "subset/train").permutation(400)[:50])
    weights = subset[random_parts(50, 2, (0.8, 0.2))[0]]
    augmentation = Augmentation(crop=0, resized_crop=0.08)
    loader = Loader(data.train, weights, 20, 2, "w", augmentation, data.mean, data.std)
    batches = list(loader.batches(0))
    assert [batch.images.shape for batch in batches] == [(20, 3, 224, 224)] * 2
    monkeypatch.setattr(loader_module, "_BYTES_WORTH_THREADS", 0)
    for one, other in zip(batches, loader.batches(0), strict=True):
        np.testing.assert_array_equal(one.images, other.images)
    assert abs(float(np.mean([batch.images for batch in batches]))) < 0.2
    assert threads() == []


def test_limit_divides_what_is_decoded_at_once_from_what_is_not(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    root = write_images(photos())
    monkeypatch.setattr(folder_module, "IN_MEMORY_LIMIT", TRAIN * SIDE * SIDE * 3)
    assert isinstance(load(root, SIDE).train.images, np.ndarray)
    monkeypatch.setattr(folder_module, "IN_MEMORY_LIMIT", TRAIN * SIDE * SIDE * 3 - 1)
    mixed = load(root, SIDE)
    assert isinstance(mixed.train.images, OnDemand)
    assert isinstance(mixed.test.images, np.ndarray)


def test_loading_decodes_nothing(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    root = write_images(photos())
    monkeypatch.setattr(files_module, "decode", lambda *_: pytest.fail("decoded at loading"))
    assert len(on_demand(root).fingerprint) == 64


def test_fingerprint_is_over_places_and_sizes(write_images: Write, tmp_path: Path):
    root = write_images(photos())
    reference = on_demand(root).fingerprint
    assert on_demand(root).fingerprint == reference
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    (moved / "test").rename(moved / "val")
    assert on_demand(moved).fingerprint == reference
    assert load(root, SIDE).fingerprint != reference
    assert on_demand(root, 8).fingerprint != reference

    def changed(change: Callable[[Path], object]) -> str:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root, copy)
        change(copy)
        return on_demand(copy).fingerprint

    def lengthen(name: str) -> Callable[[Path], object]:
        return lambda copy: (copy / name).write_bytes((copy / name).read_bytes() + b"\0")

    others = [
        changed(lengthen("train/cat/03.jpg")),
        changed(lengthen("test/cat/03.jpg")),
        changed(lambda copy: (copy / "train/cat/03.jpg").rename(copy / "train/cat/03a.jpg")),
        changed(lambda copy: (copy / "train/cat/03.jpg").rename(copy / "train/dog/03.jpg")),
        changed(lambda copy: (copy / "test/cat/03.jpg").unlink()),
    ]
    assert reference not in others
    assert len(set(others)) == len(others)


@pytest.mark.usefixtures("many_threads")
def test_damaged_file_stops_at_its_batch_and_a_repaired_one_goes_on(write_images: Write):
    root = write_images(photos())
    data = on_demand(root)

    def loader() -> Loader:
        mean, std = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
        return Loader(data.train, np.arange(TRAIN), 4, 0, "w", Augmentation(), mean, std)

    whole = [batch.images for batch in loader().batches(0)]
    order = Stream(0, "order/w").permutation(TRAIN, 0)
    number = int(order[3 * 4 + 1])
    path = sorted((root / "train").glob("*/*.jpg"))[number]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    seen = []
    batches = loader().batches(0)
    for _ in range(3):
        seen.append(next(batches).images)
    with pytest.raises(CorruptFile) as caught:
        next(batches)
    assert str(caught.value).startswith(f"{path}: damaged")
    assert threads() == []
    path.write_bytes(content)
    seen.extend(batch.images for batch in loader().batches(0, start=len(seen)))
    assert len(seen) == len(whole) == 6
    for one, other in zip(seen, whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("many_threads")
def test_several_failures_are_told_together_in_order(write_images: Write):
    root = write_images(photos())
    data = on_demand(root)
    files = sorted((root / "train").glob("*/*.jpg"))
    files[17].write_bytes(b"damage")
    files[5].unlink()
    found = rf"^2 images cannot be read: \S*{files[5].name}: cannot be read \(.*\), \S*{files[17].name}: damaged"
    for _ in range(5):
        for index in (slice(None), [0, 17, 5]):
            with pytest.raises(CorruptFile, match=found):
                data.train.images[index]
    with pytest.raises(CorruptFile, match=files[17].name):
        data.train.images[[0, 17]]
    assert threads() == []


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("size", [None, 8])
def test_all_damaged_images_are_told_in_one_pass(
    write_images: Write, monkeypatch: pytest.MonkeyPatch, count: int, many: bool, size: int | None
):
    if many:  # damage that shows without decoding
        monkeypatch.setattr(folder_module, "IN_MEMORY_LIMIT", 0)
    grey = {
        f"{part}/{name}/{n:02}.png": noise(9, 8, seed=n)
        for part in ("train", "test")
        for name in "ab"
        for n in range(9)
    }
    root = write_images(grey)
    files = sorted(root.glob("*/*/*.png"))[:count]
    for number, path in enumerate(files):
        if many:
            path.write_bytes(b"")
        else:
            path.write_bytes((b"", b"damage", path.read_bytes()[:60])[number % 3])
    with pytest.raises((CorruptFile, DataMissing)) as caught:
        load(root, size)
    message = str(caught.value)
    assert message.startswith(f"{count} images cannot be read: {files[0]}: ")
    assert all(str(path) in message for path in files[:10])
    assert "; replace or delete them" in message
    assert ("20 more" in message) == (count == 30)
    for path in files:
        path.unlink()
    if count == 2:
        assert len(load(root, size).test) == 16


@pytest.mark.usefixtures("many_threads")
def test_leaving_an_epoch_early_ends_its_threads(write_images: Write):
    data = on_demand(write_images(photos()))
    batches = evaluation_batches(data.train, None, 2, np.full(3, 0.5, np.float32), np.ones(3, np.float32))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threads() == []


def dangle(path: Path) -> None:
    path.unlink()
    os.symlink("nowhere.jpg", path)


def link_to_folder(path: Path) -> None:
    path.unlink()
    os.symlink(path.parent, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dangle, "cannot be read"),
        (link_to_folder, "is no regular file"),
        (lambda path: path.write_bytes(b""), "is an empty file"),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_file_that_is_none_is_found_at_loading(
    write_images: Write, part: str, change: Callable[[Path], None], message: str
):
    root = write_images(photos())
    target = root / part / "dog" / "04.jpg"
    change(target)
    with pytest.raises(DataMissing, match=f"{target}: {message}"):
        on_demand(root)


def test_too_many_pixels_are_refused_when_read(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    root = write_images(photos())
    Image.fromarray(noise(50, 50, 3)).save(root / "train/dog/04.jpg")
    data = on_demand(root)
    monkeypatch.setattr(pixels, "PIXEL_LIMIT", 2000)
    with pytest.raises(CorruptFile, match=r"dog/04\.jpg: 2500 pixels, over the limit of 2000"):
        data.train.images[:]


def test_two_sizes_without_image_size_are_refused_when_read(write_images: Write):
    root = write_images({**dict.fromkeys(photos("png"), noise(8, 9, 3)), "train/dog/04.png": noise(9, 9, 3)})
    data = on_demand(root, None)
    assert data.shape == (3, 8, 9)
    with pytest.raises(DataMissing, match=r"dog/04\.png is 9x9 but .*cat/01\.png is 9x8.*image_size"):
        data.train.images[:]


def test_images_larger_than_any_file_may_be_are_refused(write_images: Write):
    with pytest.raises(UsageError, match=r"one image of 9000x9000 exceeds the limit of 64000000 pixels"):
        on_demand(write_images(photos()), 9000)


def test_limit_holds_for_what_is_decoded_at_once(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    data = on_demand(write_images(photos()))
    monkeypatch.setattr(pixels, "BYTE_LIMIT", 10 * SIDE * SIDE * 3)
    assert data.train.images[:10].shape == (10, SIDE, SIDE, 3)
    for whole in (lambda: data.train.images[:11], lambda: np.asarray(data.train.images)):
        with pytest.raises(UsageError, match="over the limit"):
            whole()


@pytest.mark.parametrize("colour", ["", "train/dog/22.png", "test/dog/04.png"])
def test_channels_are_decided_as_in_memory(write_images: Write, colour: str):
    files = dict.fromkeys(photos("png"), noise(20, 20))
    root = write_images({**files, colour: noise(20, 20, 3)} if colour else files)
    data, held = on_demand(root), load(root, SIDE)
    assert data.shape == held.shape == (3 if colour else 1, SIDE, SIDE)
    np.testing.assert_array_equal(data.train.images[:], held.train.images)


def test_statistics_are_those_of_a_fixed_sample(both: tuple[ImageData, ImageData], monkeypatch: pytest.MonkeyPatch):
    held, stored = both
    whole = ImageData(held.name, held.classes, stored.train, stored.test)
    np.testing.assert_array_equal(whole.mean, held.mean)
    np.testing.assert_array_equal(whole.std, held.std)

    monkeypatch.setattr(images_module, "STATISTICS_SAMPLE", 7)
    monkeypatch.setattr(images_module, "_DECODED_BYTES", 3 * SIDE * SIDE * 3)
    chosen = Stream(0, "statistics").permutation(TRAIN)[:7]
    sample = held.train.images[chosen].reshape(-1, 3).astype(np.float64) / 255
    some = ImageData(held.name, held.classes, stored.train, stored.test)
    np.testing.assert_allclose(some.mean, sample.mean(0), rtol=1e-6)
    np.testing.assert_allclose(some.std, sample.std(0), rtol=1e-6)
    assert not np.array_equal(some.mean, held.mean)
    scaled = normalise(held.train.images[chosen], some.mean, some.std)
    np.testing.assert_allclose(scaled.mean((0, 2, 3)), 0, atol=1e-4)


def test_resizing_loaded_images_keeps_them_on_demand(both: tuple[ImageData, ImageData]):
    held, stored = (load(data, 11) for data in both)
    assert isinstance(stored.train.images, OnDemand)
    assert stored.shape == held.shape == (3, 11, 11)
    np.testing.assert_array_equal(stored.train.images[[5, 2, 5]], held.train.images[[5, 2, 5]])
    np.testing.assert_array_equal(stored.test.images[:], held.test.images)
    assert stored.fingerprint != both[1].fingerprint
