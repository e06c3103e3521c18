import pickle
from itertools import product

import pytest
import torch
from click.testing import CliRunner
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
from grmu_sk.cli import main
from grmu_sk.datasets import load_fairface
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


def test_rows_are_those_of_the_reader_and_cuts_follow_the_seed(roots):
    bunch = load_fairface(roots["fairface"], random_state=5)
    splits = problem_of("fairface", roots, net="small_cnn").load(5)
    for part, rows in ((splits.train, bunch.train), (splits.test, bunch.test)):
        assert part.y.tolist() == [bunch.target_names[code] for code in bunch.target[rows]]
        assert part.groups.tolist() == [bunch.group_names[code] for code in bunch.groups[rows]]
    for name, differs in (("fairface", True), ("celeba", False)):
        problem = problem_of(name, roots)
        one, again, other = (problem.load(seed).train.y.tolist() for seed in (0, 0, 1))
        assert one == again and (one != other) == differs


def test_images_come_from_the_cache_and_augmented_ones_differ(roots, tmp_path):
    plain = problem_of("celeba", roots).load(0)
    cached = problem_of("celeba", roots, cache_dir=tmp_path).load(0)
    names = sorted(path.name for path in tmp_path.glob("*.npy"))
    assert names == ["celeba-16.npy", "celeba-full.npy"]
    torch.testing.assert_close(cached.train.X[2], plain.train.X[2])
    assert plain.augmented[0].shape == plain.train.X[0].shape
    assert not torch.equal(plain.augmented[0], plain.train.X[0])


def test_a_table_has_the_same_columns_with_every_seed(tmp_path):
    root = adult_tree(tmp_path, n_each=12)
    lines = (root / "adult.data").read_text().splitlines()
    lines[0] = lines[0].replace("Sales", "Armed-Forces").replace("?", "Armed-Forces")
    (root / "adult.data").write_text("\n".join(lines) + "\n")
    problem = get_problem("adult_race", root)
    splits = [problem.load(seed) for seed in range(30)]
    inputs = [split.train.X for split in splits]
    n_constant = {(X.min(axis=0) == X.max(axis=0)).sum() for X in inputs}
    assert len(n_constant) == 2, "otherwise the test shows nothing"
    n_columns = {part.X.shape[1] for s in splits for part in (s.train, s.test)}
    assert n_columns == {problem.net().module__n_features}


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
    places = ["--data-root", str(roots[name]), "--out", str(tmp_path / "listed")]
    done = CliRunner().invoke(main, ["bench", "--dataset", name, *places, "--dry-run"])
    assert done.exit_code == 0 and not (tmp_path / "listed").exists(), done.output


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


def test_bad_options_are_refused(roots):
    for name, options, message in [
        ("cifar10", {}, "no problem 'cifar10'"),
        ("adult_sex", {"data_root": "gone"}, r"nothing at gone.*grmu_sk.datasets.load_adult"),
        ("celeba", {"net": "bert"}, "net for celeba must be one of"),
        ("celeba", {"net": "small_cnn", "weights": "imagenet"}, "leave weights out"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            get_problem(name, **{"data_root": roots.get(name), **options})
