"""Displays of a fitted unlearner: contents, errors, and what they look like."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_net, make_table
from matplotlib import pyplot as plt
from rendering import check_readable, close_figures  # noqa: F401
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from skorch.history import History

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.metrics import membership_inference_efficacy
from grmu_sk.plotting import (
    GroupAccuracyDisplay,
    LossDistributionDisplay,
    UnlearningHistoryDisplay,
)

FORGET = [1, 5, 9, 40]
FORGET_LATER = [2, 70]


@pytest.fixture(scope="module")
def held_out():
    return make_table(n_rows=60, seed=1)


@pytest.fixture(scope="module")
def miu():
    rows = make_table()
    unlearner = MIUUnlearner(make_net(), max_epochs=3, forget_epochs=2, random_state=0)
    unlearner.fit(rows.X, rows.y, rows.a)
    return unlearner.unlearn(FORGET).unlearn(FORGET_LATER)


@pytest.fixture(scope="module")
def gold():
    rows = make_table()
    mask = np.isin(np.arange(rows.n), FORGET)
    return RetrainUnlearner(make_net(), random_state=0).fit(rows.X, rows.y, rows.a, forget=mask)


# losses ------------------------------------------------------------------------------------------


def test_losses_are_those_of_the_three_kinds_of_rows(miu, table, held_out):
    display = LossDistributionDisplay.from_estimator(miu, table.X, table.y, held_out.X, held_out.y)

    def losses(rows, chosen):
        proba = miu.predict_proba(rows.X)
        return -np.log(proba[np.arange(rows.n), rows.y])[chosen]

    forgotten = np.isin(np.arange(table.n), FORGET + FORGET_LATER)
    np.testing.assert_allclose(display.member_losses, losses(table, ~forgotten), rtol=1e-5)
    np.testing.assert_allclose(display.forget_losses, losses(table, forgotten), rtol=1e-5)
    np.testing.assert_allclose(display.nonmember_losses, losses(held_out, slice(None)), rtol=1e-5)
    check_readable(display.figure_)


def test_histograms_show_shares_of_all_rows():
    rng = np.random.default_rng(0)
    losses = [rng.exponential(scale, n) for scale, n in ((0.01, 300), (0.1, 20), (1.0, 90))]
    losses[0][:5] = 0.0
    display = LossDistributionDisplay.from_losses(*losses)
    outlines = [patch for patch in display.ax_.patches if not patch.get_fill()]
    for patch, column in zip(outlines, losses, strict=True):
        percent, edges, _ = patch.get_data()
        assert percent.sum() == pytest.approx(100)
        inside = (column >= edges[10]) & (column < edges[20])
        assert percent[10:20].sum() == pytest.approx(100 * inside.mean())
    assert "first bin holds 5 rows" in display.ax_.get_xlabel()
    check_readable(display.figure_)


def draw_losses(seed=0, sizes=(900, 80, 300), scales=(0.6, 0.9, 1.0)):
    rng = np.random.default_rng(seed)
    return [rng.exponential(scale, size) for scale, size in zip(scales, sizes, strict=True)]


@pytest.mark.parametrize("random_state", [0, 5])
def test_shares_are_those_of_the_metric(random_state):
    member, forget, nonmember = draw_losses()
    display = LossDistributionDisplay.from_losses(
        member, forget, nonmember, random_state=random_state
    )
    expected = [
        membership_inference_efficacy(
            member, nonmember, losses, attack="balanced", random_state=random_state
        )
        for losses in (member, forget, nonmember)
    ]
    assert display.forgotten_as_nonmembers == expected[1]
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    for text, share in zip(legend, expected, strict=False):
        assert f"{100 * share:.0f}% outside the shading" in text
    assert len({text.split(", ")[-1] for text in legend[:3]}) == 3, "the three can be told apart"


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([], "forget_losses is empty"),
        ([[1.0]], "forget_losses must be 1-D"),
        ([1.0, np.nan], "row 1 is nan"),
        ([-0.5], "row 0 is -0.5"),
    ],
)
def test_malformed_losses_are_refused(losses, message):
    with pytest.raises(ValueError, match=message):
        LossDistributionDisplay.from_losses([0.1], losses, [0.2])
    assert not plt.get_fignums()


def test_loss_display_wants_the_rows_of_fit(miu, table, held_out):
    with pytest.raises(ValueError, match="y has 60 rows but fit was given 160"):
        LossDistributionDisplay.from_estimator(miu, held_out.X, held_out.y, table.X, table.y)


def test_loss_display_wants_forgotten_rows(table, held_out):
    unlearner = RetrainUnlearner(make_net(max_epochs=1)).fit(table.X, table.y, table.a)
    with pytest.raises(ValueError, match="has forgotten no row"):
        LossDistributionDisplay.from_estimator(unlearner, table.X, table.y, held_out.X, held_out.y)


# history -----------------------------------------------------------------------------------------


def test_history_of_miu_has_information_and_losses(miu):
    display = UnlearningHistoryDisplay.from_estimator(miu)
    table = display.history
    assert table["run"].unique().tolist() == [0, 1, 2]
    rows = list(miu.history_)
    for phase, sign, quantity in (
        ("tune", -1, "mutual information"),
        ("forget", 1, "mutual information"),
        ("retain", 1, "training loss"),
        ("fit", 1, "training loss"),
    ):
        expected = [sign * row["train_loss"] for row in rows if row["phase"] == phase]
        of_phase = table[table["phase"] == phase]
        np.testing.assert_allclose(of_phase["value"], expected)
        assert set(of_phase["quantity"]) == {quantity}
    losses, information = display.axes_
    assert losses.get_ylabel() == "loss\n(nats)"
    assert information.get_ylabel() == "mutual information\n(nats)"
    check_readable(display.figure_)


def test_requests_follow_one_another(miu):
    display = UnlearningHistoryDisplay.from_estimator(miu)
    lines = {tuple(line.get_xdata()) for line in display.axes_[0].get_lines()}
    assert {(1, 2, 3), (4, 5, 6), (7, 8, 9)} <= lines
    names = [text.get_text() for text in display.axes_[0].texts]
    assert names == ["training", "request 1", "request 2"]


def test_information_is_recognised_by_what_the_history_holds(miu, monkeypatch):
    rows = [dict(row) for row in miu.history_]
    unlearner = RetrainUnlearner(make_net(max_epochs=1), random_state=0)
    table = make_table()
    unlearner.fit(table.X, table.y, table.a)
    monkeypatch.setattr(unlearner, "history_", History(rows))
    of_other = UnlearningHistoryDisplay.from_estimator(unlearner)
    of_miu = UnlearningHistoryDisplay.from_estimator(miu)
    pd.testing.assert_frame_equal(of_other.history, of_miu.history)
    assert len(of_other.axes_) == 2

    without = [row for row in rows if row["phase"] != "tune"]
    monkeypatch.setattr(unlearner, "history_", History(without))
    display = UnlearningHistoryDisplay.from_estimator(unlearner)
    assert "forget" in set(display.history["phase"])
    assert set(display.history["quantity"]) == {"training loss"}, "a loss like that of SCRUB"


def test_history_without_callbacks_averages_batches(table):
    net = make_net(max_epochs=2, callbacks="disable")
    unlearner = RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    scored = RetrainUnlearner(make_net(max_epochs=2), random_state=0)
    scored.fit(table.X, table.y, table.a)
    found = UnlearningHistoryDisplay.from_estimator(unlearner).history["value"]
    np.testing.assert_allclose(found, scored.history_[:, "train_loss"])


# groups ------------------------------------------------------------------------------------------


def test_group_accuracies_of_estimators(miu, gold, held_out):
    models = {"gold": gold, "miu": miu}
    display = GroupAccuracyDisplay.from_estimator(
        models, held_out.X, held_out.y, held_out.a, gold="gold"
    )
    for name, model in models.items():
        right = model.predict(held_out.X) == held_out.y
        for y in (0, 1):
            for a in (0, 1):
                chosen = (held_out.y == y) & (held_out.a == a)
                expected = 100 * right[chosen].mean()
                assert display.accuracy.loc[f"{y}, {a}", name] == pytest.approx(expected)
                assert display.n_rows[f"{y}, {a}"] == chosen.sum()
    expected = display.accuracy["miu"] - display.accuracy["gold"]
    np.testing.assert_allclose(display.differences["miu"], expected)
    forgotten = {f"{y}, {a}" for y, a in miu.forget_groups_ + gold.forget_groups_}
    assert set(display.forget_groups) == forgotten
    check_readable(display.figure_)


def test_groups_of_several_attributes_are_named_in_full(table):
    attributes = np.c_[np.where(table.a, "Female", "Male"), np.where(table.X[:, 0] > 0, "B", "W")]
    income = np.where(table.y, ">50K", "<=50K")
    unlearner = RetrainUnlearner(make_net(max_epochs=1), random_state=0)
    unlearner.fit(table.X, income, attributes)
    unlearner.unlearn(
        np.flatnonzero((income == ">50K") & (attributes == ["Female", "B"]).all(1))[:2]
    )
    display = GroupAccuracyDisplay.from_estimator(unlearner, table.X, income, attributes)
    assert display.forget_groups == (">50K, Female, B",)
    ticks = [label.get_text() for label in display.ax_.get_yticklabels()]
    n_rows = ((income == ">50K") & (attributes == ["Female", "B"]).all(axis=1)).sum()
    assert f">50K, Female, B\n({n_rows} rows, forgotten from)" in ticks
    assert len(ticks) == 8
    check_readable(display.figure_)


def test_group_display_refuses_what_it_cannot_draw(miu, held_out):
    arguments = (held_out.X, held_out.y, held_out.a)
    with pytest.raises(ValueError, match="nothing to draw"):
        GroupAccuracyDisplay.from_estimator({}, *arguments)
    with pytest.raises(ValueError, match="gold is 'none'"):
        GroupAccuracyDisplay.from_estimator({"miu": miu}, *arguments, gold="none")
    with pytest.raises(ValueError, match="There is no gold standard"):
        _ = GroupAccuracyDisplay.from_estimator(miu, *arguments).differences
    with pytest.raises(ValueError, match="forget_groups names"):
        GroupAccuracyDisplay.from_estimator(miu, *arguments, forget_groups=[(7, 7)])


# what all share ----------------------------------------------------------------------------------


@pytest.fixture
def drawers(table, held_out):
    return {
        "losses": lambda model, ax: LossDistributionDisplay.from_estimator(
            model, table.X, table.y, held_out.X, held_out.y, ax=ax
        ),
        "history": lambda model, ax: UnlearningHistoryDisplay.from_estimator(model, ax=ax),
        "groups": lambda model, ax: GroupAccuracyDisplay.from_estimator(
            model, held_out.X, held_out.y, held_out.a, ax=ax
        ),
    }


@pytest.mark.parametrize("kind", ["losses", "history", "groups"])
def test_only_fitted_unlearners_are_drawn(kind, drawers):
    with pytest.raises(TypeError, match="needs an unlearner"):
        drawers[kind](LogisticRegression(), None)
    with pytest.raises(NotFittedError):
        drawers[kind](MIUUnlearner(make_net()), None)


@pytest.mark.parametrize("kind", ["losses", "history", "groups"])
def test_given_axes_are_drawn_in(kind, drawers, miu):
    figure, (left, right) = plt.subplots(1, 2, figsize=(17, 5.5), layout="constrained")
    display = drawers[kind](miu, right)
    assert display.figure_ is figure and plt.get_fignums() == [figure.number]
    figure.canvas.draw()
    assert not left.has_data()
    assert display.ax_.get_position().x0 > left.get_position().x1
    check_readable(figure)
