"""Displays of fitted unlearners and of audits: the numbers drawn, and refusals."""

import numpy as np
import pytest
from conftest import make_net, make_table
from matplotlib import pyplot as plt
from rendering import check_readable, close_figures  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.audit import Interval, LeakageAudit, LeakageFinding
from grmu_sk.metrics import membership_inference_efficacy
from grmu_sk.plotting import (
    GroupAccuracyDisplay,
    LeakageDisplay,
    LossDistributionDisplay,
    UnlearningHistoryDisplay,
)

FORGET, FORGET_LATER = [1, 5, 9, 40], [2, 70]


@pytest.fixture(scope="module")
def held_out():
    return make_table(n_rows=60, seed=1)


@pytest.fixture(scope="module")
def miu():
    rows = make_table()
    unlearner = MIUUnlearner(make_net(), max_epochs=3, forget_epochs=2, random_state=0)
    return unlearner.fit(rows.X, rows.y, rows.a).unlearn(FORGET).unlearn(FORGET_LATER)


@pytest.fixture(scope="module")
def gold():
    rows = make_table()
    mask = np.isin(np.arange(rows.n), FORGET)
    return RetrainUnlearner(make_net(), random_state=0).fit(rows.X, rows.y, rows.a, forget=mask)


# losses ------------------------------------------------------------------------------------------


def test_losses_are_those_of_the_three_kinds_of_rows(gold, table, held_out):
    pipe = make_pipeline(FunctionTransformer(np.negative), gold)

    def losses(rows, chosen):
        proba = gold.predict_proba(-rows.X)
        return -np.log(proba[np.arange(rows.n), rows.y])[chosen]

    given = (table.X, table.y, held_out.X, held_out.y)
    display = LossDistributionDisplay.from_estimator(pipe, *given)
    forgotten = np.isin(np.arange(table.n), FORGET)
    np.testing.assert_allclose(display.member_losses, losses(table, ~forgotten), rtol=1e-5)
    np.testing.assert_allclose(display.forget_losses, losses(table, forgotten), rtol=1e-5)
    np.testing.assert_allclose(display.nonmember_losses, losses(held_out, slice(None)), rtol=1e-5)
    with pytest.raises(ValueError, match="y has 60 rows but fit was given 160"):
        LossDistributionDisplay.from_estimator(gold, *given[2:], *given[:2])
    whole = RetrainUnlearner(make_net(max_epochs=1)).fit(table.X, table.y, table.a)
    with pytest.raises(ValueError, match="about forgotten rows"):
        LossDistributionDisplay.from_estimator(whole, *given)


def test_histograms_shares_and_shading_are_those_of_the_attack():
    rng = np.random.default_rng(0)
    losses = [rng.exponential(scale, n) for scale, n in ((0.6, 900), (0.9, 80), (1.0, 300))]
    losses[0][:5] = 0.0
    display = LossDistributionDisplay.from_losses(*losses, random_state=5)
    shares = [
        membership_inference_efficacy(
            losses[0], losses[2], column, attack="balanced", random_state=5
        )
        for column in losses
    ]
    assert display.forgotten_as_nonmembers == shares[1]
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    outlines = [patch for patch in display.ax_.patches if not patch.get_fill()]
    for patch, column, text, share in zip(outlines, losses, legend, shares, strict=False):
        percent, edges, _ = patch.get_data()
        assert percent.sum() == pytest.approx(100)
        inside = (column >= edges[10]) & (column < edges[20])
        assert percent[10:20].sum() == pytest.approx(100 * inside.mean())
        assert f"{100 * share:.0f}% outside the shading" in text
    (shading,) = display.ax_.collections
    spans = [path.vertices[:, 0] for path in shading.get_paths()]
    grid = np.geomspace(*display.ax_.get_xlim(), 60)[1:-1]
    inside = np.any([(span.min() <= grid) & (grid <= span.max()) for span in spans], axis=0)
    assert np.mean(inside == display.attack.is_member(grid)) > 0.95, "but near its edges"
    check_readable(display.figure_)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([1.0, np.nan], "losses .*(NaN|infinite)"),
        ([-0.5], "negative"),
    ],
)
def test_malformed_losses_are_refused(losses, message):
    with pytest.raises(ValueError, match=message):
        LossDistributionDisplay.from_losses([0.1], losses, [0.2])
    assert not plt.get_fignums()
    check_readable(LossDistributionDisplay.from_losses([0.0, 0.0], [0.0], [0.0]).figure_)


# history -----------------------------------------------------------------------------------------


def test_history_of_miu_has_information_and_losses_of_every_run(miu):
    display = UnlearningHistoryDisplay.from_estimator(miu)
    table, rows = display.history, list(miu.history_)
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
    assert losses.get_ylabel() == "CrossEntropyLoss"
    assert information.get_ylabel() == "mutual information\n(nats)"
    assert {(1, 2, 3), (4, 5, 6), (7, 8, 9)} <= {tuple(li.get_xdata()) for li in losses.lines}
    assert [text.get_text() for text in losses.texts] == ["training", "request 1", "request 2"]
    check_readable(display.figure_)


def test_histories_without_information_or_second_epochs(gold, table):
    assert len(UnlearningHistoryDisplay.from_estimator(gold).axes_) == 1
    with pytest.raises(TypeError, match="needs an unlearner"):
        UnlearningHistoryDisplay.from_estimator(LogisticRegression())
    short = MIUUnlearner(make_net(max_epochs=1), max_epochs=1, random_state=0)
    short.fit(table.X, table.y, table.a).unlearn(FORGET).unlearn(FORGET_LATER)
    history = UnlearningHistoryDisplay.from_estimator(short).history
    found = history.groupby("run")["phase"].agg(list).tolist()
    assert found == [["fit"], ["tune", "forget", "retain"], ["tune", "forget", "retain"]]


# groups ------------------------------------------------------------------------------------------


def test_group_accuracies_of_estimators(miu, gold, held_out):
    models, given = {"gold": gold, "miu": miu}, (held_out.X, held_out.y, held_out.a)
    display = GroupAccuracyDisplay.from_estimator(models, *given, gold="gold")
    for name, model in models.items():
        right = model.predict(held_out.X) == held_out.y
        for group in display.accuracy.index:
            y, a = map(int, group.split(", "))
            chosen = (held_out.y == y) & (held_out.a == a)
            expected = 100 * right[chosen].mean()
            assert display.accuracy.loc[group, name] == pytest.approx(expected)
            assert display.n_rows[group] == chosen.sum()
    assert len(display.accuracy) == 4
    forgotten = {f"{y}, {a}" for y, a in miu.forget_groups_ + gold.forget_groups_}
    assert set(display.forget_groups) == forgotten
    check_readable(display.figure_)
    with pytest.raises(ValueError, match="no model to draw"):
        GroupAccuracyDisplay.from_estimator({}, *given)


def test_axes_can_be_given(miu, table, held_out):
    losses_of = (table.X, table.y, held_out.X, held_out.y)
    of_groups = (held_out.X, held_out.y, held_out.a)
    figure, axes = plt.subplots(1, 3, figsize=(26, 5.5), layout="constrained")
    drawn = [
        LossDistributionDisplay.from_estimator(miu, *losses_of, ax=axes[0]),
        GroupAccuracyDisplay.from_estimator({"miu": miu}, *of_groups, ax=axes[1]),
        LeakageDisplay.from_audit(AUDIT, ax=axes[2]),
    ]
    assert [display.ax_ for display in drawn] == list(axes)
    assert plt.get_fignums() == [figure.number] and drawn[0].figure_ is figure
    check_readable(figure)


# audits ------------------------------------------------------------------------------------------


def finding(attack, group, auc, power, verdict, rows="forgotten", spread=0.06):
    def around(value):
        if spread is None:
            return Interval(value)
        return Interval(value, max(value - spread, 0), min(value + spread, 1))

    values = (around(auc), around(power), Interval(auc - power))
    return LeakageFinding(attack, rows, group, 80, 160.0, *values, 0.95, verdict, "")


AUDIT = LeakageAudit(
    [
        finding("loss", "all", 0.48, 0.55, "inconclusive"),
        finding("loss", "(0, 1)", 0.5, 0.57, "inconclusive", spread=None),
        finding("RMIA", "all", 0.52, 0.85, "no leak found"),
        finding("RMIA", "(0, 1)", 0.12, 0.8, "leak"),
        finding("RMIA", "all", 0.9, 0.8, "leak", rows="remaining"),
    ],
    n_models=32,
    tolerance=0.07,
)


def test_audits_are_drawn_before_and_after():
    display = LeakageDisplay.from_audit(AUDIT)
    ax, forgotten = display.ax_, AUDIT.findings[:4]
    before, after = [line for line in ax.lines if len(line.get_xdata()) == 4]
    assert list(before.get_xdata()) == [item.power.value for item in forgotten]
    assert list(after.get_xdata()) == [item.auc.value for item in forgotten]
    ends = ax.collections[1].get_segments()
    np.testing.assert_allclose(ends[3][:, 0], (0.06, 0.18))
    assert not len(ends[1]), "none where none is known"
    (band,) = ax.patches
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx([0.43, 0.57])
    assert ax.get_yticklabels()[3].get_text() == "RMIA: (0, 1) (n = 80)"
    assert ax.get_xlabel() == "AUC on forgotten rows, 32 reference models"
    check_readable(display.figure_)
    rest = LeakageDisplay.from_audit(AUDIT, rows="remaining").ax_
    assert rest.get_xlabel() == "AUC on remaining rows, 32 reference models" and not rest.patches
    with pytest.raises(ValueError, match="holds nothing about nonmembers"):
        LeakageDisplay.from_audit(AUDIT, rows="nonmembers")
