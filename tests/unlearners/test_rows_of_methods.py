"""What rows, labels and weights methods draw, and whom they ask; the steps: test_closed_forms."""

import numpy as np
import pytest
import torch
from conftest import fitted, make_net, make_table, state_of
from torch import nn

from grmu_sk import (
    BadTeacherUnlearner,
    NegGradPlusUnlearner,
    SCRUBUnlearner,
    ShrinkPerturbUnlearner,
)
from grmu_sk.unlearners import scrub, shrink_perturb
from grmu_sk.unlearners.random_label import draw_labels

FORGET = [40, 41, 50, 60, 61]


@pytest.mark.parametrize(("share", "reweight"), [(0.3, False), (1.0, True)])
def test_bad_teacher_sees_each_row_to_forget_once_an_epoch(table, row_spy, share, reweight):
    params = {"retain_share": share, "reweight": reweight, "batch_size": 1000, "max_epochs": 2}
    unlearner = fitted(BadTeacherUnlearner, table, **params)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    epochs = np.split(row_spy.drawn("teach"), 2)
    for rows in epochs:
        kept = rows[~np.isin(rows, FORGET)]
        assert len(kept) == round(share * (table.n - len(FORGET)))
        assert (len(set(kept)) < len(kept)) == reweight, "drawn by REWEIGHT with replacement"
        assert sorted(rows[np.isin(rows, FORGET)]) == FORGET
    assert sorted(epochs[0]) != sorted(epochs[1]), "each epoch draws its own"


@pytest.mark.parametrize("n_forget", [3, 20])
def test_every_batch_of_neg_grad_plus_has_a_partner(table, row_spy, monkeypatch, n_forget):
    monkeypatch.setattr("grmu_sk.rows.BYTES_AT_ONCE", 0)  # one batch at a time
    forget = np.arange(40, 40 + n_forget)
    fitted(NegGradPlusUnlearner, table, max_epochs=20, batch_size=8).unlearn(forget)
    batches = [rows for phase, rows in row_spy.seen if phase == "forget_retain"]
    kept = [rows for rows in batches if not set(rows) & set(forget)]
    gone = [rows for rows in batches if set(rows) <= set(forget)]
    assert len(kept) == len(gone) == len(batches) / 2, "no batch mixes the two"
    if n_forget == 3:
        assert {tuple(sorted(rows)) for rows in gone} == {tuple(forget)}, "few are in every pair"
        return
    assert [len(rows) for rows in kept] == [len(rows) for rows in gone] == ([8] * 17 + [4]) * 20
    assert all(len(set(rows)) == len(rows) for rows in gone), "without replacement"
    counts = np.bincount(np.concatenate(gone), minlength=60)[forget]
    expected = counts.sum() / len(forget)
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected))


@pytest.mark.parametrize("exclude_true", [False, True])
def test_labels_are_uniform(exclude_true):
    torch.manual_seed(0)
    n = 20_000
    labels = draw_labels(torch.full((n,), 1), 7, exclude_true=exclude_true)
    share = np.bincount(labels.numpy(), minlength=7) / n
    allowed = np.arange(7) != 1 if exclude_true else np.ones(7, dtype=bool)
    np.testing.assert_allclose(share, allowed / allowed.sum(), atol=4 * np.sqrt(0.25 / n))
    assert (share[1] == 0) == exclude_true


def test_teacher_is_in_eval_mode_and_stays_as_it_was(image_net, spy, monkeypatch):
    monkeypatch.setattr("grmu_sk.rows.TrainingRows.is_augmented", True)
    teachers = spy(scrub, "frozen_teacher", lambda _, net, *rest: (net, state_of(net)))
    fitted(SCRUBUnlearner, make_table(96, images=True), image_net, max_epochs=2).unlearn(FORGET)
    ((teacher, before),) = teachers
    assert not teacher.module_.training
    assert all(map(torch.equal, before.values(), state_of(teacher).values()))


class PartlyFrozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8).requires_grad_(False)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        return self.head(self.norm(self.body(X)))


@pytest.mark.parametrize(("shrink", "noise"), [(0.4, 0.1), (0.0, 1.0)])
def test_start_of_shrink_and_perturb_against_the_formula(table, shrink, noise, spy):
    """Frozen weights and running statistics are left alone; the noise is a new net each time."""
    drawn = spy(shrink_perturb, "draw_initial_weights")
    starts = spy(shrink_perturb, "_shrink_and_perturb", lambda _, net, *rest: state_of(net))
    params = {"shrink": shrink, "noise": noise, "max_epochs": 1}
    unlearner = fitted(ShrinkPerturbUnlearner, table, make_net(PartlyFrozen), **params)
    for request in ([40, 41, 50], [60]):
        before = state_of(unlearner.net_)
        unlearner.unlearn(request)
        for name, weight in before.items():
            is_left = name.startswith("body") or "running" in name or "tracked" in name
            expected = weight if is_left else shrink * weight + noise * drawn[-1][name]
            torch.testing.assert_close(starts[-1][name], expected)
    assert not torch.equal(drawn[0]["head.weight"], drawn[1]["head.weight"])
    assert drawn[0]["head.weight"].abs().max() <= 8**-0.5  # torch's own initialisation
