import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from grmu_sk.benchmark.forget_sets import (
    ForgetSet,
    ForgetSetMismatch,
    data_fingerprint,
    draw_forget_set,
    product_pairs,
)
from grmu_sk.benchmark.problem import get_problem
from grmu_sk.benchmark.splits import Split, Splits

# training rows of each group (y, a), as the data sets document them
CELEBA = {(0, 0): 71629, (0, 1): 66874, (1, 0): 22880, (1, 1): 1387}
WATERBIRDS = {(0, 0): 3498, (0, 1): 184, (1, 0): 56, (1, 1): 1057}


def splits_of(counts, *, name="data", shuffle_seed=0):
    pairs = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    np.random.default_rng(shuffle_seed).shuffle(pairs)
    train = Split(np.zeros((len(pairs), 1)), pairs[:, 0], pairs[:, 1])
    return Splits(name, train, train, train, [(1, 1)])


def pool_of(splits, pairs):
    y, a = splits.train.y, splits.train.groups
    return {i for i in range(len(y)) if (y[i], a[i]) in set(pairs)}


@pytest.mark.parametrize(
    ("counts", "pair", "ratio", "size"),
    [
        (CELEBA, (1, 1), 0.1, 138),
        (CELEBA, (1, 1), 0.5, 693),
        (CELEBA, (1, 1), 0.9, 1248),
        (WATERBIRDS, (1, 0), 0.1, 5),
        (WATERBIRDS, (1, 0), 0.5, 28),
        (WATERBIRDS, (1, 0), 0.9, 50),
    ],
)
def test_sizes_are_the_papers(counts, pair, ratio, size):
    splits = splits_of(counts)
    forget_set = draw_forget_set(splits, [pair], ratio, seed=0)
    rows = forget_set.rows
    assert len(rows) == len(forget_set) == size
    assert (np.diff(rows) > 0).all()
    assert set(rows.tolist()) <= pool_of(splits, [pair])


SMALL = {(y, a): 10 + 7 * y + 3 * a for y in range(4) for a in range(3)}


def test_several_groups_are_pooled():
    splits = splits_of(SMALL)
    pairs = [(0, 0), (3, 2), (1, 1)]
    forget_set = draw_forget_set(splits, pairs, 0.5, seed=3)
    n_pool = SMALL[0, 0] + SMALL[3, 2] + SMALL[1, 1]
    assert len(forget_set) == int(0.5 * n_pool)
    assert set(forget_set.rows.tolist()) <= pool_of(splits, pairs)
    # the share of each group is left to chance
    sizes = [
        np.isin(
            draw_forget_set(splits, pairs, 0.5, seed).rows, list(pool_of(splits, [pairs[1]]))
        ).sum()
        for seed in range(8)
    ]
    assert len(set(sizes)) > 1


def test_every_row_of_the_pool_is_drawn_equally_often():
    splits = splits_of(SMALL)
    pool = sorted(pool_of(splits, [(2, 1), (0, 2)]))
    n_draws = 400
    times = np.zeros(len(splits.train.y))
    for seed in range(n_draws):
        times[draw_forget_set(splits, [(2, 1), (0, 2)], 0.3, seed).rows] += 1
    share = int(0.3 * len(pool)) / len(pool)
    spread = np.sqrt(share * (1 - share) / n_draws)
    assert (np.abs(times[pool] / n_draws - share) < 4.5 * spread).all()
    assert times.sum() == times[pool].sum()


def test_random_is_drawn_from_all_rows():
    splits = splits_of(SMALL)
    n_rows = len(splits.train.y)
    forget_set = draw_forget_set(splits, [], 0.4, seed=0)
    assert forget_set.pairs == []
    assert len(forget_set) == int(0.4 * n_rows)
    forgotten = {(splits.train.y[i], splits.train.groups[i]) for i in forget_set.rows}
    assert len(forgotten) == len(SMALL)


def test_stratified_takes_its_share_of_each_group():
    splits = splits_of(SMALL)
    pairs = [(0, 0), (3, 2), (1, 1)]
    forget_set = draw_forget_set(splits, pairs, 0.5, seed=3, stratified=True)
    for pair in pairs:
        rows = np.isin(forget_set.rows, list(pool_of(splits, [pair])))
        assert rows.sum() == int(0.5 * SMALL[pair])
    assert (np.diff(forget_set.rows) > 0).all()
    assert forget_set.stratified


def test_stratified_is_the_same_draw_for_one_group():
    splits = splits_of(SMALL)
    one = draw_forget_set(splits, [(1, 1)], 0.5, seed=3, stratified=True)
    other = draw_forget_set(splits, [(1, 1)], 0.5, seed=3)
    assert one.rows.tolist() == other.rows.tolist()


def test_stratified_leaves_out_groups_whose_share_is_less_than_a_row():
    splits = splits_of({(0, 0): 30, (0, 1): 3, (1, 0): 40, (1, 1): 40})
    forget_set = draw_forget_set(splits, [(0, 0), (0, 1)], 0.1, seed=0, stratified=True)
    assert len(forget_set) == 3
    with pytest.raises(ValueError, match="less than one row"):
        draw_forget_set(splits, [(0, 1)], 0.1, seed=0, stratified=True)
    with pytest.raises(ValueError, match="has no rows"):
        draw_forget_set(splits, [(0, 0), (5, 5)], 0.1, seed=0, stratified=True)


def test_seeds_differ_and_repeat():
    splits = splits_of(SMALL)
    draws = [draw_forget_set(splits, [(3, 2)], 0.5, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0].rows.tolist() == draws[1].rows.tolist()
    assert draws[0] != draws[2]
    assert draws[0].rows.tolist() != draws[2].rows.tolist()


def test_the_callers_generators_are_left_alone():
    splits = splits_of(SMALL)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    draw_forget_set(splits, [(3, 2)], 0.5, seed=1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize(
    ("pairs", "ratio", "message"),
    [
        ([(9, 9)], 0.5, "has no rows to forget"),
        ([(1, 1)], 0.0, r"ratio must lie in \(0, 1\]"),
        ([(1, 1)], 1.5, r"ratio must lie in \(0, 1\]"),
        ([(1, 1)], 0.001, "less than one row"),
        (["ab", "abc"], 0.5, "pairs"),
    ],
)
def test_bad_requests_are_refused(pairs, ratio, message):
    for stratified in (False, True):
        with pytest.raises(ValueError, match=message):
            draw_forget_set(splits_of(SMALL), pairs, ratio, 0, stratified=stratified)


# products and the groups of the paper ----------------------------------------------------------


def test_the_papers_forget_sets_of_fairface(tmp_path):
    forget_sets = get_problem("fairface", tmp_path, net="small_cnn").forget_sets
    assert forget_sets["group"] == [("20-29", "Black")]
    nine, twenty_five = set(forget_sets["groups-9"]), set(forget_sets["groups-25"])
    assert nine == {
        (age, race)
        for age in ("20-29", "50-59", "3-9")
        for race in ("Black", "Latino_Hispanic", "White")
    }
    assert len(nine) == len(forget_sets["groups-9"]) == 9
    assert len(twenty_five) == len(forget_sets["groups-25"]) == 25
    assert nine < twenty_five
    ages, races = ({pair[k] for pair in twenty_five} for k in (0, 1))
    assert ages == {"20-29", "50-59", "3-9", "more than 70", "30-39"}
    assert races == {"Black", "Latino_Hispanic", "White", "East Asian", "Middle Eastern"}
    # the figures' pairs are exact: four groups, not sixteen
    assert forget_sets["pairs-4"] == [
        ("20-29", "Black"),
        ("more than 70", "Middle Eastern"),
        ("30-39", "Southeast Asian"),
        ("60-69", "White"),
    ]
    assert forget_sets["random"] == []


def test_product_pairs_counts_repeated_values_once():
    assert product_pairs([(0, "a"), (0, "b"), (1, "a")]) == [
        (0, "a"),
        (0, "b"),
        (1, "a"),
        (1, "b"),
    ]


# fingerprints ----------------------------------------------------------------------------------


def changed(splits, **train):
    return replace(splits, train=replace(splits.train, **train))


def test_the_fingerprint_is_what_it_says():
    y, a = np.array(["m", "k", "m"]), np.array([5, 5, 7])
    split = Split(np.zeros((3, 1)), y, a)
    splits = Splits("tiny", split, split, split, [("m", 5)])
    forget_set = draw_forget_set(splits, [("m", 5)], 1.0, seed=0)
    content = b'"tiny"'
    content += b'[3, ["k", "m"]]' + np.array([1, 0, 1], dtype="<i8").tobytes()
    content += b'[3, ["5", "7"]]' + np.array([0, 0, 1], dtype="<i8").tobytes()
    content += np.array([0], dtype="<i8").tobytes()
    assert forget_set.fingerprint == hashlib.sha256(content).hexdigest()
    assert data_fingerprint(splits) == hashlib.sha256(content[:-8]).hexdigest()


def test_a_check_passes_on_the_same_data_read_again():
    forget_set = draw_forget_set(splits_of(SMALL), [(3, 2)], 0.5, seed=0)
    forget_set.check(splits_of(SMALL))


def other_data():
    splits = splits_of(SMALL)
    y, a = splits.train.y, splits.train.groups
    swapped = y.copy()
    first = np.flatnonzero(y != y[0])[0]
    swapped[[0, first]] = swapped[[first, 0]]
    return {
        "shuffled": splits_of(SMALL, shuffle_seed=1),
        "name": splits_of(SMALL, name="others"),
        "labels": changed(splits, y=swapped),
        "attributes": changed(splits, groups=a[::-1].copy()),
        "fewer": changed(splits, y=y[:-1], groups=a[:-1]),
    }


@pytest.mark.parametrize("difference", ["shuffled", "name", "labels", "attributes", "fewer"])
def test_a_check_fails_on_other_data(difference):
    forget_set = draw_forget_set(splits_of(SMALL), [(3, 2)], 0.5, seed=0)
    with pytest.raises(ForgetSetMismatch, match="drawn from other training rows"):
        forget_set.check(other_data()[difference])
    assert data_fingerprint(other_data()[difference]) != data_fingerprint(splits_of(SMALL))


def test_two_steps_with_different_forget_sets_are_refused():
    splits = splits_of(SMALL)
    one, other = (draw_forget_set(splits, [(3, 2)], 0.5, seed) for seed in (0, 1))
    one.require(one.fingerprint, "retraining")
    with pytest.raises(ForgetSetMismatch, match="retraining was run with another forget set"):
        one.require(other.fingerprint, "retraining")


# storing ---------------------------------------------------------------------------------------


@pytest.fixture
def stored():
    splits = splits_of(SMALL)
    forget_set = draw_forget_set(splits, [(3, 2), (0, 0)], 0.5, seed=4, stratified=True)
    text = json.dumps(forget_set.to_dict())
    return SimpleNamespace(splits=splits, forget_set=forget_set, values=json.loads(text))


def test_a_stored_set_comes_back(stored):
    again = ForgetSet.from_dict(stored.values, stored.splits)
    assert again.rows.dtype == np.int64
    assert again.to_dict() == stored.forget_set.to_dict()
    assert again == stored.forget_set
    assert hash(again) == hash(stored.forget_set)
    assert stored.values["rows"] == stored.forget_set.rows.tolist()


def test_a_changed_file_is_refused(stored):
    stored.values["rows"][0] += 1
    with pytest.raises(ForgetSetMismatch, match="drawn from other training rows"):
        ForgetSet.from_dict(stored.values, stored.splits)


def test_a_stored_set_of_other_data_is_refused(stored):
    with pytest.raises(ForgetSetMismatch, match="drawn from other training rows"):
        ForgetSet.from_dict(stored.values, splits_of(SMALL, shuffle_seed=1))
    with pytest.raises(ForgetSetMismatch, match="there are 40 training rows"):
        ForgetSet.from_dict(stored.values, splits_of({(0, 0): 20, (1, 1): 20}))


def test_an_incomplete_file_is_refused(stored):
    del stored.values["fingerprint"]
    with pytest.raises(ValueError, match="has no fingerprint"):
        ForgetSet.from_dict(stored.values, stored.splits)


def test_the_mask_marks_the_rows():
    splits = splits_of(SMALL)
    forget_set = draw_forget_set(splits, [(3, 2)], 0.5, seed=0)
    mask = forget_set.mask(len(splits.train.y))
    assert np.flatnonzero(mask).tolist() == forget_set.rows.tolist()
    assert mask.shape == splits.train.y.shape
