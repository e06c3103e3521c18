import numpy as np
import pytest
import torch
from conftest import make_net, make_table, same_weights
from skorch.callbacks import GradientNormClipping
from softmax_regression import SoftmaxRegression, linear_net
from torch import nn

from grmu_sk import RandomLabelUnlearner, SalUnUnlearner
from grmu_sk.unlearners import salun

FORGET = list(range(30, 60))
SHORT = {"max_epochs": 3, "random_state": 0}


@pytest.fixture
def masks(monkeypatch):
    """The masks of the latest request."""
    latest = []
    original = salun._largest

    def spy(*args):
        latest[:] = original(*args)
        return latest

    monkeypatch.setattr(salun, "_largest", spy)
    return latest


def parameters_of(unlearner):
    return [p.detach().clone() for p in unlearner.net_.module_.parameters()]


def moved(before, unlearner):
    """Where the bits of each parameter changed."""
    return [old != new for old, new in zip(before, parameters_of(unlearner), strict=True)]


def run(table, net, **kwargs):
    unlearner = SalUnUnlearner(net, **{**SHORT, **kwargs}).fit(table.X, table.y, table.a)
    before = parameters_of(unlearner)
    return unlearner.unlearn(FORGET), before


@pytest.mark.parametrize(("threshold", "n_kept"), [(0.5, 7), (0.2, 3), (0.01, 1), (1.0, 15)])
@pytest.mark.parametrize("batch_size", [-1, 7])
@pytest.mark.parametrize("reference", [False, True])
def test_mask_by_hand(masks, threshold, n_kept, batch_size, reference):
    """The n_kept largest of |sum over batches of the gradient of the mean cross-entropy|."""
    table = make_table(n_classes=3)
    net = linear_net(module__n_classes=3, batch_size=batch_size)
    unlearner = SalUnUnlearner(net, threshold=threshold, reference=reference, **SHORT)
    unlearner.fit(table.X, table.y, table.a)
    by_hand = SoftmaxRegression(unlearner)
    unlearner.unlearn(FORGET)
    even = np.array_split(FORGET, 1 if batch_size == -1 else 5)
    short_last = np.split(FORGET, [] if batch_size == -1 else [7, 14, 21, 28])
    summed = [np.zeros((3, 4)), np.zeros(3)]
    for rows in short_last if reference else even:
        for total, part in zip(summed, by_hand.gradient(table.X[rows], table.y[rows]), strict=True):
            total += part
    saliency = np.abs(np.concatenate([part.ravel() for part in summed]))
    expected = saliency >= np.sort(saliency)[-n_kept]
    assert expected.sum() == n_kept
    np.testing.assert_array_equal(np.concatenate([m.numpy().ravel() for m in masks]), expected)


OPTIMIZERS = {
    "sgd": {
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 0.1,
        "optimizer__nesterov": True,
    },
    "adamw": {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1, "lr": 0.01},
    "rmsprop": {"optimizer": torch.optim.RMSprop, "optimizer__momentum": 0.9, "lr": 0.01},
    "lbfgs": {"optimizer": torch.optim.LBFGS, "lr": 0.1},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_weights_keep_every_bit(masks, table, optimizer):
    unlearner, before = run(table, make_net(**OPTIMIZERS[optimizer]))
    for changed, mask in zip(moved(before, unlearner), masks, strict=True):
        assert not (changed & ~mask).any()
    n_weights = sum(mask.numel() for mask in masks)
    assert sum(mask.sum() for mask in masks) == n_weights // 2
    n_moved = sum(changed.sum() for changed in moved(before, unlearner))
    assert n_moved > 0.9 * (n_weights // 2), "what is trainable is trained"


def test_reference_masks_gradients_only(masks, table):
    """Weight decay then shrinks the others by lr * decay a step; without decay they stay."""
    lr, decay = 0.05, 0.1
    net = make_net(optimizer__momentum=0.0, optimizer__weight_decay=decay, lr=lr)
    unlearner, before = run(table, net, reference=True)
    n_steps = 3 * (1 + 5)
    assert sum(row["train_batch_count"] for row in unlearner.history_[-6:]) == n_steps
    for old, new, mask in zip(before, parameters_of(unlearner), masks, strict=True):
        expected = old * (1 - lr * decay) ** n_steps
        torch.testing.assert_close(new[~mask], expected[~mask], rtol=1e-5, atol=1e-7)
        assert not torch.equal(new[~mask], old[~mask]) or mask.all()
    unlearner, before = run(table, make_net(), reference=True)
    for changed, mask in zip(moved(before, unlearner), masks, strict=True):
        assert not (changed & ~mask).any()


def test_short_last_batch_changes_the_mask_in_the_reference(masks, table):
    run(table, make_net(batch_size=29), reference=False)
    even = torch.cat([mask.flatten() for mask in masks])
    run(table, make_net(batch_size=29), reference=True)
    one_row_counts_as_29 = torch.cat([mask.flatten() for mask in masks])
    assert (even != one_row_counts_as_29).float().mean() > 0.05


@pytest.mark.parametrize("exclude_true", [False, True])
@pytest.mark.parametrize("reweight", [False, True])
def test_with_all_weights_it_is_random_labelling(table, exclude_true, reweight):
    switches = {"exclude_true": exclude_true, "reweight": reweight, "lr": 0.02, "batch_size": 20}
    unlearner, _ = run(table, make_net(), threshold=1.0, **switches)
    other = RandomLabelUnlearner(make_net(), **SHORT, **switches)
    other.fit(table.X, table.y, table.a).unlearn(FORGET)
    assert same_weights(unlearner, other)
    assert not same_weights(run(table, make_net(), threshold=0.5, **switches)[0], other)


def test_ranking_is_global(masks, table):
    """A layer whose gradients are tiny is frozen as a whole, not half of it."""

    def build():
        module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        module[2].weight.data *= 1e-4
        return module

    run(table, make_net(build, max_epochs=1, lr=1e-9), threshold=0.25)
    shares = [mask.float().mean().item() for mask in masks]
    assert max(shares[:2]) == 0
    assert min(shares[2:]) > 0.5


def test_batch_norm_follows_the_batches_and_the_mask_pass_does_not_touch_it(image_net):
    table = make_table(n_rows=96, images=True)
    unlearner = SalUnUnlearner(image_net, max_epochs=1, threshold=1e-6, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    before, norm = parameters_of(unlearner), unlearner.net_.module_.features[1]
    batches, mean = norm.num_batches_tracked.item(), norm.running_mean.clone()
    unlearner.unlearn(FORGET)
    norm = unlearner.net_.module_.features[1]
    assert norm.num_batches_tracked.item() == batches + 1 + 3  # forget and retain batches
    assert not torch.equal(norm.running_mean, mean)
    assert sum(changed.sum() for changed in moved(before, unlearner)) == 1


def test_frozen_weights_do_not_count_in_gradient_clipping(table, monkeypatch):
    norms = []
    original = nn.utils.clip_grad_norm_

    def clip(parameters, *args, **kwargs):
        parameters = list(parameters)
        norms.append(sum((p.grad != 0).sum().item() for p in parameters))
        return original(parameters, *args, **kwargs)

    monkeypatch.setattr("skorch.callbacks.regularization.clip_grad_norm_", clip)
    callbacks = [GradientNormClipping(gradient_clip_value=0.1)]
    run(table, make_net(callbacks=callbacks, max_epochs=1), threshold=0.1)
    n_weights = sum(p.numel() for p in make_net().initialize().module_.parameters())
    assert max(norms[:5]) > 0.5 * n_weights, "the first fit trains all weights"
    assert max(norms[5:]) <= 0.1 * n_weights


def test_mask_is_made_anew_for_each_request(masks, table):
    unlearner = SalUnUnlearner(make_net(), **SHORT).fit(table.X, table.y, table.a)
    unlearner.unlearn(FORGET)
    first = [mask.clone() for mask in masks]
    before = parameters_of(unlearner)
    unlearner.unlearn(list(range(70, 90)))
    assert not all(map(torch.equal, first, masks))
    for changed, mask in zip(moved(before, unlearner), masks, strict=True):
        assert not (changed & ~mask).any()
    assert not any(p._backward_hooks for p in unlearner.net_.module_.parameters())
    assert not unlearner.net_.optimizer_._optimizer_step_post_hooks
