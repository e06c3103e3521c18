import pytest
import torch
from conftest import make_net

from grmu_sk.benchmark import get_preset
from grmu_sk.results import PRETRAIN, RETRAIN, Row
from grmu_sk.unlearners import all_unlearners

METHODS = dict(all_unlearners())


@pytest.fixture(scope="module")
def reference():
    return get_preset("reference")


@pytest.fixture(scope="module")
def shared():
    return get_preset("shared")


def test_one_setting_in_full(reference):
    setting = reference.setting("waterbirds/resnet18", Row("miu", True), "group", 0.9)
    learning = {"lr": 0.1, "batch_size": 32, "max_epochs": 10}
    mine = {"mine_lr": 0.001, "mine_hidden": 512, "mine_momentum": 0.9}
    switches = {"moving_average_rate": 0.01, "reference": True, "reweight": True}
    assert setting.parameters == {**learning, **mine, **switches, "forget_epochs": 5, "lam": 10.0}
    net = setting.net()
    ((_, schedule),) = net.pop("callbacks")
    sgd = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
    assert net == {**sgd, "optimizer__weight_decay": 1e-4, **learning}
    assert (schedule.warmup_epochs, schedule.schedule, schedule.epochs) == (0, "cosine", 10)
    assert setting.augment
    assert reference.setting("celeba/resnet18", PRETRAIN).parameters == {}
    bert = reference.setting("multinli/bert", RETRAIN).net()
    assert (bert["optimizer"], bert["lr"]) == (torch.optim.AdamW, 1e-5)
    assert bert["callbacks"][0][1].schedule == "constant"


def test_unknown_combinations_are_refused(reference):
    for problem, row, message in [
        ("celeba/resnet18", Row("miu", True), "ratio 0.3.*'group-0.1'"),
        ("celeba/resnet18", Row("gradient_ascent", True), "no choice of REWEIGHT"),
        ("cifar/net", Row("miu", True), "problems .*celeba/resnet18"),
    ]:
        with pytest.raises(ValueError, match=message):
            reference.setting(problem, row, "group", 0.3)


@pytest.mark.parametrize("key", ["digits/small_cnn", "celeba/resnet18"])
def test_methods_differ_in_nothing_but_what_they_are(shared, key):
    """The same net and learning parameters, with and without REWEIGHT, whatever the forget set."""
    found = {"training": set(), "unlearning": set()}
    for name, kind in METHODS.items():
        is_trained = kind._needs_trained_net and kind._accepts_trained_net
        for reweight in {False, "reweight" in kind._get_param_names()}:
            for cell in (("group", 0.1), ("random", 0.9)):
                setting = shared.setting(key, Row(name, reweight), *cell)
                kind(make_net(), **setting.parameters)
                learning = {n: setting.parameters.get(n) for n in ("lr", "batch_size")}
                assert all(v in (None, getattr(setting, n)) for n, v in learning.items())
                recipe = repr(setting).partition(", parameters=")[0]
                if "budget" not in name:
                    found["unlearning" if is_trained else "training"].add(recipe)
    assert [len(recipes) for recipes in found.values()] == [1, 1]


OWN = """
["adult_sex/mlp".training]
lr = 0.1
batch_size = 128
epochs = 5
schedule = "constant"
group_dro = { eta = 0.5, lr = 0.02 }

["adult_sex/mlp".unlearning]
lr = 0.01
batch_size = 64
epochs = 4
forget_epochs = 2
optimizer = "adamw"
miu = { lam = 3.0, mine_lr = 0.5 }
"scrub + reweight" = { lr = 0.5 }
"""


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    rows = [Row("miu", True, "lam=7", {"lam": 7}), Row("scrub", False), Row("scrub", True)]
    of = [get_preset(path).setting("adult_sex/mlp", row, "group", 0.5) for row in rows]
    common = {"lr": 0.01, "batch_size": 64, "max_epochs": 4, "forget_epochs": 2}
    assert of[0].parameters == {**common, "lam": 7, "mine_lr": 0.5, "reweight": True}
    assert of[0].net()["optimizer"] is torch.optim.AdamW
    assert (of[1].lr, of[2].lr, "lam" in of[1].parameters) == (0.01, 0.5, False)
    dro = get_preset(path).setting("adult_sex/mlp", Row("group_dro", False))
    assert (dro.lr, dro.batch_size, dro.parameters) == (0.02, 128, {"eta": 0.5})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lam = 3.0", "lambda = 3.0", "unlearning.*miu has {'lambda'}"),
        ("forget_epochs = 2", "reweight = true", "has {'reweight'}"),
        ("epochs = 5\n", "\n", "training.* has no {'epochs'}"),
        ("unlearning", "forgetting", "may have no table 'forgetting'"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(ValueError, match=message) as raised:
        get_preset(path)
    assert str(path) in str(raised.value)
