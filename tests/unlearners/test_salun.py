import numpy as np
import pytest
import torch
from conftest import fitted, make_net, make_table, same_weights
from softmax_regression import Part, SoftmaxRegression, linear_net

from grmu_sk import RandomLabelUnlearner, SalUnUnlearner
from grmu_sk.unlearners import salun

FORGET = list(range(30, 60))
SHORT = {"max_epochs": 3}


@pytest.fixture
def masks(spy):
    """The masks of each request."""
    return spy(salun, "_largest")


def parameters_of(unlearner):
    return [p.detach().clone() for p in unlearner.net_.module_.parameters()]


def moved_by(unlearner, forget=FORGET):
    """Which bits of the parameters a request changes."""
    before = parameters_of(unlearner)
    return list(map(torch.ne, before, parameters_of(unlearner.unlearn(forget))))


def assert_frozen(moved, masks):
    assert not any((changed & ~mask).any() for changed, mask in zip(moved, masks, strict=True))


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(
    ("threshold", "n_kept", "batch_size"), [(0.5, 7, 7), (0.2, 3, 7), (0.01, 1, -1)]
)
def test_mask_by_hand(masks, threshold, n_kept, batch_size, reference):
    """The n_kept largest of |sum over batches of the gradient of the mean cross-entropy|."""
    table = make_table(n_classes=3)
    net = linear_net(module__n_classes=3, batch_size=batch_size)
    unlearner = fitted(SalUnUnlearner, table, net, threshold=threshold, reference=reference)
    by_hand = SoftmaxRegression(unlearner.net_)
    unlearner.unlearn(FORGET)
    even = np.array_split(FORGET, 1 if batch_size == -1 else 5)
    short_last = np.split(FORGET, [] if batch_size == -1 else [7, 14, 21, 28])
    batches = short_last if reference else even
    saliency = np.abs(sum(by_hand.gradient(Part.of(table, rows)) for rows in batches))
    expected = saliency >= np.sort(saliency, axis=None)[-n_kept]
    assert expected.sum() == n_kept
    np.testing.assert_array_equal(np.c_[tuple(mask.numpy() for mask in masks[0])], expected)


SGD = {"optimizer__momentum": 0.9, "optimizer__nesterov": True}
OPTIMIZERS = {
    "sgd": {**SGD, "optimizer__weight_decay": 0.1},
    "adamw": {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1, "lr": 0.01},
    "rmsprop": {"optimizer": torch.optim.RMSprop, "optimizer__momentum": 0.9, "lr": 0.01},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_weights_keep_every_bit(masks, table, optimizer):
    unlearner = fitted(SalUnUnlearner, table, make_net(**OPTIMIZERS[optimizer]), **SHORT)
    moved = moved_by(unlearner)
    assert_frozen(moved, masks[0])
    half = sum(mask.numel() for mask in masks[0]) // 2
    assert sum(mask.sum() for mask in masks[0]) == half
    assert sum(part.sum() for part in moved) > 0.9 * half, "what is trainable is trained"
    assert_frozen(moved_by(unlearner, range(70, 90)), masks[1])  # made anew for each request
    assert not all(map(torch.equal, *masks))
    assert not any(p._backward_hooks for p in unlearner.net_.module_.parameters())
    assert not unlearner.net_.optimizer_._optimizer_step_post_hooks


def test_reference_masks_gradients_only(masks, table):
    """Weight decay then shrinks the others by lr * decay a step; without decay they stay."""
    lr, decay, n_steps = 0.05, 0.1, 3 * (1 + 5)
    net = make_net(optimizer__momentum=0.0, optimizer__weight_decay=decay, lr=lr)
    unlearner = fitted(SalUnUnlearner, table, net, reference=True, **SHORT)
    before = parameters_of(unlearner)
    after = parameters_of(unlearner.unlearn(FORGET))
    for old, new, mask in zip(before, after, masks[0], strict=True):
        expected = old * (1 - lr * decay) ** n_steps
        torch.testing.assert_close(new[~mask], expected[~mask], rtol=1e-5, atol=1e-7)
    assert_frozen(moved_by(fitted(SalUnUnlearner, table, reference=True, **SHORT)), masks[1])


def test_with_all_weights_it_is_random_labelling(table):
    switches = {"exclude_true": True, "reweight": True, "lr": 0.02, "batch_size": 20, **SHORT}
    other = fitted(RandomLabelUnlearner, table, **switches).unlearn(FORGET)
    for threshold in (1.0, 0.5):
        unlearner = fitted(SalUnUnlearner, table, threshold=threshold, **switches)
        assert same_weights(unlearner.unlearn(FORGET), other) == (threshold == 1)
