import pickle
from itertools import product

import pytest
from official_trees import adult_tree, celeba_tree, fairface_tree, multinli_tree, waterbirds_tree
from quick_benchmark import TRAINING, UNLEARNING, run_quickly

from grmu_sk.benchmark import (
    Preset,
    get_problem,
    make_jobs,
    problem_names,
    read_results,
)
from grmu_sk.benchmark.plan import draw_forget_set
from grmu_sk.results import GOLD, PRETRAIN, Row

TREES = [adult_tree, celeba_tree, fairface_tree, multinli_tree, waterbirds_tree]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """A tiny tree of each data set, written once."""
    trees = {write.__name__: write(tmp_path_factory.mktemp(write.__name__)) for write in TREES}
    return {name: trees.get(f"{name.partition('_')[0]}_tree") for name in problem_names()}


def problem_of(name, roots, **options):
    options = {"image_size": 16, **options}
    if "small_cnn" not in options.values() and name not in ("digits", "adult_sex", "adult_race"):
        options.setdefault("weights", "none")
    return get_problem(name, roots[name], **options)


@pytest.mark.parametrize("name", problem_names())
def test_splits_and_forget_sets_of_every_problem(name, roots):
    problem = pickle.loads(pickle.dumps(problem_of(name, roots)))
    splits = problem.load(0)
    assert (splits.name, splits.forget_groups) == (name, problem.forget_sets["group"])
    for part in (splits.train, splits.validation, splits.test):
        assert len(part.X) == len(part.y) == len(part.groups) > 0
    groups = list(zip(splits.train.y.tolist(), splits.train.groups.tolist(), strict=True))
    for forget, pairs in problem.forget_sets.items():
        rows = draw_forget_set(problem, splits, forget, 0.5, 0)
        drawn = {groups[row] for row in rows}
        assert len(rows) == int(0.5 * sum(group in pairs or not pairs for group in groups))
        assert drawn <= set(pairs) if pairs else len(drawn) > 1, forget
    net = problem.net()
    assert (net.train_split, net.verbose) == (None, 0)


def test_the_papers_forget_sets_of_fairface(roots):
    forget_sets = problem_of("fairface", roots).forget_sets
    ages, races = ["20-29", "50-59", "3-9"], ["Black", "Latino_Hispanic", "White"]
    assert forget_sets["groups-9"] == [(age, race) for age in ages for race in races]
    ages, races = [*ages, "more than 70", "30-39"], [*races, "East Asian", "Middle Eastern"]
    assert set(forget_sets["groups-25"]) == set(product(ages, races))
    # the figures' pairs are exact: four groups, not sixteen
    assert len(forget_sets["pairs-4"]) == 4 and forget_sets["random"] == []


@pytest.mark.parametrize(("name", "net"), [("adult_sex", None), ("fairface", "small_cnn")])
def test_problems_are_run_from_one_array_of_decoded_images(name, net, roots, tmp_path):
    problem = problem_of(name, roots, net=net, cache_dir=tmp_path / "cache")
    table = {"training": TRAINING | {"augment": net is not None}, "unlearning": UNLEARNING}
    settings = Preset("quick", {problem.key: table})
    jobs = make_jobs(problem, settings, [PRETRAIN, GOLD, Row("miu", True)], seeds=[0])
    assert run_quickly(tmp_path, jobs).failed == {}
    found = read_results(tmp_path).set_index(["method", "metric"])["value"]
    assert found[["pretrain", "retrain", "miu"]].xs("TA", level=1).between(0, 100).all()
    assert (tmp_path / "cache" / "fairface-16.npy").exists() == (name == "fairface")


def test_weights_are_told_by_their_content(roots, tmp_path):
    assert get_problem("celeba", roots["celeba"]).net().module__weights == "imagenet"
    assert get_problem("multinli", roots["multinli"]).net().module__weights == "bert-base-uncased"
    assert problem_of("celeba", roots).net().module__weights is None
    for name, content in [("a", b"one"), ("b", b"one"), ("c", b"other")]:
        (tmp_path / name).write_bytes(content)
    same, copied, other = (
        problem_of("celeba", roots, weights=tmp_path / name).identity() for name in "abc"
    )
    assert same == copied != other, "told by their content"
