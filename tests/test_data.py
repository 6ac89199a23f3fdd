"""The data: the digits, the order of examples, and what is held out."""

import math
from pathlib import Path

import jax
import numpy as np
import pytest

from dalif_jax.data import digits, sets

# ---- Digits


def test_digits_follow_the_index_rule():
    from sklearn.datasets import load_digits

    splits = sets.load("digits", "")
    sizes = {name: len(split.labels) for name, split in splits.items()}
    assert sizes == {"train": 1150, "test": 287, "unseen_writers": 360}
    source = load_digits()
    rule = {
        "train": [i for i in range(1437) if i % 5 != 4],
        "test": [i for i in range(1437) if i % 5 == 4],
        "unseen_writers": list(range(1437, 1797)),
    }
    # Disjoint and complete: every index of the collection occurs once.
    assert sorted(i for part in rule.values() for i in part) == list(range(1797))
    for name, split in splits.items():
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (8, 8, 1)
        assert split.labels.dtype == np.int32
        assert set(split.labels.tolist()) == set(range(10))
        np.testing.assert_array_equal(split.images[..., 0] / 15, source.images[rule[name]])
        np.testing.assert_array_equal(split.labels, source.target[rule[name]])


def test_digits_are_read_where_their_file_is_not(monkeypatch):
    images, labels = digits.digits()
    monkeypatch.setattr(digits, "PLACE", Path("elsewhere.csv.gz"))
    for found, expected in zip(digits.digits(), (images, labels), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_digits_mean_and_std_are_those_of_the_training_part():
    pixels = sets.load("digits", "")["train"].images / 255
    np.testing.assert_allclose(pixels.mean(), sets.spec("digits").mean[0], atol=5e-5)
    np.testing.assert_allclose(pixels.std(), sets.spec("digits").std[0], atol=5e-5)


def test_unknown_and_unavailable_names():
    with pytest.raises(ValueError, match="digits, cifar10, cifar100, imagenet"):
        sets.spec("cifar11")
    assert sets.spec("imagenet").shape == (224, 224, 3)


# ---- Order


@pytest.mark.parametrize("examples, batch_size", [(12, 4), (13, 4), (1150, 128), (5, 5)])
def test_an_epoch_visits_no_example_twice(examples, batch_size):
    order = np.asarray(sets.epoch_order(3, 0, examples, batch_size))
    assert order.dtype == np.int32
    assert order.shape == (examples // batch_size, batch_size)
    assert len(set(order.ravel().tolist())) == order.size
    assert order.min() >= 0 and order.max() < examples


def test_order_is_the_same_under_jit_with_traced_seed_and_epoch_and_in_x64(x64):
    jitted = jax.jit(sets.epoch_order, static_argnums=(2, 3))
    with jax.enable_x64(False):
        expected = np.asarray(sets.epoch_order(7, 2, 100, 8))
        np.testing.assert_array_equal(jitted(7, 2, 100, 8), expected)
    np.testing.assert_array_equal(sets.epoch_order(7, 2, 100, 8), expected)


def test_order_differs_between_epochs_and_seeds_and_other_uses_of_the_seed():
    orders = [
        np.asarray(sets.epoch_order(seed, epoch, 64, 64))[0] for seed in (0, 1) for epoch in (0, 1)
    ]
    key = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), 0)
    orders.append(np.asarray(jax.random.permutation(key, 64)))
    assert len({tuple(order) for order in orders}) == 5


def test_a_batch_in_the_middle_is_recomputed_from_its_step_alone():
    steps = sets.steps_per_epoch(103, 10)
    assert steps == 10
    run = [row for epoch in range(3) for row in np.asarray(sets.epoch_order(5, epoch, 103, 10))]
    for k in (0, 9, 10, 17, 29):
        np.testing.assert_array_equal(sets.epoch_order(5, k // steps, 103, 10)[k % steps], run[k])


def test_the_dropped_remainder_changes_with_the_epoch():
    left_out = [
        set(range(11)) - set(np.asarray(sets.epoch_order(0, epoch, 11, 5)).ravel().tolist())
        for epoch in range(20)
    ]
    assert all(len(one) == 1 for one in left_out) and len(set.union(*left_out)) > 3


@pytest.mark.parametrize("batch_size", [0, 51])
def test_impossible_batch_size_is_named(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size={batch_size} .*50"):
        sets.steps_per_epoch(50, batch_size)


@pytest.mark.parametrize("examples, batch_size", [(12, 4), (13, 4), (3, 8), (1, 1)])
def test_evaluation_covers_every_example_once(examples, batch_size):
    batches = list(sets.eval_batches(examples, batch_size))
    seen = []
    for indices, valid in batches:
        assert indices.shape == valid.shape == (batch_size,)
        assert indices.dtype == np.int32 and valid.dtype == bool
        assert not indices[~valid].any()
        seen += indices[valid].tolist()
    assert sorted(seen) == list(range(examples))
    assert len(batches) == math.ceil(examples / batch_size)


# ---- Validation split


def test_hold_out_by_hand():
    # floor(0.3 i) for i = 0..10 is 0 0 0 0 1 1 1 2 2 2 3: it rises after 3, 6 and 9.
    assert np.flatnonzero(sets.hold_out(10, 0.3)).tolist() == [3, 6, 9]
    assert not sets.hold_out(10, 0.0).any()


@pytest.mark.parametrize(
    "share, held",
    [(0.1, 5000), (0.25, 12500), (0.3, 15000), (1 / 3, 16666), (0.29, 14500), (0.9, 45000)],
)
def test_hold_out_is_exact_and_even(share, held):
    # int(50000 * 0.29) in floating point is 14499, and 1/3 passes 64 bits in the product.
    mask = sets.hold_out(50_000, share)
    assert mask.sum() == held
    gaps = np.diff(np.flatnonzero(mask))
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("share", [0.1, 0.25, 0.3])
def test_validation_part_is_cut_out_of_the_training_part(share):
    whole = sets.load("digits", "")
    cut = sets.load("digits", "", share)
    assert len(cut["validation"].labels) == math.floor(1150 * share)
    mask = sets.hold_out(1150, share)
    for part, where in (("train", ~mask), ("validation", mask)):
        np.testing.assert_array_equal(cut[part].images, whole["train"].images[where])
        np.testing.assert_array_equal(cut[part].labels, whole["train"].labels[where])
    np.testing.assert_array_equal(cut["test"].images, whole["test"].images)
    assert "validation" not in whole


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan"), 1e-4])
def test_impossible_validation_split_is_refused(share):
    with pytest.raises(ValueError, match="validation_split"):
        sets.load("digits", "", share)
