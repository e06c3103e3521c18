"""Displays: the numbers that are drawn, and what is refused."""

import matplotlib

matplotlib.use("Agg")

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import make_net, make_table
from matplotlib import pyplot as plt
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.audit import Interval, LeakageAudit, LeakageFinding
from grmu_sk.metrics import AVERAGE_GAP_METRICS, membership_inference_efficacy
from grmu_sk.plotting import (
    GroupAccuracyDisplay,
    LeakageDisplay,
    LossDistributionDisplay,
    MethodComparisonDisplay,
    UnlearningHistoryDisplay,
    UnlearningRatioDisplay,
    model_styles,
)
from grmu_sk.results import GOLD_LABEL, RESEEDED_LABEL
from grmu_sk.unlearners import all_unlearners

FORGET, FORGET_LATER = [1, 5, 9, 40], [2, 70]
RATIOS = (0.1, 0.5, 0.9)
MODELS = [("pretrain", 0), ("retrain", 0), ("retrain", 1), ("gold_reseeded", 1)]
MODELS += [(method, reweight) for method in ("miu", "scrub") for reweight in (0, 1)]


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no figure open: matplotlib keeps every one until it is closed."""
    yield
    plt.close("all")


def make_results(ratios=(0.5,), groups=(), names=("AVG_GAP", "GA", "UA", "EO"), **columns):
    """A tidy table of a comparison, with numbers that differ everywhere."""
    rng = np.random.default_rng(0)
    names = [*names, *(f"group_accuracy[{name}]" for name in groups), "cost"]
    runs = [(ratio, seed, *model) for ratio in ratios for seed in range(3) for model in MODELS]
    lines = [("digits", *run, name, rng.uniform(40, 95)) for run in runs for name in names]
    header = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]
    return pd.DataFrame(lines, columns=header).assign(**columns)


def values_of(results, method, reweight, metric):
    keys = ["method", "reweight", "metric"]
    return results.set_index(keys).sort_index().loc[(method, reweight, metric), "value"].to_numpy()


def test_a_method_and_a_condition_have_one_look_each():
    methods = [f"{name} + reweight" for name, _ in all_unlearners() if name != "no_op"]
    styles = model_styles([*methods, "before", "No_op", "retrain + REWEIGHT", "gold"])
    looks = {(style["color"], style["marker"]) for style in styles.values()}
    assert len(looks) == len(methods) + 1, "and the model before; one of them is the gold standard"
    assert styles["before"] == styles["No_op"] and styles["retrain + REWEIGHT"] == styles["gold"]
    assert model_styles(methods[3:4])[methods[3]] == styles[methods[3]], "alone as among others"


# tables of results -------------------------------------------------------------------------------


def test_comparison_holds_and_draws_means_deviations_and_deltas():
    results = make_results()
    display = MethodComparisonDisplay.from_results(results)
    scores, models = display.scores, display.models
    for metric in ("AVG_GAP", "UA", "GA", "cost"):
        values, gold = (values_of(results, name, 1, metric) for name in ("miu", "retrain"))
        line = scores.loc[(metric, "miu + reweight")]
        assert line[["mean", "std"]].tolist() == pytest.approx([values.mean(), values.std()])
        assert line["delta"] == pytest.approx(np.abs(values - gold).mean()), "seed by seed"
    assert models[:2] == [GOLD_LABEL, RESEEDED_LABEL] and len(models) == 8
    assert scores.loc["AVG_GAP", "mean"][models[2:]].is_monotonic_decreasing, "the best on top"
    for panel, metric in zip(display.axes_, display.metrics, strict=True):
        of_metric = scores.loc[metric]
        marked = [line for line in panel.lines if line.get_marker() not in ("None", "")]
        np.testing.assert_allclose([line.get_xdata()[0] for line in marked], of_metric["mean"])
        ends = [bar.get_segments()[0][:, 0] for bar in panel.collections]
        low, high = of_metric["mean"] - of_metric["std"], of_metric["mean"] + of_metric["std"]
        np.testing.assert_allclose(ends, np.c_[low, high])


def test_runs_that_failed_are_named():
    results = make_results()
    some = results["seed"].eq(0) & results["method"].eq("miu") & results["reweight"].eq(1)
    every = results["method"].eq("scrub") & results["reweight"].eq(0)
    undefined = results["metric"].eq("EO") & results["method"].eq("pretrain")
    results.loc[some | every | undefined, "value"] = np.nan
    display = MethodComparisonDisplay.from_results(results)
    rest = values_of(results, "miu", 1, "AVG_GAP")[1:]
    name = "miu + reweight (1 of 3 runs failed)"
    assert display.scores.loc[("AVG_GAP", name), "mean"] == pytest.approx(rest.mean())
    ticks = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert {name, "pretrain"} < set(ticks)
    assert ticks[-1] == "scrub (3 of 3 runs failed)"


def test_curves_are_drawn_at_their_ratios():
    results = make_results(ratios=RATIOS).sample(frac=1, random_state=0)
    display = UnlearningRatioDisplay.from_results(results, metrics=["GA", "AVG_GAP"])
    panel, drawn = display.ax_, display.curves.loc["GA"]
    of_metric = results[results["metric"] == "GA"].set_index(["method", "reweight"]).sort_index()
    for name, model in {GOLD_LABEL: ("retrain", 1), "scrub": ("scrub", 0)}.items():
        by_ratio = of_metric.loc[model].groupby("ratio")["value"]
        mean, std = by_ratio.mean(), by_ratio.std(ddof=0)
        np.testing.assert_allclose(drawn.loc[name], np.c_[mean, std])
        lines = {tuple(line.get_ydata()): line.get_xdata().astype(float) for line in panel.lines}
        np.testing.assert_allclose(lines[tuple(drawn.loc[name, "mean"])], 100 * np.array(RATIOS))
    in_gap = display.curves.loc["AVG_GAP"].index.get_level_values("model")
    assert GOLD_LABEL not in in_gap, "it has no gap to itself"


def test_groups_and_their_differences_to_gold():
    names = [f"{y}, race {a}" for y in range(3) for a in range(7)]
    results = make_results(groups=names)
    display = GroupAccuracyDisplay.from_results(results, forget_groups=[(0, "race 1")])
    for name, values in display.accuracy.items():
        (line,) = [line for line in display.ax_.lines if list(line.get_xdata()) == list(values)]
        assert np.abs(line.get_ydata() - np.arange(21)[::-1]).max() < 0.5, "in its group"
        if name == "miu + reweight":
            mean = values_of(results, "miu", 1, "group_accuracy[0, race 1]").mean()
            assert line.get_xdata()[1] == pytest.approx(mean)
    difference = display.accuracy["scrub"] - display.accuracy[GOLD_LABEL]
    pd.testing.assert_series_equal(display.differences["scrub"], difference, check_names=False)
    (tinted,) = display.ax_.patches
    assert tinted.get_y() == pytest.approx(21 - 2.5)


def test_the_average_gap_of_a_benchmark_needs_gold_of_every_seed():
    results = make_results(names=AVERAGE_GAP_METRICS, forget="group", selection="best")
    is_gold = (results["method"] == "retrain") & (results["seed"] == 1)
    with pytest.raises(ValueError, match=r"cannot be computed for .*'seed': 1.* of the gold stand"):
        MethodComparisonDisplay.from_results(results[~is_gold])


def test_results_of_several_comparisons_are_refused():
    both = pd.concat([make_results(), make_results().assign(ratio=0.9)])
    with pytest.raises(ValueError, match="several values of 'ratio'"):
        MethodComparisonDisplay.from_results(both)
    assert not plt.get_fignums(), "no empty figure is left behind"


# models ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    rows, held_out = make_table(), make_table(n_rows=60, seed=1)
    miu = MIUUnlearner(make_net(), max_epochs=3, forget_epochs=2, random_state=0)
    miu.fit(rows.X, rows.y, rows.a).unlearn(FORGET).unlearn(FORGET_LATER)
    mask = np.isin(np.arange(rows.n), FORGET)
    gold = RetrainUnlearner(make_net(), random_state=0).fit(rows.X, rows.y, rows.a, forget=mask)
    return SimpleNamespace(rows=rows, held_out=held_out, miu=miu, gold=gold, mask=mask)


def test_losses_are_those_of_the_three_kinds_of_rows(scene):
    gold, rows, held_out = scene.gold, scene.rows, scene.held_out
    pipe = make_pipeline(FunctionTransformer(np.negative), gold)

    def losses(table, chosen):
        proba = gold.predict_proba(-table.X)
        return -np.log(proba[np.arange(table.n), table.y])[chosen]

    given = (rows.X, rows.y, held_out.X, held_out.y)
    ax = plt.figure().subplots()
    display = LossDistributionDisplay.from_estimator(pipe, *given, ax=ax)
    assert display.ax_ is ax
    np.testing.assert_allclose(display.member_losses, losses(rows, ~scene.mask), rtol=1e-5)
    np.testing.assert_allclose(display.forget_losses, losses(rows, scene.mask), rtol=1e-5)
    np.testing.assert_allclose(display.nonmember_losses, losses(held_out, slice(None)), rtol=1e-5)
    with pytest.raises(ValueError, match="y has 60 rows but fit was given 160"):
        LossDistributionDisplay.from_estimator(gold, *given[2:], *given[:2])


def test_histograms_shares_and_shading_are_those_of_the_attack():
    rng = np.random.default_rng(0)
    losses = [rng.exponential(scale, n) for scale, n in ((0.6, 900), (0.9, 80), (1.0, 300))]
    losses[0][:5] = 0.0
    display = LossDistributionDisplay(*losses, random_state=5).plot()
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
    assert np.mean(inside == display.is_member(grid)) > 0.95, "but near its edges"
    LossDistributionDisplay([0.0, 0.0], [0.0], [0.0]).plot()


def test_history_of_miu_has_information_and_losses_of_every_run(scene):
    display = UnlearningHistoryDisplay.from_estimator(scene.miu)
    table, rows = display.history, list(scene.miu.history_)
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
    losses, _ = display.axes_
    assert {(1, 2, 3), (4, 5, 6), (7, 8, 9)} <= {tuple(li.get_xdata()) for li in losses.lines}
    assert len(UnlearningHistoryDisplay.from_estimator(scene.gold).axes_) == 1


def test_group_accuracies_of_estimators(scene):
    held_out, models = scene.held_out, {"gold": scene.gold, "miu": scene.miu}
    given = (held_out.X, held_out.y, held_out.a)
    display = GroupAccuracyDisplay.from_estimator(models, *given, gold="gold")
    assert len(display.accuracy) == 4
    for name, model in models.items():
        right = model.predict(held_out.X) == held_out.y
        for group in display.accuracy.index:
            y, a = map(int, group.split(", "))
            chosen = (held_out.y == y) & (held_out.a == a)
            expected = 100 * right[chosen].mean()
            assert display.accuracy.loc[group, name] == pytest.approx(expected)
            assert display.n_rows[group] == chosen.sum()
    pairs = scene.miu.forget_groups_ + scene.gold.forget_groups_
    assert set(display.forget_groups) == {f"{y}, {a}" for y, a in pairs}


# audits ------------------------------------------------------------------------------------------


def finding(attack, group, auc, power, verdict, rows="forgotten", spread=0.06):
    def around(value):
        if spread is None:
            return Interval(value)
        return Interval(value, max(value - spread, 0), min(value + spread, 1))

    values = (around(auc), around(power), Interval(auc - power))
    return LeakageFinding(attack, rows, group, 80, 160.0, *values, 0.95, verdict, "")


def test_audits_are_drawn_before_and_after():
    findings = [
        finding("loss", "all", 0.48, 0.55, "inconclusive"),
        finding("loss", "(0, 1)", 0.5, 0.57, "inconclusive", spread=None),
        finding("RMIA", "(0, 1)", 0.12, 0.8, "leak"),
        finding("RMIA", "all", 0.9, 0.8, "leak", rows="remaining"),
    ]
    audit = LeakageAudit(findings, n_models=32, tolerance=0.07)
    ax, forgotten = LeakageDisplay.from_audit(audit).ax_, audit.findings[:3]
    before, after = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert list(before.get_xdata()) == [item.power.value for item in forgotten]
    assert list(after.get_xdata()) == [item.auc.value for item in forgotten]
    ends = ax.collections[1].get_segments()
    np.testing.assert_allclose(ends[2][:, 0], (0.06, 0.18))
    assert not len(ends[1]), "none where none is known"
    (band,) = ax.patches
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx([0.43, 0.57])
    assert not LeakageDisplay.from_audit(audit, rows="remaining").ax_.patches
