import csv
import tomllib
from collections import Counter
from importlib.resources import files
from itertools import product

import pytest
import torch
from conftest import make_net
from skorch.callbacks import LRScheduler

from grmu_sk import RetrainUnlearner
from grmu_sk.benchmark.problem import Problem, get_problem, problem_names
from grmu_sk.benchmark.recipes import WarmUpSchedule
from grmu_sk.benchmark.settings import TablePreset, get_preset
from grmu_sk.training import fresh_net
from grmu_sk.unlearners import all_unlearners

METHODS = dict(all_unlearners())


@pytest.fixture(scope="module")
def reference():
    return get_preset("reference")


@pytest.fixture(scope="module")
def shared():
    return get_preset("shared")


def unlearning(preset, problem, method, *, ratio=0.5, forget="group", reweight=False):
    return preset.unlearning(problem, forget=forget, ratio=ratio, method=method, reweight=reweight)


# reference -------------------------------------------------------------------------------------


def test_miu_on_celeba_by_ratio_and_reweight(reference):
    # lambda 10 for CelebA 0.1 and 0.5; 1 for 0.9 with REWEIGHT, 10 without
    lam = {
        (ratio, reweight): unlearning(
            reference, "celeba", "miu", ratio=ratio, reweight=reweight
        ).unlearner["lam"]
        for ratio, reweight in product((0.1, 0.5, 0.9), (True, False))
    }
    assert lam[0.9, True] == 1
    assert {lam[key] for key in lam if key != (0.9, True)} == {10}


def test_one_setting_in_full(reference):
    setting = unlearning(reference, "waterbirds", "miu", ratio=0.9, reweight=True)
    assert setting.unlearner == {
        "lr": 0.1,
        "batch_size": 32,
        "max_epochs": 10,
        "forget_epochs": 5,
        "lam": 10.0,
        "mine_lr": 0.001,
        "mine_hidden": 512,
        "mine_momentum": 0.9,
        "moving_average_rate": 0.01,
        "reference": True,
        "reweight": True,
    }
    callbacks = setting.net.pop("callbacks")
    assert setting.net == {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 1e-4,
        "lr": 0.1,
        "batch_size": 32,
        "max_epochs": 10,
    }
    ((name, schedule),) = callbacks
    assert name == "schedule"
    assert isinstance(schedule, LRScheduler)
    assert (schedule.policy, schedule.kwargs) == ("CosineAnnealingLR", {"T_max": 10})
    assert setting.augment is True


def test_fairface_forgets_in_seven_epochs_but_for_one_file(reference):
    cells = [("group", 0.1), ("group", 0.5), ("group", 0.9), ("groups-9", 0.5), ("groups-25", 0.5)]
    found = {
        (*cell, reweight): unlearning(
            reference, "fairface", "miu", forget=cell[0], ratio=cell[1], reweight=reweight
        ).unlearner["forget_epochs"]
        for cell, reweight in product(cells, (True, False))
    }
    assert found.pop(("group", 0.5, False)) == 5
    assert set(found.values()) == {7}


def test_other_methods_get_their_own_parameters(reference):
    scrub = unlearning(reference, "fairface", "scrub").unlearner
    expected = {"alpha": 0.001, "gamma": 0.99, "temperature": 4.0, "retain_batch_size": 128}
    assert expected.items() <= scrub.items()
    assert scrub["forget_epochs"] == 7
    salun = unlearning(reference, "celeba", "salun").unlearner
    assert salun["threshold"] == 0.5
    assert salun["reference"] is True
    assert "forget_epochs" not in salun
    assert unlearning(reference, "celeba", "l1_sparse").unlearner["l1_penalty"] == 5e-4
    assert unlearning(reference, "waterbirds", "influence").unlearner["alpha"] == 5
    ssd = unlearning(reference, "waterbirds", "ssd")
    assert ssd.unlearner == {
        "selection_weighting": 0.1,
        "dampening_constant": 0.1,
        "reweight": False,
    }
    assert ssd.net["lr"] == 0.1  # what the constructor lacks goes into the net


def test_constant_rates_have_no_schedule(reference):
    assert unlearning(reference, "celeba", "salun").net["callbacks"] == []
    assert reference.training("multinli").net["callbacks"] == []


@pytest.mark.parametrize(
    ("problem", "lr", "weight_decay", "schedule"),
    [
        ("celeba", 0.01, 1e-4, "cosine"),
        ("waterbirds", 0.01, 1e-3, "constant"),
        ("fairface", 0.1, 1e-4, "cosine"),
    ],
)
@pytest.mark.parametrize(("method", "reweight"), [("pretrain", 0), ("retrain", 0), ("retrain", 1)])
def test_training_is_the_papers(reference, problem, lr, weight_decay, schedule, method, reweight):
    setting = reference.training(problem, method=method, reweight=bool(reweight))
    net = setting.net
    assert (net["lr"], net["optimizer__weight_decay"]) == (lr, weight_decay)
    assert (net["batch_size"], net["max_epochs"]) == (32, 30)
    ((_, warm_up),) = net["callbacks"]
    assert isinstance(warm_up, WarmUpSchedule)
    assert (warm_up.warmup_epochs, warm_up.schedule, warm_up.epochs) == (2, schedule, 30)
    assert setting.augment is True
    assert setting.unlearner == ({} if method == "pretrain" else {"reweight": bool(reweight)})


def test_group_dro_has_values_of_its_own(reference):
    celeba = reference.training("celeba", method="group_dro")
    assert (celeba.net["batch_size"], celeba.net["lr"]) == (256, 0.1)
    assert celeba.unlearner == {"eta": 0.1}
    waterbirds = reference.training("waterbirds", method="group_dro")
    assert (waterbirds.net["lr"], waterbirds.unlearner) == (0.001, {"eta": 0.001})
    fairface = reference.training("fairface", method="group_dro")
    assert (fairface.net["lr"], fairface.unlearner) == (0.1, {"eta": 0.001})


def test_bert_is_trained_with_adamw(reference):
    net = reference.training("multinli").net
    assert net["optimizer"] is torch.optim.AdamW
    assert net["lr"] == 1e-5
    assert "optimizer__momentum" not in net


def test_methods_without_a_file_have_the_fallback(reference):
    for method in ("fine_tune", "gradient_ascent", "random_label", "bad_teacher"):
        setting = unlearning(reference, "celeba", method, ratio=0.1)
        assert (setting.unlearner["lr"], setting.unlearner["batch_size"]) == (0.1, 32)
        assert setting.net["callbacks"] == []


def test_every_row_of_the_file_is_reached(reference):
    rows = list(
        csv.DictReader(
            files("grmu_sk.benchmark")
            .joinpath("data/reference_settings.csv")
            .read_text(encoding="utf-8")
            .splitlines()
        )
    )
    assert len(rows) == 124
    keys = [tuple(row[name] for name in list(row)[:6]) for row in rows]
    assert max(Counter(keys).values()) == 1
    reached = 0
    names = {theirs: ours for ours, theirs in OURS.items()}
    for row in rows:
        if row["dataset"] == "any" or row["method"] == "pretrain_gdro":
            continue
        method, reweight = names.get(row["method"], row["method"]), row["reweight"] == "1"
        if row["ratio"] == "any":
            setting = reference.training(row["dataset"], method=method, reweight=reweight)
        else:
            setting = unlearning(
                reference,
                row["dataset"],
                method,
                forget=row["forget"],
                ratio=float(row["ratio"]),
                reweight=reweight,
            )
        assert setting.net["lr"] == float(row["lr"])
        assert setting.augment == (row["use_train_aug"] == "1")
        reached += 1
    assert reached == 124 - 10 - 3


OURS = {"group_dro": "retrain_gdro"}


@pytest.mark.parametrize(
    ("problem", "forget", "ratio", "method", "reweight", "message"),
    [
        ("celeba", "group", 0.3, "miu", True, "ratio 0.3; they have group at 0.1, group at 0.5"),
        ("multinli", "group", 0.1, "miu", True, "they have group at 0.5"),
        ("celeba", "groups-9", 0.5, "miu", True, "no forget set 'groups-9'"),
        ("celeba", "group", 0.5, "sisa", False, "have none for sisa; they have l1_sparse, miu"),
        ("celeba", "group", 0.5, "ssd", True, r"have none for ssd \+ reweight"),
        ("celeba", "group", 0.5, "nothing", False, "have none for nothing"),
        ("fairface/small_cnn", "group", 0.5, "miu", True, "none for fairface/small_cnn"),
        ("adult_sex", "group", 0.5, "miu", True, "celeba/resnet18, fairface/resnet18"),
        ("celeba_attractive", "group", 0.5, "miu", True, "Use the preset 'shared'"),
        ("cifar", "group", 0.5, "miu", True, "no problem 'cifar'; there are celeba"),
    ],
)
def test_unknown_combinations_say_what_there_is(
    reference, problem, forget, ratio, method, reweight, message
):
    with pytest.raises(ValueError, match=message):
        unlearning(reference, problem, method, forget=forget, ratio=ratio, reweight=reweight)


def test_unknown_training_says_what_there_is(reference, shared):
    for preset in (reference, shared):
        with pytest.raises(ValueError, match=r"method must be one of \('pretrain', 'retrain'"):
            preset.training("celeba", method="miu")


def test_a_problem_is_found_by_its_network(reference, tmp_path):
    small = get_problem("fairface", tmp_path, net="small_cnn")
    with pytest.raises(ValueError, match="none for fairface/small_cnn"):
        reference.training(small)
    large = get_problem("fairface", tmp_path)
    assert reference.training(large).net["lr"] == 0.1


# shared ----------------------------------------------------------------------------------------


def default_keys():
    return [f"{name}/{net}" for name, net in DEFAULT_NETS.items()] + ["fairface/small_cnn"]


DEFAULT_NETS = {
    "celeba": "resnet18",
    "celeba_attractive": "resnet18",
    "waterbirds": "resnet18",
    "fairface": "resnet18",
    "multinli": "bert",
    "adult_sex": "mlp",
    "adult_race": "mlp",
    "digits": "small_cnn",
}


def test_every_problem_has_a_shared_setting(shared):
    assert list(DEFAULT_NETS) == problem_names()
    for key in default_keys():
        assert shared.training(key).net["max_epochs"] >= 10
        assert unlearning(shared, key, "miu", reweight=True).net["max_epochs"] == 10


@pytest.mark.parametrize("key", default_keys())
def test_methods_differ_in_nothing_but_what_they_are(shared, key):
    """The same net and learning parameters, with and without REWEIGHT, whatever the forget set."""

    def described(setting):
        net = dict(setting.net)
        schedules = [(name, cb.policy, cb.kwargs) for name, cb in net.pop("callbacks")]
        learning = {n: setting.unlearner.get(n) for n in ("lr", "batch_size", "max_epochs")}
        of_net = {"lr": net["lr"], "batch_size": net["batch_size"], "max_epochs": net["max_epochs"]}
        assert all(value in (None, of_net[name]) for name, value in learning.items())
        return net, schedules, setting.augment

    settings = [
        described(unlearning(shared, key, method, ratio=ratio, forget=forget, reweight=reweight))
        for method, unlearner in METHODS.items()
        if unlearner._needs_trained_net and unlearner._accepts_trained_net
        for ratio, forget in ((0.1, "group"), (0.9, "random"))
        for reweight in ((False, True) if "reweight" in unlearner._get_param_names() else (False,))
    ]
    assert len(settings) > 40
    assert all(setting == settings[0] for setting in settings)


def test_methods_that_train_from_scratch_train_like_retraining(shared):
    retrain = shared.training("fairface/small_cnn").net
    for method in ("group_dro", "subsample_retrain", "sisa"):
        net = unlearning(shared, "fairface/small_cnn", method).net
        assert (net["lr"], net["max_epochs"]) == (retrain["lr"], retrain["max_epochs"])
    budget = unlearning(shared, "fairface/small_cnn", "budget_retrain")
    assert (budget.net["lr"], budget.net["max_epochs"]) == (retrain["lr"], 10)
    assert budget.unlearner["max_epochs"] == 10
    assert budget.net["callbacks"][0][1].epochs == 10


def test_every_method_can_be_built(shared, reference):
    for preset, problem in ((shared, "adult_sex"), (reference, "celeba")):
        for method, unlearner in METHODS.items():
            try:
                setting = unlearning(preset, problem, method)
            except ValueError:
                assert preset is reference
                continue
            unlearner(make_net(), **setting.unlearner)


def test_reweight_is_refused_where_there_is_no_such_choice(shared):
    with pytest.raises(ValueError, match="gradient_ascent has no choice of REWEIGHT"):
        unlearning(shared, "adult_sex", "gradient_ascent", reweight=True)


def test_a_trained_net_takes_the_setting_of_unlearning(shared, table):
    training = shared.training("adult_sex", method="pretrain")
    net = make_net().set_params(**training.net)
    pretrained = RetrainUnlearner(net, reweight=False, random_state=0).fit(table.X, table.y)
    setting = unlearning(shared, "adult_sex", "fine_tune")
    net = fresh_net(pretrained.net_, **setting.net)
    assert net.lr == setting.net["lr"]
    rates = [group["lr"] for group in net.optimizer_.param_groups]
    assert rates == [setting.net["lr"]]
    for one, other in zip(
        net.module_.parameters(), pretrained.net_.module_.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_callbacks_are_new_for_each_setting(shared):
    one, other = (shared.training("adult_sex").net["callbacks"][0][1] for _ in range(2))
    assert one is not other


# a user's file ---------------------------------------------------------------------------------

OWN = """
["adult_sex/mlp".training]
lr = 0.1
batch_size = 128
epochs = 5
warmup_epochs = 1
schedule = "constant"

["adult_sex/mlp".training.group_dro]
eta = 0.5
lr = 0.02

["adult_sex/mlp".unlearning]
lr = 0.01
batch_size = 64
epochs = 4
forget_epochs = 2
optimizer = "adamw"

["adult_sex/mlp".unlearning.miu]
lam = 3.0
mine_lr = 0.5
"""


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    preset = get_preset(path)
    assert preset.name == "mine"
    dro = preset.training("adult_sex", method="group_dro")
    assert (dro.net["lr"], dro.net["batch_size"], dro.unlearner) == (0.02, 128, {"eta": 0.5})
    assert preset.training("adult_sex").net["lr"] == 0.1
    miu = unlearning(preset, "adult_sex", "miu", reweight=True)
    assert miu.unlearner == {
        "lr": 0.01,
        "batch_size": 64,
        "max_epochs": 4,
        "forget_epochs": 2,
        "lam": 3.0,
        "mine_lr": 0.5,
        "reweight": True,
    }
    assert miu.net["optimizer"] is torch.optim.AdamW
    assert "lam" not in unlearning(preset, "adult_sex", "scrub").unlearner
    with pytest.raises(ValueError, match=r"'mine' has no setting of training for digits/small_cnn"):
        preset.training("digits")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lam = 3.0", "lambda = 3.0", "unlearning.*miu has the entry 'lambda'"),
        ("forget_epochs = 2", "reweight = true", "has the entry 'reweight'"),
        ("forget_epochs = 2", "max_epochs = 2", "has the entry 'max_epochs'"),
        ("epochs = 5\n", "\n", "training.* has no epochs"),
        ("lr = 0.1\n", 'lr = "high"\n', "lr must be a number"),
        ("lr = 0.1\n", "lr = -1\n", "lr must be a number from 0"),
        ("batch_size = 128", "batch_size = 1.5", "batch_size must be a whole number from 1"),
        ('"adamw"', '"adam"', "optimizer must be one of"),
        ('"constant"', '"linear"', "schedule must be one of"),
        ("warmup_epochs = 1", "augment = 1", "augment must be true or false"),
        ('"adult_sex/mlp".training]', '"adult_age/mlp".training]', "no problem .'adult_age/mlp'"),
        ('"adult_sex/mlp".training]', '"adult_sex/bert".training]', "there are celeba/resnet18"),
        ("unlearning.miu", "unlearning.mui", "the method 'mui'"),
        ("unlearning", "forgetting", "training and unlearning, nothing else"),
        ("lr = 0.1", "lr = ", "cannot be used"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    assert old in OWN
    path.write_text(OWN.replace(old, new))
    with pytest.raises(ValueError, match=message) as raised:
        get_preset(path)
    assert str(path) in str(raised.value)


def test_an_unknown_preset_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Presets are 'reference', 'shared', or the path"):
        get_preset(tmp_path / "none.toml")


def test_a_table_in_memory_works_too():
    preset = TablePreset("mine", tomllib.loads(OWN))
    problem = Problem("adult_sex", None, None, {}, "mlp")
    assert preset.training(problem).net["batch_size"] == 128
