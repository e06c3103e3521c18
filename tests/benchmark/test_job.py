import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_benchmark import TRAINING, UNLEARNING, preset, quick_plan
from skorch.callbacks import LRScheduler

from grmu_sk.benchmark.candidates import RESEED
from grmu_sk.benchmark.job import candidate_of, describe, identity_of_setting, net_for
from grmu_sk.benchmark.plan import ABLATIONS, lines_for, make_plan
from grmu_sk.benchmark.problem import get_problem
from grmu_sk.benchmark.settings import Setting, get_preset
from grmu_sk.benchmark.store import Store
from grmu_sk.nets import SmallCNN
from grmu_sk.unlearners import all_unlearners

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def problem():
    return get_problem("digits", device="cpu")


@pytest.fixture(scope="module")
def splits(problem):
    return problem.load(0)


# lines ---------------------------------------------------------------------------------------


def keys(lines):
    return [(line.method, int(line.reweight), line.variant) for line in lines]


def test_what_everything_is_compared_with_always_takes_part():
    exact = [("pretrain", 0, ""), ("retrain", 0, ""), ("retrain", 1, ""), ("gold_reseeded", 1, "")]
    assert keys(lines_for(["miu"])) == [*exact, ("miu", 0, ""), ("miu", 1, "")]
    assert keys(lines_for("retrain")) == exact
    of_paper = keys(lines_for("paper"))
    assert of_paper[:4] == exact
    assert of_paper[4] == ("group_dro", 0, "")
    approximate = ("l1_sparse", "salun", "scrub", "miu")
    assert set(of_paper[5:]) == {(name, on, "") for name in approximate for on in (0, 1)}


def test_all_methods_take_part_with_and_without_reweight_where_they_can():
    lines = keys(lines_for("all"))
    for name, unlearner in all_unlearners():
        switches = {on for method, on, _ in lines if method == name}
        assert switches == ({0, 1} if "reweight" in unlearner._get_param_names() else {0}), name
    assert len(lines) == len(set(lines))


def test_ablations_and_weights_of_calibration():
    lines = keys(lines_for(["no_op"], ablations=True, lambdas=[0.1, 10]))
    assert lines[4:] == [
        ("no_op", 0, ""),
        ("miu", 0, ""),
        ("miu", 0, "no_retaining"),
        ("miu", 0, "no_unlearning"),
        ("miu", 0, "no_calibration"),
        ("miu", 1, "lam=0.1"),
        ("miu", 1, "lam=10"),
    ]
    known = dict(all_unlearners())["miu"]._get_param_names()
    assert {name for parameters in ABLATIONS.values() for name in parameters} <= set(known)


def test_unknown_methods_and_weights_are_refused():
    with pytest.raises(ValueError, match=r"Unknown methods magic; there are bad_teacher"):
        lines_for(["miu", "magic"])
    with pytest.raises(ValueError, match="must not be negative"):
        lines_for("paper", lambdas=[-1])


# jobs ----------------------------------------------------------------------------------------


def test_pretraining_is_shared_and_retraining_is_not(tmp_path):
    plan = quick_plan(Store(tmp_path), seeds=[0, 1], ratios=[0.2, 0.5], forget=["group", "random"])
    trainings = [job for job in plan.jobs if job.kind == "training"]
    assert sum(job.method == "pretrain" for job in trainings) == 2
    assert sum(job.method == "retrain" for job in trainings) == 2 * 2 * 4
    names = [job.name for job in plan.jobs]
    assert len(names) == len(set(names))
    assert [job.seed for job in plan.jobs] == sorted(job.seed for job in plan.jobs)
    done = set()
    for job in plan.jobs:  # whatever is needed comes before
        assert not job.needs or job.needs in done
        done.add(job.name)


def test_settings_reach_the_jobs(tmp_path, problem, splits):
    settings = preset(unlearning={**UNLEARNING, "lam": 3.0, "forget_epochs": 1})
    store = Store(tmp_path)
    lines = lines_for(["miu", "sisa"], ablations=True, lambdas=[7])
    plan = make_plan(problem, settings, store, lines, seeds=[0])
    jobs = {
        (job.method, job.reweight, job.variant): job
        for job in plan.jobs
        if job.kind != "evaluation"
    }
    miu = jobs["miu", True, ""].setting
    assert miu.net["lr"] == 0.01
    assert miu.unlearner["lam"] == 3.0
    assert miu.unlearner["reweight"] is True
    assert jobs["miu", True, "lam=7"].setting.unlearner["lam"] == 7
    off = jobs["miu", False, "no_retaining"].setting.unlearner
    assert (off["retaining"], off["lam"], off["reweight"]) == (False, 3.0, False)
    assert jobs["retrain", True, ""].setting.net["lr"] == 0.05
    assert jobs["sisa", False, ""].setting.net["lr"] == 0.05, "it trains its nets by itself"
    assert not jobs["sisa", False, ""].needs
    assert candidate_of(jobs["gold_reseeded", True, ""]).seed_shift == RESEED
    built = candidate_of(jobs["miu", False, "no_calibration"]).build(problem.net(), None, seed=5)
    assert (built.calibration, built.reweight, built.lam, built.random_state) == (
        False,
        False,
        3.0,
        5,
    )


def test_methods_without_a_setting_are_left_out_of_all_and_refused_by_name(tmp_path):
    class Partial:
        name = "partial"

        def training(self, problem, **options):
            return preset().training(problem, **options)

        def unlearning(self, problem, *, method, **options):
            if method == "scrub":
                raise ValueError("There is no setting for scrub.")
            return preset().unlearning(problem, method=method, **options)

    store = Store(tmp_path)
    problem = get_problem("digits", device="cpu")
    plan = make_plan(problem, Partial(), store, lines_for("all"), seeds=[0])
    assert plan.left_out == ["There is no setting for scrub."]
    assert {job.method for job in plan.jobs} == {
        "pretrain",
        "gold_reseeded",
        *(name for name, _ in all_unlearners() if name != "scrub"),
    }
    with pytest.raises(ValueError, match="no setting for scrub"):
        make_plan(problem, Partial(), store, lines_for("paper"), seeds=[0])


def test_unknown_selections_and_forget_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="selections must be of"):
        quick_plan(Store(tmp_path), selections=["first"])
    with pytest.raises(ValueError, match="selections must be of"):
        quick_plan(Store(tmp_path), selections=[])
    with pytest.raises(ValueError, match="no forget set 'groups-9'"):
        quick_plan(Store(tmp_path), forget=["groups-9"])


# identity ------------------------------------------------------------------------------------


def test_another_process_finds_the_same_identities(tmp_path):
    script = (
        "import json, sys; from quick_benchmark import quick_plan; "
        "from grmu_sk.benchmark.store import Store; "
        "print(json.dumps([job.identity for job in quick_plan(Store(sys.argv[1]), "
        "methods=('miu', 'group_dro')).jobs]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "other")],
        env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = quick_plan(Store(tmp_path / "here"), methods=("miu", "group_dro")).jobs
    assert json.loads(found.stdout) == [job.identity for job in here]


def test_everything_that_decides_the_outcome_is_in_the_identity(problem, splits):
    base = preset().training(problem)

    def identity(setting=base, data=splits, of=problem):
        return identity_of_setting(of, setting, data)

    changes = [
        replace(base, net={**base.net, "lr": 0.06}),
        replace(base, net={**base.net, "batch_size": 32}),
        replace(base, net={**base.net, "max_epochs": 3}),
        replace(base, net={**base.net, "callbacks": []}),
        replace(base, net={**base.net, "optimizer__momentum": 0.8}),
        replace(base, net={**base.net, "module__width": 8}),
        replace(base, unlearner={**base.unlearner, "eta": 0.1}),
    ]
    others = [identity(setting) for setting in changes]
    assert identity() == identity()
    for other in others:
        assert other != identity()
    with_transforms = replace(splits, augmented=torch.utils.data.TensorDataset(torch.zeros(1)))
    augmented = replace(base, augment=True)
    assert identity(augmented) == identity(), "the data have no transforms"
    assert identity(augmented, with_transforms) != identity()
    elsewhere = replace(base, net={**base.net, "device": "cuda", "verbose": 1})
    assert identity(elsewhere) == identity(), "where it runs decides nothing"


def test_weights_are_told_by_their_content(problem, splits, tmp_path):
    base = preset().training(problem)

    def identity(path):
        return identity_of_setting(
            problem, replace(base, net={**base.net, "module__weights": str(path)}), splits
        )

    for name, content in [("a", b"one"), ("b", b"one"), ("c", b"other")]:
        (tmp_path / name).write_bytes(content)
    assert identity(tmp_path / "a") == identity(tmp_path / "b")
    assert identity(tmp_path / "a") != identity(tmp_path / "c")
    assert identity("imagenet")["net"]["module__weights"] == "imagenet"


class Thing:
    def __init__(self, value):
        self.value = value


class Silent:
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.5,
        "text",
        (1, 2),
        {"b": 1, 2: [3]},
        {"x", "y"},
        np.float64(0.1),
        np.arange(3),
        torch.ones(2),
        torch.float32,
        torch.device("cpu"),
        SmallCNN,
        partial(SmallCNN, width=4),
        LRScheduler("CosineAnnealingLR", T_max=3),
        Setting({"lr": 1}),
        Path("a/b"),
        Thing([1, Thing("x")]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_parameters_become_plain_values(value):
    found = describe(value)
    assert json.loads(json.dumps(found)) == found


def test_different_parameters_have_different_descriptions():
    assert describe(Thing(1)) != describe(Thing(2))
    assert describe(np.arange(3)) != describe(np.arange(3.0))
    assert describe(partial(SmallCNN, width=4)) != describe(partial(SmallCNN, width=5))
    assert describe({3, 1, 2}) == describe({2, 3, 1})
    with pytest.raises(TypeError, match="cannot be compared with that of an earlier run"):
        describe(Silent())


def test_nets_are_told_where_to_run(problem):
    setting = preset().training(problem)
    assert net_for(problem, setting, "cpu").device == "cpu"
    on_gpu = net_for(problem, setting, "cuda:1")
    assert on_gpu.device == "cuda:1"
    assert on_gpu.get_params()["iterator_valid__batch_size"] == 256
    assert net_for(problem, setting).lr == TRAINING["lr"]


def test_presets_of_the_package_give_plans(tmp_path):
    problem = get_problem("digits", device="cpu")
    plan = make_plan(problem, get_preset("shared"), Store(tmp_path), lines_for("all"), seeds=[0])
    assert not plan.left_out
    assert len({job.name for job in plan.jobs}) == len(plan.jobs)


def test_the_order_of_a_set_does_not_count():
    # it differs between processes, unlike that of a list
    assert describe({"x", "y", 3}) == describe(["x", "y", 3])
