"""Displays of a table of results: the numbers drawn, refusals, and what they look like."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from rendering import (
    check_readable,
    close_figures,  # noqa: F401
    make_benchmark_results,
    make_results,
)

from grmu_sk.metrics import AVERAGE_GAP_METRICS
from grmu_sk.plotting import GroupAccuracyDisplay, MethodComparisonDisplay, UnlearningRatioDisplay
from grmu_sk.plotting._style import model_styles
from grmu_sk.results import GOLD_LABEL, RESEEDED_LABEL
from grmu_sk.unlearners import all_unlearners

ALL_METHODS = Path(__file__).parents[2] / "docs" / "results" / "all_methods" / "results.csv"
RATIOS = (0.1, 0.5, 0.9)
GROUPS = ("a, x", "b, x")
DELTA = "\N{GREEK CAPITAL LETTER DELTA}"
DISPLAYS = [MethodComparisonDisplay, UnlearningRatioDisplay, GroupAccuracyDisplay]


def results_for(display, make=make_results, **options):
    ratios = RATIOS if display is UnlearningRatioDisplay else (0.5,)
    return make(ratios=ratios, **options)


def values_of(results, method, reweight, metric):
    keys = ["method", "reweight", "metric"]
    return results.set_index(keys).sort_index().loc[(method, reweight, metric), "value"].to_numpy()


def number(text):
    return float(text.get_text().replace("\N{MINUS SIGN}", "-"))


# methods beside the gold standard ----------------------------------------------------------------


def test_comparison_holds_means_deviations_and_deltas():
    results = make_results()
    scores = MethodComparisonDisplay.from_results(results).scores
    for metric in ("AVG_GAP", "UA", "GA", "cost"):
        values, gold = (values_of(results, name, 1, metric) for name in ("miu", "retrain"))
        line = scores.loc[(metric, "miu + reweight")]
        expected = [values.mean(), values.std(), values.min(), values.max()]
        assert line[["mean", "std", "low", "high"]].tolist() == pytest.approx(expected)
        assert line["delta"] == pytest.approx(np.abs(values - gold).mean())
    of_means = (scores["mean"] - scores["mean"].xs(GOLD_LABEL, level="model")).abs()
    assert (scores["delta"] > of_means + 1).any(), "the seeds are compared one by one"


def test_comparison_draws_what_it_holds_with_the_best_method_on_top():
    display = MethodComparisonDisplay.from_results(make_results())
    models = display.models
    assert models[:2] == [GOLD_LABEL, RESEEDED_LABEL] and len(models) == 8
    assert display.scores.loc["AVG_GAP", "mean"][models[2:]].is_monotonic_decreasing
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == models
    assert display.ax_.get_ylim()[0] > display.ax_.get_ylim()[1], "the first is the highest"
    titles = [panel.get_title() for panel in display.axes_]
    assert titles == ["average gap", "UA", "EO", "GA", "cost"]
    for panel, metric in zip(display.axes_, display.metrics, strict=True):
        scores = display.scores.loc[metric]
        marked = [line for line in panel.lines if line.get_marker() not in ("None", "")]
        np.testing.assert_allclose([line.get_xdata()[0] for line in marked], scores["mean"])
        assert [line.get_ydata()[0] for line in marked] == list(range(8))
        assert [line.get_marker() == "*" for line in marked] == [True, *[False] * 7]
        ends = [bar.get_segments()[0][:, 0] for bar in panel.collections]
        low, high = scores["mean"] - scores["std"], scores["mean"] + scores["std"]
        if metric == "cost":
            low, high = scores["low"], scores["high"]
        np.testing.assert_allclose(ends, np.c_[low, high])
        written = {text.get_position()[1]: text for text in panel.texts}
        if metric in ("AVG_GAP", "cost"):
            assert not written
        else:
            assert written.pop(min(written)).get_text() == DELTA
            assert list(written) == list(range(1, 8))
            found = [number(text) for text in written.values()]
            np.testing.assert_allclose(found, scores["delta"].iloc[1:], atol=0.051)
    check_readable(display.figure_)


def test_many_methods_and_long_names_are_readable():
    check_readable(MethodComparisonDisplay.from_results(pd.read_csv(ALL_METHODS)).figure_)
    names = tuple(f"a_method_with_a_very_long_name_{number}" for number in range(5))
    results = make_results(names, seeds=2)
    results.loc[results["seed"].eq(0) & results["method"].isin(names), "value"] = np.nan
    check_readable(MethodComparisonDisplay.from_results(results).figure_)


@pytest.mark.parametrize("costs", [(18.0, 20.2), (0.01, 300.0)])
def test_every_cost_stands_within_its_axis(costs):
    results = make_results(seeds=1)
    is_cost = results["metric"] == "cost"
    results.loc[is_cost, "value"] = np.linspace(*costs, is_cost.sum())
    panel = MethodComparisonDisplay.from_results(results).axes_[-1]
    low, high = panel.get_xlim()
    assert low <= costs[0] and costs[1] <= high
    assert panel.get_xscale() == ("log" if 0 < 5 * costs[0] < costs[1] else "linear")


def test_metrics_can_be_chosen():
    results = make_results()
    results = results[results["metric"] != "cost"]
    assert MethodComparisonDisplay.from_results(results, metrics="GA").metrics == ["AVG_GAP", "GA"]


def test_runs_that_diverged_are_named():
    results = make_results()
    some = results["seed"].eq(0) & results["method"].eq("miu") & results["reweight"].eq(1)
    every = results["method"].eq("scrub") & results["reweight"].eq(0)
    undefined = results["metric"].eq("EO") & results["method"].eq("pretrain")
    results.loc[some | every | undefined, "value"] = np.nan
    display = MethodComparisonDisplay.from_results(results)
    rest = values_of(results, "miu", 1, "AVG_GAP")[1:]
    assert display.scores.loc[("AVG_GAP", "miu + reweight"), "mean"] == pytest.approx(rest.mean())
    ticks = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert {"miu + reweight (1 of 3 runs diverged)", "pretrain"} < set(ticks)
    assert ticks[-1] == "scrub (3 of 3 runs diverged)"


# curves over the ratio ---------------------------------------------------------------------------


def test_curves_are_drawn_at_their_ratios():
    results = make_results(ratios=RATIOS).sample(frac=1, random_state=0)
    metrics = ["GA", "AVG_GAP", "UA", "EO"]
    display = UnlearningRatioDisplay.from_results(results, metrics=metrics)
    assert [ax.get_title() for ax in display.axes_] == metrics
    panel, drawn = display.ax_, display.curves.loc["GA"]
    models = {GOLD_LABEL: ("retrain", 1), RESEEDED_LABEL: ("gold_reseeded", 1)}
    of_metric = results[results["metric"] == "GA"].set_index(["method", "reweight"]).sort_index()
    for model in drawn.index.get_level_values("model").unique():
        method, _, reweight = model.partition(" + ")
        values = of_metric.loc[models.get(model, (method, int(bool(reweight))))]
        by_ratio = values.groupby("ratio")["value"]
        mean, std = by_ratio.mean(), by_ratio.std(ddof=0)
        np.testing.assert_allclose(drawn.loc[model], np.c_[mean, std])
        assert any(
            np.allclose([bar[:, 1] for bar in bars.get_segments()], np.c_[mean - std, mean + std])
            for bars in panel.collections
        )
        lines = {tuple(line.get_ydata()): line.get_xdata().astype(float) for line in panel.lines}
        assert np.abs(lines[tuple(drawn.loc[model, "mean"])] - 100 * np.array(RATIOS)).max() < 7
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["10", "50", "90"]
    in_gap = display.curves.loc["AVG_GAP"].index.get_level_values("model")
    assert GOLD_LABEL not in in_gap, "it has no gap to itself"
    check_readable(display.figure_)
    with pytest.raises(ValueError, match=r"ratio 0\.5 alone"):
        UnlearningRatioDisplay.from_results(make_results())


# accuracy of groups ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_groups", [2, 20])
def test_groups_and_their_differences_to_gold(n_groups):
    names = [f"{y}, race {a}" for y in range(9) for a in range(7)][:n_groups]
    results = make_results(("miu",), groups=names)
    display = GroupAccuracyDisplay.from_results(results, forget_groups=[(0, "race 1")])
    others = [name for name in display.accuracy if name != GOLD_LABEL]
    for name, values in display.accuracy.items():
        (line,) = [line for line in display.ax_.lines if list(line.get_xdata()) == list(values)]
        assert np.abs(line.get_ydata() - np.arange(n_groups)[::-1]).max() < 0.5, "in its group"
        if name == "miu + reweight":
            mean = values_of(results, "miu", 1, "group_accuracy[0, race 1]").mean()
            assert line.get_xdata()[1] == pytest.approx(mean)
    texts = iter(display.ax_.texts)
    for name in others:
        for expected, text in zip(display.differences[name], texts, strict=False):
            assert number(text) == pytest.approx(expected, abs=0.051)
    assert not list(texts)
    (tinted,) = display.ax_.patches
    assert tinted.get_y() == pytest.approx(n_groups - 2.5)
    check_readable(display.figure_)


def test_groups_of_two_attributes():
    results = make_results(groups=(">50K, Female, Black",))
    groups = [(">50K", ("Female", "Black"))]
    display = GroupAccuracyDisplay.from_results(results, forget_groups=groups)
    (tick,) = display.ax_.get_yticklabels()
    assert tick.get_text() == ">50K, Female, Black (forgotten from)"


# what all share ----------------------------------------------------------------------------------


def test_the_average_gap_of_a_benchmark_needs_gold_of_every_seed():
    results = make_benchmark_results()
    display = MethodComparisonDisplay.from_results(results)
    assert {"miu + reweight", "miu + reweight, no calibration"} < set(display.models)
    of_scrub, gold = (
        np.array([values_of(results, *model, metric) for metric in AVERAGE_GAP_METRICS])
        for model in (("scrub", 0), ("retrain", 1))
    )
    expected = (100 - np.abs(of_scrub - gold).mean(axis=0)).mean()
    assert display.scores.loc[("AVG_GAP", "scrub"), "mean"] == pytest.approx(expected)
    is_gold = results["method"] == "retrain"
    with pytest.raises(ValueError, match=r"cannot be computed for .*'seed': 1.* of the gold stand"):
        MethodComparisonDisplay.from_results(results[~(is_gold & (results["seed"] == 1))])


@pytest.mark.parametrize("display", DISPLAYS)
def test_settings_are_not_averaged(display):
    results = results_for(display, make_benchmark_results)
    for column in ("dataset", "forget", "selection"):
        mixed = pd.concat([results, results.assign(**{column: "last"})])
        with pytest.raises(ValueError, match=f"several values of '{column}'.* choose one"):
            display.from_results(mixed)
    assert not plt.get_fignums(), "no empty figure is left behind"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frame: frame.iloc[:0], "is empty"),
        (lambda frame: frame.drop(columns="metric"), "lacks columns"),
        (lambda frame: pd.concat([frame, frame]), "rows twice"),
        (lambda frame: frame.assign(metric="EO", seed=range(len(frame))), "no metric"),
    ],
)
def test_malformed_results_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        MethodComparisonDisplay.from_results(spoil(make_results()))


def test_a_look_belongs_to_one_method_in_every_figure():
    names = [name for name, _ in all_unlearners()]
    models = [f"{name}{end}" for name in names for end in ("", " + reweight")]
    styles = model_styles([*models, *(f"my_{n}" for n in range(8)), GOLD_LABEL, "pretrain"])
    shown = ("color", "marker", "markerfacecolor")
    looks = {tuple(style.get(key) for key in shown) for style in styles.values()}
    assert len(looks) == len(styles)
    assert all(model_styles([name])[name] == styles[name] for name in models)
    drawn = []
    for display in DISPLAYS:
        shown = display.from_results(results_for(display, groups=GROUPS))
        lines = shown.figure_.findobj(plt.Line2D)
        drawn.append({line.get_color() for line in lines if line.get_marker() == "^"})
    assert drawn == [{styles["scrub"]["color"]}] * 3
