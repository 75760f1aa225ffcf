from __future__ import annotations

import gc
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dots_core.data import Augmentation, Loader, Split, balanced_parts, evaluation_batches, normalise, random_parts
from dots_core.engine.batch import Batch
from dots_core.errors import UsageError
from dots_core.random import Stream

MEAN, STD = np.array([0.5], np.float32), np.array([0.25], np.float32)


def split(count: int = 20) -> Split:
    """Images whose label is their number and whose pixels tell it too."""
    images = np.zeros((count, 4, 4, 1), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[:, 0, 0] = 255
    return Split(images, np.arange(count, dtype=np.int64))


def loader(count: int = 20, batch: int = 4, **options: Any) -> Loader:
    fixed = {"indices": np.arange(count), "seed": 3, "stream": "weights", "augmentation": None, **options}
    return Loader(split(count), batch=batch, mean=MEAN, std=STD, **fixed)


def workers() -> int:
    return sum(thread.name == "dots-prefetch" for thread in threading.enumerate())


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


def labels(batches: Any) -> list[int]:
    return [int(label) for batch in batches for label in batch.labels]


def test_order_is_that_of_the_named_stream_over_the_given_indices():
    chosen = np.array([2, 3, 5, 7, 11, 13, 17, 19, 4])
    loads = loader(indices=chosen)
    for epoch in (0, 1):
        order = chosen[Stream(3, "order/weights").permutation(9, epoch)]
        assert labels(loads.batches(epoch)) == order[:8].tolist()
    assert loads.steps == 2


def test_every_batch_is_full_and_the_rest_is_dropped():
    loads = loader(22, 4)
    found = list(loads.batches(0))
    assert loads.steps == len(found) == 5
    assert {batch.images.shape for batch in found} == {(4, 1, 4, 4)}
    assert len(set(labels(found))) == 20
    assert found[0].drop_path is None


def test_orders_differ_by_epoch_seed_and_stream_name():
    orders = [
        labels(loader().batches(0)),
        labels(loader().batches(1)),
        labels(loader(seed=4).batches(0)),
        labels(loader(stream="paths").batches(0)),
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(20)) for order in orders)


def test_unshuffled_order_is_that_of_the_indices():
    chosen = np.array([9, 1, 8, 2])
    for epoch in (0, 1):
        assert labels(loader(batch=2, indices=chosen, shuffle=False).batches(epoch)) == [9, 1, 8, 2]


def test_images_belong_to_their_labels():
    for batch in loader().batches(0):
        np.testing.assert_array_equal(batch.images, normalise(split().images[batch.labels], MEAN, STD))


def test_augmentation_goes_by_the_number_in_the_split():
    augmentation = Augmentation(True, 1, 2)
    for batch in loader(augmentation=augmentation, indices=np.arange(19, 3, -1)).batches(5):
        expected = augmentation.apply(split().images[batch.labels], batch.labels, 5, 3, MEAN, STD)
        np.testing.assert_array_equal(batch.images, expected)


@given(
    count=st.integers(4, 40), batch=st.integers(1, 4), epoch=st.integers(0, 5), start=st.integers(0, 10), data=st.data()
)
@settings(max_examples=30, deadline=None)
def test_resuming_gives_the_tail_of_the_epoch(count: int, batch: int, epoch: int, start: int, data: st.DataObject):
    loads = loader(count, batch, augmentation=Augmentation(True, 1, 1))
    start = data.draw(st.integers(0, loads.steps))
    assert_same(list(loads.batches(epoch, start)), list(loads.batches(epoch))[start:])
    assert workers() == 0


@pytest.mark.parametrize("start", [-1, 6])
def test_start_outside_the_epoch_is_refused_at_once(start: int):
    with pytest.raises(UsageError, match=f"step {start} is not in an epoch of 5 steps"):
        loader().batches(0, start)


def test_decoration_happens_in_the_thread_with_epoch_and_step():
    seen: list[tuple[int, int, str]] = []

    def decorate(batch: Batch, epoch: int, step: int) -> Batch:
        seen.append((epoch, step, threading.current_thread().name))
        return replace(batch, drop_path=np.full((1, 1, 4), step, np.float32))

    found = list(loader(decorate=decorate).batches(7, 2))
    assert [batch.drop_path[0, 0, 0] for batch in found if batch.drop_path is not None] == [2, 3, 4]
    assert seen == [(7, step, "dots-prefetch") for step in (2, 3, 4)]


def test_exception_in_the_thread_is_raised_after_the_batches_before_it():
    def decorate(batch: Batch, epoch: int, step: int) -> Batch:
        if step == 2:
            raise RuntimeError("broken mask")
        return batch

    batches = loader(decorate=decorate).batches(0)
    assert next(batches) is not None
    assert next(batches) is not None
    with pytest.raises(RuntimeError, match="broken mask"):
        next(batches)
    assert workers() == 0


@pytest.mark.parametrize("taken", [1, 3, 19])
def test_closing_early_ends_the_thread(taken: int):
    batches = loader(batch=1).batches(0)
    for _ in range(taken):
        next(batches)
    if taken < 10:  # near the end everything may be prepared already
        assert workers() == 1
    batches.close()  # type: ignore[attr-defined]
    assert workers() == 0


def test_forgetting_the_iterator_ends_the_thread():
    batches = loader(batch=1).batches(0)
    next(batches)
    assert workers() == 1
    del batches
    gc.collect()
    assert workers() == 0


def test_iterator_never_used_starts_no_thread():
    batches = loader().batches(0)
    assert workers() == 0
    assert len(list(batches)) == 5


def test_only_a_few_batches_are_made_ahead():
    made: list[int] = []

    def decorate(batch: Batch, epoch: int, step: int) -> Batch:
        made.append(step)
        return batch

    batches = loader(200, 1, decorate=decorate).batches(0)
    next(batches)
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    # One in use, three waiting and one that finds no room.
    assert made == [0, 1, 2, 3, 4]
    batches.close()  # type: ignore[attr-defined]


def test_fewer_images_than_a_batch_name_the_remedy():
    with pytest.raises(UsageError, match=r"3 images are fewer than one batch of 4; .*--set batch=3"):
        loader(indices=np.arange(3))
    loader(indices=np.arange(3), batch=3)


def test_fewer_images_than_any_batch_are_no_matter_of_the_batch():
    with pytest.raises(UsageError, match=r"1 image is fewer than one batch of 4; give more images") as caught:
        loader(indices=np.arange(1))
    assert "batch=" not in str(caught.value)


@pytest.mark.parametrize("indices", [np.array([0, 1, 2, 20]), np.array([-1, 0, 1, 2])])
def test_indices_outside_the_split_are_refused(indices: np.ndarray):
    with pytest.raises(UsageError, match="numbers from 0 to 19"):
        loader(indices=indices)
    with pytest.raises(UsageError, match="numbers from 0 to 19"):
        evaluation_batches(split(), indices, 4, MEAN, STD)


def test_batch_of_nothing_is_refused():
    with pytest.raises(UsageError, match="a batch of 0 images"):
        loader(batch=0)
    with pytest.raises(UsageError, match="a batch of 0 images"):
        evaluation_batches(split(), None, 0, MEAN, STD)


@given(count=st.integers(1, 30), batch=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_evaluation_takes_every_image_once_in_order(count: int, batch: int):
    found = list(evaluation_batches(split(count), None, batch, MEAN, STD))
    assert labels(found) == list(range(count))
    assert all(len(some.labels) == batch for some in found[:-1])
    np.testing.assert_array_equal(
        np.concatenate([some.images for some in found]), normalise(split(count).images, MEAN, STD)
    )


def test_evaluation_of_chosen_images():
    found = list(evaluation_batches(split(), np.array([5, 3, 9]), 2, MEAN, STD))
    assert [batch.labels.tolist() for batch in found] == [[5, 3], [9]]


@given(n=st.integers(2, 200), seed=st.integers(0, 99), fraction=st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_random_parts_divides_all_samples(n: int, seed: int, fraction: float):
    if not 0 < int(n * fraction) < n:
        with pytest.raises(UsageError, match="leave an empty part"):
            random_parts(n, seed, (fraction, 1 - fraction))
        return
    first, second = random_parts(n, seed, (fraction, 1 - fraction))
    assert len(first) == int(n * fraction)
    assert first.dtype == second.dtype == np.int64
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(n))
    for part in (first, second):
        assert (np.diff(part) > 0).all()


def test_random_parts_is_random_by_seed_and_repeatable():
    halves = [random_parts(1000, seed, (0.5, 0.5))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(halves[0], halves[1])
    assert (halves[0] != halves[2]).any()
    # A fair division takes about half of the first half of the numbers.
    assert 200 < (halves[0] < 500).sum() < 300


@given(
    counts=st.lists(st.integers(8, 60), min_size=2, max_size=6),
    seed=st.integers(0, 99),
    shares=st.sampled_from([(0.25, 0.125), (0.5, 0.5), (1 / 3, 1 / 3, 1 / 3), (0.125 * 0.8, 0.125 * 0.2), (1.0,)]),
)
@settings(max_examples=60, deadline=None)
def test_balanced_parts_hold_the_same_share_of_every_class(counts: list[int], seed: int, shares: tuple[float, ...]):
    classes = np.random.RandomState(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    bounds = [[round(count * sum(shares[:i]), 9) for i in range(len(shares) + 1)] for count in counts]
    if any(np.diff(np.rint(each)).min() < 1 for each in bounds):
        with pytest.raises(UsageError, match="leave a part without it"):
            balanced_parts(classes, seed, shares)
        return
    parts = balanced_parts(classes, seed, shares)
    for number, part in enumerate(parts):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        held = np.bincount(classes[part], minlength=len(counts))
        for found, count, each in zip(held, counts, bounds, strict=True):
            assert found == np.rint(each[number + 1]) - np.rint(each[number])
            assert abs(found - shares[number] * count) <= 1
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)


def test_balanced_parts_are_random_by_seed_and_repeatable():
    classes = np.arange(1000) % 10
    drawn = [balanced_parts(classes, seed, (0.1, 0.025)) for seed in (0, 0, 1)]
    for first, again, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
    # A fair draw takes about half of its hundred images from the first half of the numbers.
    assert 30 < (drawn[0][0] < 500).sum() < 70


def test_a_tenth_and_a_fortieth_of_each_class_of_imagenet():
    """PC-DARTS' subset: of a class of 1300 images 130 for w and 32 for α."""
    classes = np.repeat(np.arange(3), [1300, 1300, 732])
    weights, alpha = balanced_parts(classes, 0, (0.125 * 0.8, 0.125 * (1 - 0.8)))
    assert np.bincount(classes[weights]).tolist() == [130, 130, 73]
    assert np.bincount(classes[alpha]).tolist() == [32, 32, 19]


def test_a_class_too_small_for_every_part_is_named():
    with pytest.raises(UsageError, match=r"number 1 has 4 images; divided at shares 0\.1, 0\.025 .* balanced=false"):
        balanced_parts(np.array([0] * 100 + [1] * 4), 0, (0.1, 0.025))
