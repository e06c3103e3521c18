import pickle
import sys

import numpy as np
import pytest
import torch
from conftest import same_weights
from official_trees import adult_tree, celeba_tree, fairface_tree, multinli_tree, waterbirds_tree
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torchvision.models import ResNet

from grmu_sk import FineTuneUnlearner, MIUUnlearner, RetrainUnlearner
from grmu_sk.benchmark.forget_sets import draw_forget_set
from grmu_sk.benchmark.problem import get_problem, problem_names
from grmu_sk.benchmark.settings import get_preset
from grmu_sk.datasets import ImageRows, load_adult, load_fairface
from grmu_sk.nets import SmallCNN
from grmu_sk.training import fresh_net

TREES = {
    "celeba": celeba_tree,
    "celeba_attractive": celeba_tree,
    "waterbirds": waterbirds_tree,
    "fairface": fairface_tree,
    "multinli": multinli_tree,
    "adult_sex": adult_tree,
    "adult_race": adult_tree,
}
IMAGES = ("celeba", "celeba_attractive", "waterbirds", "fairface")


class TinyText(nn.Module):
    """Stands in for BERT: it embeds token numbers."""

    def __init__(self, n_classes, weights=None):
        super().__init__()
        self.embedding = nn.Embedding(2000, 4)
        self.head = nn.Linear(4, n_classes)

    def forward(self, X):
        numbers, mask, _ = X.long().unbind(dim=-1)
        return self.head((self.embedding(numbers) * mask[:, :, None]).mean(dim=1))


class TinyImages(SmallCNN):
    """Stands in for ResNet-18 where the network does not matter: it is quicker."""

    def __init__(self, n_classes, weights=None):
        super().__init__(n_classes, width=4)


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """A tiny tree of each data set, written once."""
    trees = {}
    for write in set(TREES.values()):
        folder = tmp_path_factory.mktemp(write.__name__)
        more = {"n_each": 12} if write is adult_tree else {}
        trees[write] = write(folder, **more)
    return {name: trees[write] for name, write in TREES.items()}


def problem_of(name, roots, **options):
    if name in IMAGES:
        options = {"image_size": 16, **options}
        if options.get("net") != "small_cnn":
            options.setdefault("weights", "none")
    return get_problem(name, roots.get(name), device="cpu", **options)


# what is loaded --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", problem_names())
def test_the_groups_of_every_forget_set_exist(name, roots):
    problem = problem_of(name, roots)
    splits = problem.load(0)
    assert splits.name == name
    assert splits.forget_groups == problem.forget_sets["group"]
    for forget, pairs in problem.forget_sets.items():
        forget_set = draw_forget_set(splits, pairs, 0.5, seed=0)
        forgotten = set(
            zip(
                splits.train.y[forget_set.rows].tolist(),
                splits.train.groups[forget_set.rows].tolist(),
                strict=True,
            )
        )
        assert forgotten <= set(pairs) if pairs else len(forgotten) > 1, forget
        assert problem.pairs(forget) == pairs
    with pytest.raises(ValueError, match="has no forget set 'pairs-7'; it has 'group'"):
        problem.pairs("pairs-7")


@pytest.mark.parametrize("name", problem_names())
def test_splits_have_as_many_inputs_as_labels(name, roots):
    splits = problem_of(name, roots).load(0)
    for part in (splits.train, splits.validation, splits.test):
        assert len(part.X) == len(part.y) == len(part.groups) > 0
    if splits.augmented is not None:
        assert len(splits.augmented) == len(splits.train.y)


def test_rows_are_those_of_the_reader(roots):
    bunch = load_fairface(roots["fairface"], random_state=5)
    splits = problem_of("fairface", roots, net="small_cnn").load(5)
    for split in ("train", "validation", "test"):
        part, rows = getattr(splits, split), bunch[split]
        assert part.y.tolist() == [bunch.target_names[code] for code in bunch.target[rows]]
        assert part.groups.tolist() == [bunch.group_names[code] for code in bunch.groups[rows]]
        # the reader's photographs are as large as these, so they are only cropped and scaled
        first = ImageRows(bunch.data, rows=rows[:1]).batch([0])
        assert torch.corrcoef(torch.stack([first.mean((2, 3))[0], part.X[0].mean((1, 2))]))[
            0, 1
        ] == pytest.approx(1, abs=0.05)


def test_random_cuts_follow_the_seed(roots):
    for name in ("fairface", "adult_sex", "digits"):
        problem = problem_of(name, roots)
        one, again, other = (problem.load(seed) for seed in (0, 0, 1))
        assert one.train.y.tolist() == again.train.y.tolist()
        assert one.train.y.tolist() != other.train.y.tolist()
    official = problem_of("celeba", roots)
    assert official.load(0).train.y.tolist() == official.load(1).train.y.tolist()


def test_the_two_problems_on_celeba_have_different_targets(roots):
    blond, attractive = (problem_of(name, roots).load(0) for name in IMAGES[:2])
    assert set(blond.train.y) == {"Blond_Hair", "not Blond_Hair"}
    assert set(attractive.train.y) == {"Attractive", "not Attractive"}
    assert blond.train.groups.tolist() == attractive.train.groups.tolist()


@pytest.mark.parametrize("name", IMAGES)
def test_only_training_inputs_are_augmented(name, roots):
    splits = problem_of(name, roots).load(0)
    rows = list(range(6))
    assert splits.training_inputs(False) is splits.train.X
    drawn = [splits.training_inputs(True).batch(rows) for _ in range(2)]
    assert drawn[0].shape == drawn[1].shape == (6, 3, 16, 16)
    assert not torch.equal(*drawn)
    plain = torch.stack([splits.train.X[i] for i in rows])
    assert torch.equal(plain, torch.stack([splits.train.X[i] for i in rows]))
    without = problem_of(name, roots, augment=False).load(0)
    assert without.augmented is None
    assert without.training_inputs(True) is without.train.X


@pytest.mark.parametrize("name", IMAGES)
def test_a_cache_changes_nothing(name, roots, tmp_path, monkeypatch):
    plain = problem_of(name, roots).load(0)
    cached = problem_of(name, roots, cache_dir=tmp_path / "cache")
    first, second = cached.load(0), cached.load(0)
    assert list((tmp_path / "cache").glob("*-16.npy"))
    # with little room, images are read from their files, or mapped
    monkeypatch.setattr("grmu_sk.benchmark._loading.MOST_BYTES_IN_MEMORY", 0)
    mapped, lazy = cached.load(0), problem_of(name, roots).load(0)
    assert isinstance(mapped.test.X.images, np.memmap)
    assert isinstance(lazy.test.X, ImageRows)
    rows = range(len(plain.test.y))
    expected = torch.stack([plain.test.X[i] for i in rows])
    for splits in (first, second, mapped, lazy):
        assert torch.equal(torch.stack([splits.test.X[i] for i in rows]), expected)
        torch.manual_seed(0)
        one = plain.augmented.batch([0, 1])
        torch.manual_seed(0)
        assert torch.equal(splits.augmented.batch([0, 1]), one)


def test_adult_has_the_same_columns_whatever_the_seed(roots, tmp_path):
    root = adult_tree(tmp_path, n_each=12)
    lines = (root / "adult.data").read_text().splitlines()
    lines[0] = lines[0].replace("Sales", "Armed-Forces").replace("?", "Armed-Forces")
    (root / "adult.data").write_text("\n".join(lines) + "\n")
    problem = get_problem("adult_race", root, device="cpu")
    n_own = {load_adult(root, random_state=seed).data.shape[1] for seed in range(30)}
    assert len(n_own) == 2, "otherwise the test shows nothing"
    splits = [problem.load(seed) for seed in range(30)]
    n_columns = {part.X.shape[1] for s in splits for part in (s.train, s.validation, s.test)}
    assert n_columns == {max(n_own)}
    assert problem.net().module__n_features == max(n_own)
    # a column that only one category has is the same whatever else there is
    bunch = load_adult(root, attribute="race", random_state=3)
    rich = bunch.data[bunch.train][:, bunch.feature_names.index("education-num")]
    found = splits[3].train.X
    assert any(np.array_equal(found[:, k], rich) for k in range(found.shape[1]))


@pytest.mark.parametrize("name", problem_names())
def test_problems_can_be_sent_to_other_processes(name, roots):
    problem = pickle.loads(pickle.dumps(problem_of(name, roots)))
    assert problem.load(0).train.y.tolist() == problem_of(name, roots).load(0).train.y.tolist()
    assert isinstance(problem.net(), NeuralNetClassifier)
    assert problem.key == f"{name}/{problem.net_name}"


# the networks ----------------------------------------------------------------------------------


def test_the_small_network_computes_the_same_as_the_plain_one(roots):
    problem = problem_of("fairface", roots, net="small_cnn", image_size=32)
    torch.manual_seed(0)
    net = problem.net().initialize()
    plain = SmallCNN(**net.get_params_for("module"))
    plain.load_state_dict(net.module_.state_dict())
    X = torch.randn(20, 3, 32, 32)
    y = torch.randint(9, (20,))
    gradients = []
    for module in (plain.train(), net.module_.train()):
        loss = nn.functional.cross_entropy(module(X), y)
        loss.backward()
        gradients.append([loss, *(p.grad for p in module.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert all(p.is_contiguous() and p.grad.is_contiguous() for p in net.module_.parameters())
    # channels last, indeed
    seen = []
    net.module_.features[0].register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    net.module_(X)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


@pytest.mark.parametrize("name", problem_names())
def test_nets_are_plain_skorch_nets(name, roots):
    net = problem_of(name, roots).net()
    assert net.train_split is None
    assert net.verbose == 0
    assert net.device == "cpu"
    assert net.criterion is nn.CrossEntropyLoss
    assert not net.initialized_


def test_the_default_device_is_the_gpu_if_there_is_one(monkeypatch):
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert get_problem("digits").net().device == device
    with pytest.raises(ValueError, match="there is none: use device='cpu'"):
        get_problem("digits", device="cuda")


def test_images_are_read_by_as_many_processes_as_asked_for(roots):
    net = problem_of("celeba", roots, num_workers=2).net()
    assert (net.iterator_train__num_workers, net.iterator_valid__num_workers) == (2, 2)


def test_pretrained_weights_come_from_a_file(roots, tmp_path):
    torch.manual_seed(1)
    source = problem_of("celeba", roots).net().initialize().module_
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    net = problem_of("celeba", roots, weights=path).net().initialize()
    assert torch.equal(net.module_.conv1.weight, source.conv1.weight)
    assert not torch.equal(net.module_.fc.weight, source.fc.weight)
    with pytest.raises(FileNotFoundError, match=r"no file of weights at .*gone"):
        problem_of("celeba", roots, weights=tmp_path / "gone.pth")


def test_the_paper_starts_from_trained_weights(roots):
    assert get_problem("celeba", roots["celeba"]).net().module__weights == "imagenet"
    assert get_problem("multinli", roots["multinli"]).net().module__weights == "bert-base-uncased"
    assert problem_of("celeba", roots).net().module__weights is None


def test_bert_without_transformers_says_what_to_install(roots, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    problem = problem_of("multinli", roots, weights="none")
    with pytest.raises(ImportError, match="pip install"):
        problem.net().initialize()


# each problem with each preset -----------------------------------------------------------------


def net_of(problem, setting):
    net = problem.net()
    stand_in = {"bert": TinyText, "resnet18": TinyImages}.get(problem.net_name)
    if stand_in is not None:
        net.set_params(module=stand_in)
    return net.set_params(**setting.net).set_params(max_epochs=1)


COMBINATIONS = [
    ("shared", name, {"net": "small_cnn"} if name == "fairface" else {}) for name in problem_names()
]
COMBINATIONS += [
    ("reference", name, {}) for name in ("celeba", "waterbirds", "fairface", "multinli")
]


@pytest.mark.parametrize(("preset", "name", "options"), COMBINATIONS)
def test_every_problem_trains_and_unlearns_with_every_preset(preset, name, options, roots):
    problem = problem_of(name, roots, **options)
    splits, preset = problem.load(0), get_preset(preset)
    forget_set = draw_forget_set(splits, problem.pairs("group"), 0.5, seed=0)
    train = splits.train

    setting = preset.training(problem, method="pretrain")
    X = splits.training_inputs(setting.augment)
    pretrained = RetrainUnlearner(net_of(problem, setting), reweight=False, random_state=0)
    pretrained.fit(X, train.y, train.groups)
    assert len(pretrained.history_) == 1
    assert np.isfinite(pretrained.history_[-1, "train_loss"])

    setting = preset.training(problem, reweight=True)
    X = splits.training_inputs(setting.augment)
    gold = RetrainUnlearner(net_of(problem, setting), random_state=0, **setting.unlearner)
    gold.fit(X, train.y, train.groups, forget=forget_set.mask(len(train.y)))
    assert gold.forget_idx_.tolist() == forget_set.rows.tolist()

    setting = preset.unlearning(problem, forget="group", ratio=0.5, method="miu", reweight=True)
    net = fresh_net(pretrained.net_, **setting.net)
    parameters = setting.unlearner | {"max_epochs": 1}
    unlearner = MIUUnlearner(FrozenEstimator(net), random_state=0, **parameters)
    X = splits.training_inputs(setting.augment)
    unlearner.fit(X, train.y, train.groups).unlearn(forget_set.rows)
    assert unlearner.history_[:, "phase"][-3:] == ["tune", "forget", "retain"]
    assert not same_weights(unlearner, pretrained)
    assert unlearner.predict(splits.test.X).shape == splits.test.y.shape


def test_resnet_trains(roots):
    problem = problem_of("waterbirds", roots, image_size=32)
    splits, setting = problem.load(0), get_preset("reference").training("waterbirds")
    net = problem.net().set_params(**setting.net).set_params(max_epochs=1)
    model = RetrainUnlearner(net, reweight=False, random_state=0)
    model.fit(splits.training_inputs(setting.augment), splits.train.y)
    assert isinstance(model.net_.module_, ResNet)
    assert model.predict_proba(splits.test.X).shape == (len(splits.test.y), 2)


def test_a_setting_ends_at_the_rate_of_its_own_schedule(roots):
    """Thirty epochs of training do not leak into ten of unlearning."""
    problem, preset = get_problem("digits", device="cpu"), get_preset("shared")
    splits = problem.load(0)
    training = preset.training(problem, method="pretrain")
    net = problem.net().set_params(**training.net).set_params(max_epochs=1)
    pretrained = RetrainUnlearner(net, reweight=False, random_state=0)
    pretrained.fit(splits.train.X, splits.train.y)
    setting = preset.unlearning(
        problem, forget="group", ratio=0.5, method="fine_tune", reweight=False
    )
    net = fresh_net(pretrained.net_, **setting.net)
    unlearner = FineTuneUnlearner(FrozenEstimator(net), random_state=0, **setting.unlearner)
    unlearner.fit(splits.train.X, splits.train.y).unlearn([0])
    rates = unlearner.history_[-10:, "event_lr"]
    expected = setting.net["lr"] * (1 + np.cos(np.pi * np.arange(10) / 10)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


# mistakes --------------------------------------------------------------------------------------


def test_unknown_problems_are_refused():
    with pytest.raises(ValueError, match="no problem 'cifar10'; there are celeba, "):
        get_problem("cifar10")


@pytest.mark.parametrize("name", [name for name in problem_names() if name != "digits"])
def test_missing_data_are_named(name, tmp_path):
    with pytest.raises(ValueError, match=rf"{name} needs data_root.*grmu_sk.datasets.load_"):
        get_problem(name)
    with pytest.raises(FileNotFoundError, match=r"nothing at .*gone"):
        get_problem(name, tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        get_problem(name, tmp_path).load(0)


def test_digits_have_no_data_root(tmp_path):
    with pytest.raises(ValueError, match="come with the package"):
        get_problem("digits", tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("celeba", {"size": 32}, "no option 'size'; celeba takes net, image_size, weights"),
        ("adult_sex", {"image_size": 32}, "'image_size' does not apply to adult_sex"),
        ("multinli", {"augment": True}, "'augment' does not apply to multinli"),
        ("celeba", {"net": "bert"}, r"net for celeba must be one of \('resnet18', 'small_cnn'\)"),
        ("celeba", {"image_size": 2}, "image_size must be at least 8 pixels, got 2"),
        ("celeba", {"image_size": "big"}, "image_size must be at least 8 pixels, got 'big'"),
        ("celeba", {"net": "small_cnn", "weights": "imagenet"}, "leave weights out"),
        ("celeba", {"device": "gpu9"}, "device must be a device of torch, got 'gpu9'"),
        ("celeba", {"num_workers": -1}, "num_workers must be a whole number from 0"),
    ],
)
def test_bad_options_are_refused(name, options, message, roots):
    with pytest.raises(ValueError, match=message):
        get_problem(name, roots[name], **options)


def test_options_that_are_none_are_not_given(roots):
    problem = get_problem("adult_sex", roots["adult_sex"], image_size=None, net=None, weights=None)
    assert problem.net_name == "mlp"
