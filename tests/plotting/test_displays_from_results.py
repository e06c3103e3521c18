"""MethodComparisonDisplay and UnlearningRatioDisplay: contents, errors, and what they look like."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from rendering import (
    check_readable,
    close_figures,  # noqa: F401
    make_benchmark_results,
    make_results,
)

from grmu_sk.metrics import AVERAGE_GAP_METRICS
from grmu_sk.plotting import GroupAccuracyDisplay, MethodComparisonDisplay, UnlearningRatioDisplay
from grmu_sk.plotting._style import model_styles

ALL_METHODS = Path(__file__).parents[2] / "docs" / "results" / "all_methods" / "results.csv"


def values_of(results, method, reweight, metric, ratio=0.5):
    keys = ["method", "reweight", "metric", "ratio"]
    rows = results.set_index(keys).sort_index(kind="stable")  # pandas warns of unsorted ones
    return rows.loc[(method, reweight, metric, ratio), "value"].to_numpy()


# comparison of methods ---------------------------------------------------------------------------

GOLD = "retrain + reweight (gold standard)"
RESEEDED = "gold standard, other seed"


def line_of(panel, position):
    """Return the drawn marker's place and the ends of the line through it."""
    (marker,) = [
        line
        for line in panel.lines
        if line.get_linestyle() == "None" and list(line.get_ydata()) == [position]
    ]
    ends = [
        segment[:, 0]
        for collection in panel.collections
        if isinstance(collection, LineCollection)
        for segment in collection.get_segments()
        if (segment[:, 1] == position).all()
    ]
    return marker, ends[0]


def test_comparison_holds_means_deviations_and_deltas():
    results = make_results()
    scores = MethodComparisonDisplay.from_results(results).scores
    for metric in ("AVG_GAP", "UA", "GA", "cost"):
        values = values_of(results, "miu", 1, metric)
        gold = values_of(results, "retrain", 1, metric)
        line = scores.loc[(metric, "miu + reweight")]
        assert line["mean"] == pytest.approx(values.sum() / 3)
        assert line["std"] == pytest.approx(np.sqrt(((values - values.mean()) ** 2).sum() / 3))
        assert (line["low"], line["high"]) == (values.min(), values.max())
        assert line["delta"] == pytest.approx(np.abs(values - gold).sum() / 3)
    assert (scores.xs(GOLD, level="model")["delta"] == 0).all()
    of_means = (scores["mean"] - scores["mean"].xs(GOLD, level="model")).abs()
    assert (scores["delta"] > of_means + 1).any(), "the seeds are compared one by one"


def test_golds_are_on_top_and_then_the_best_method():
    results = make_results()
    display = MethodComparisonDisplay.from_results(results)
    assert display.models[:2] == [GOLD, RESEEDED]
    expected = {"pretrain", "retrain", "miu", "miu + reweight", "scrub", "scrub + reweight"}
    assert set(display.models[2:]) == expected
    gaps = display.scores.loc["AVG_GAP", "mean"][display.models[2:]]
    assert gaps.is_monotonic_decreasing
    ticks = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert ticks == display.models
    heights = display.ax_.transData.transform(np.c_[np.zeros(len(ticks)), range(len(ticks))])[:, 1]
    assert (np.diff(heights) < 0).all(), "the first is the highest"


def test_every_panel_draws_what_it_holds():
    display = MethodComparisonDisplay.from_results(make_results())
    assert display.metrics == ["AVG_GAP", "UA", "EO", "GA", "cost"]
    titles = [panel.get_title() for panel in display.axes_]
    assert titles == ["average gap", "UA", "EO", "GA", "cost"]
    assert display.ax_ is display.axes_[0] and display.ax_.figure is display.figure_
    for panel, metric in zip(display.axes_, display.metrics, strict=True):
        for position, model in enumerate(display.models):
            line = display.scores.loc[(metric, model)]
            ends = (line["mean"] - line["std"], line["mean"] + line["std"])
            if metric == "cost":
                ends = (line["low"], line["high"])
            marker, drawn_ends = line_of(panel, position)
            np.testing.assert_allclose(marker.get_xdata(), line["mean"])
            np.testing.assert_allclose(drawn_ends, ends)
    assert display.axes_[-1].get_xscale() == "log"


def test_each_metric_has_the_lines_of_both_golds():
    display = MethodComparisonDisplay.from_results(make_results())
    for panel, metric in zip(display.axes_, display.metrics, strict=True):
        vertical = {
            line.get_linestyle(): line.get_xdata()[0]
            for line in panel.lines
            if list(line.get_ydata()) == [0, 1]
        }
        means = display.scores.loc[metric, "mean"]
        if metric != "AVG_GAP":
            assert vertical[":"] == pytest.approx(means[GOLD])
        if metric != "cost":
            assert vertical["--"] == pytest.approx(means[RESEEDED])
            std = display.scores.loc[(metric, RESEEDED), "std"]
            (band,) = [patch for patch in panel.patches if patch.get_height() == 1]
            assert band.get_x() == pytest.approx(means[RESEEDED] - std)
            assert band.get_width() == pytest.approx(2 * std)


def test_the_star_is_the_gold_standard_alone():
    results = make_results(ratios=RATIOS, groups=("a, x", "b, x"))
    at_one = results[results["ratio"] == 0.5]
    comparison = MethodComparisonDisplay.from_results(at_one)
    groups = GroupAccuracyDisplay.from_results(at_one)
    curves = UnlearningRatioDisplay.from_results(results, metrics="GA")
    for panel in comparison.axes_:
        stars = [line for line in panel.lines if line.get_marker() == "*"]
        assert [list(line.get_ydata()) for line in stars] == [[0]]
    for ax in (groups.ax_, *curves.axes_):
        lines = [line for line in ax.lines if line.get_marker() not in ("None", "|", "", None)]
        stars = [line for line in lines if line.get_marker() == "*"]
        assert len(stars) == 1 and len(lines) > 5
    for legend in (groups.ax_.get_legend(), curves.figure_.axes[-1].get_legend()):
        names = [text.get_text() for text in legend.get_texts()]
        assert GOLD in names and RESEEDED in names


def test_comparison_of_all_methods_is_readable():
    results = pd.read_csv(ALL_METHODS)
    display = MethodComparisonDisplay.from_results(results)
    n_models = len(results[["method", "reweight"]].drop_duplicates())
    assert len(display.models) == n_models > 30
    assert display.metrics == ["AVG_GAP", "RA", "UA", "TA", "MIA", "EO", "GA", "cost"]
    check_readable(display.figure_)


def test_metrics_and_methods_can_be_chosen():
    results = make_results()
    display = MethodComparisonDisplay.from_results(
        results, metrics=["GA"], methods=["scrub", "miu + reweight"], show_cost=False
    )
    assert display.metrics == ["AVG_GAP", "GA"]
    assert set(display.models) == {GOLD, RESEEDED, "scrub", "scrub + reweight", "miu + reweight"}
    assert MethodComparisonDisplay.from_results(results, metrics=()).metrics == ["AVG_GAP", "cost"]
    with pytest.raises(ValueError, match=r"no metric \['nonsense'\]"):
        MethodComparisonDisplay.from_results(results, metrics=["nonsense"])


def test_runs_that_diverged_are_named():
    results = make_results()
    some = results["seed"].eq(0) & results["method"].eq("miu") & results["reweight"].eq(1)
    every = results["method"].eq("scrub") & results["reweight"].eq(0)
    results.loc[some | every, "value"] = np.nan
    display = MethodComparisonDisplay.from_results(results)
    rest = values_of(results, "miu", 1, "AVG_GAP")[1:]
    line = display.scores.loc[("AVG_GAP", "miu + reweight")]
    assert line["mean"] == pytest.approx(rest.mean())
    ticks = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert "miu + reweight (1 of 3 runs diverged)" in ticks
    assert ticks[-1] == "scrub (3 of 3 runs diverged)"
    check_readable(display.figure_)


def test_a_metric_that_is_undefined_is_no_divergence():
    results = make_results()
    results.loc[results["metric"].eq("EO") & results["method"].eq("miu"), "value"] = np.nan
    display = MethodComparisonDisplay.from_results(results)
    assert set(display.notes.values()) == {""}
    assert np.isnan(display.scores.loc[("EO", "miu"), "mean"])


def test_costs_can_be_left_out():
    results = make_results()
    results.loc[results["metric"].eq("cost") & results["method"].eq("miu"), "value"] = 0.0
    with pytest.raises(ValueError, match=r"cost of \['miu', 'miu \+ reweight'\] is not positive"):
        MethodComparisonDisplay.from_results(results)
    without = results[results["metric"] != "cost"]
    with pytest.raises(ValueError, match=r"no metric \['cost'\]"):
        MethodComparisonDisplay.from_results(without)
    display = MethodComparisonDisplay.from_results(without, show_cost=False)
    assert "cost" not in display.metrics
    check_readable(display.figure_)


# curves over the ratio ---------------------------------------------------------------------------

RATIOS = (0.1, 0.5, 0.9)


def test_curves_hold_means_and_deviations():
    results = make_results(ratios=RATIOS)
    shuffled = results.sample(frac=1, random_state=0)
    display = UnlearningRatioDisplay.from_results(shuffled, metrics=["GA", "AVG_GAP"])
    assert [ax.get_title() for ax in display.axes_] == ["GA", "AVG_GAP"]
    for ratio in RATIOS:
        values = values_of(results, "scrub", 1, "GA", ratio)
        cell = display.curves.loc[("GA", "scrub + reweight", ratio)]
        assert cell["mean"] == pytest.approx(values.mean())
        assert cell["std"] == pytest.approx(values.std())


@pytest.mark.parametrize("spread", ["band", "bars", "none"])
def test_curves_are_drawn_at_their_ratios(spread):
    display = UnlearningRatioDisplay.from_results(
        make_results(ratios=RATIOS), metrics="GA", spread=spread
    )
    (panel,) = display.axes_
    models = list(dict.fromkeys(display.curves.index.get_level_values("model")))
    lines = {line.get_label(): line for line in panel.lines}
    assert set(lines) == set(models) and len(panel.lines) == len(models)
    for model, line in lines.items():
        expected = display.curves.loc["GA"].loc[model]["mean"]
        np.testing.assert_allclose(line.get_ydata().astype(float), expected)
        distance = np.abs(line.get_xdata() - 100 * np.array(RATIOS)).max()
        assert distance < 6 if spread == "bars" else distance == 0
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["10", "50", "90"]
    assert panel.get_ylabel() == "accuracy of the forgotten groups (%)"
    styles = {(str(ln.get_color()), ln.get_marker(), ln.get_linestyle()) for ln in panel.lines}
    assert len(styles) == len(models)


def extents_of_spreads(panel):
    """Return the lower and upper end of every band or bar at its last ratio."""
    found = []
    for collection in panel.collections:
        points = np.concatenate([path.vertices for path in collection.get_paths()])
        at_last = points[points[:, 0] > points[:, 0].max() - 5, 1]
        found.append((at_last.min(), at_last.max()))
    return sorted(found)


@pytest.mark.parametrize("spread", ["band", "bars"])
def test_spreads_are_one_deviation(spread):
    results = make_results(ratios=RATIOS)
    display = UnlearningRatioDisplay.from_results(results, metrics="GA", spread=spread)
    last = display.curves.xs(0.9, level="ratio")
    expected = sorted(zip(last["mean"] - last["std"], last["mean"] + last["std"], strict=True))
    np.testing.assert_allclose(extents_of_spreads(display.ax_), expected)


def test_spread_is_chosen_by_the_number_of_models():
    def kinds(methods, chosen):
        results = make_results(methods, ratios=RATIOS)
        display = UnlearningRatioDisplay.from_results(results, metrics="GA", methods=chosen)
        return {type(collection) for collection in display.ax_.collections}

    assert kinds(("miu",), ["miu"]) == {FillBetweenPolyCollection}
    assert kinds(("miu", "scrub"), None) == {LineCollection}
    assert kinds(("miu", "scrub", "salun", "ssd", "sisa"), None) == set()
    with pytest.raises(ValueError, match="spread must be one of"):
        UnlearningRatioDisplay.from_results(make_results(ratios=RATIOS), spread="violin")


@pytest.mark.parametrize(
    "display", [UnlearningRatioDisplay, MethodComparisonDisplay, GroupAccuracyDisplay]
)
def test_unknown_methods_are_refused(display):
    ratios = RATIOS if display is UnlearningRatioDisplay else (0.5,)
    results = make_results(ratios=ratios, groups=("a, x",))
    with pytest.raises(ValueError, match=r"no methods \['mui'\]; there are .*'miu'"):
        display.from_results(results, methods=["mui", "scrub"])
    with pytest.raises(ValueError, match="methods is empty"):
        display.from_results(results, methods=[])


def test_the_gold_standard_has_no_gap_to_itself():
    display = UnlearningRatioDisplay.from_results(
        make_results(ratios=RATIOS), metrics=["AVG_GAP", "GA"]
    )
    assert GOLD not in display.curves.loc["AVG_GAP"].index.get_level_values("model")
    assert GOLD in display.curves.loc["GA"].index.get_level_values("model")


def test_one_panel_of_many_methods_is_readable():
    results = make_results(("miu", "scrub", "salun", "ssd", "sisa"), ratios=RATIOS)
    check_readable(UnlearningRatioDisplay.from_results(results, metrics="GA").figure_)


def test_curves_need_several_ratios_and_a_metric():
    with pytest.raises(ValueError, match=r"ratio 0\.5 alone"):
        UnlearningRatioDisplay.from_results(make_results())
    with pytest.raises(ValueError, match="metrics is empty"):
        UnlearningRatioDisplay.from_results(make_results(ratios=RATIOS), metrics=[])
    with pytest.raises(ValueError, match=r"no metric \['nonsense'\]"):
        UnlearningRatioDisplay.from_results(make_results(ratios=RATIOS), metrics=["nonsense"])


# accuracy of groups ------------------------------------------------------------------------------

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
RACES = ("Black", "Southeast Asian", "Middle Eastern", "Indian", "Latino", "White", "East Asian")


@pytest.mark.parametrize("methods", [("miu",), ("miu", "scrub", "salun", "ssd", "sisa")])
def test_sixty_three_groups_are_readable(methods):
    names = [f"{age}, {race}" for age in AGES for race in RACES]
    results = make_results(methods, groups=names)
    display = GroupAccuracyDisplay.from_results(results, forget_groups=[("20-29", "Black")])
    assert len(display.accuracy) == 63
    assert max(display.figure_.get_size_inches()) < 80
    check_readable(display.figure_)


def test_more_models_than_can_be_told_apart_are_refused():
    names = [f"{age}, {race}" for age in AGES for race in RACES]
    many = tuple(f"method_{number}" for number in range(8))
    results = make_results(many, seeds=1, groups=names)
    with pytest.raises(ValueError, match="20 models in each of 63 groups cannot be told apart"):
        GroupAccuracyDisplay.from_results(results)
    display = GroupAccuracyDisplay.from_results(results, methods=["method_3"])
    assert list(display.accuracy) == [GOLD, RESEEDED, "method_3", "method_3 + reweight"]


@pytest.mark.parametrize(
    "metric",
    ["group_accuracy[>50K, Female, Black]", "group_accuracy[>50K, ('Female', 'Black')]"],
)
def test_groups_of_two_attributes(metric):
    results = make_results(groups=("x",)).replace({"metric": {"group_accuracy[x]": metric}})
    display = GroupAccuracyDisplay.from_results(
        results, forget_groups=[(">50K", ("Female", "Black"))]
    )
    (tick,) = display.ax_.get_yticklabels()
    assert tick.get_text() == ">50K, Female, Black\n(forgotten from)"


# results of a benchmark --------------------------------------------------------------------------


def test_benchmark_results_get_their_average_gap_from_gold():
    results = make_benchmark_results()
    display = MethodComparisonDisplay.from_results(results)
    wide = results.pivot_table(
        index=["method", "seed"],
        columns="metric",
        values="value",
        aggfunc="first",  # of miu, the run without a variant
    )
    deltas = (wide.loc["scrub"] - wide.loc["retrain"]).abs()
    expected = 100 - deltas[list(AVERAGE_GAP_METRICS)].mean(axis=1)
    line = display.scores.loc[("AVG_GAP", "scrub")]
    assert line["mean"] == pytest.approx(expected.mean())
    assert line["std"] == pytest.approx(expected.std(ddof=0))
    assert display.scores.loc[("AVG_GAP", GOLD), "mean"] == 100
    check_readable(display.figure_)


def test_variants_are_models_of_their_own():
    display = MethodComparisonDisplay.from_results(make_benchmark_results())
    assert {"miu + reweight", "miu + reweight, no calibration"} < set(display.models)
    chosen = ["miu + reweight, no calibration"]
    display = MethodComparisonDisplay.from_results(make_benchmark_results(), methods=chosen)
    assert display.models == [GOLD, RESEEDED, *chosen]


def test_every_display_accepts_benchmark_results():
    several = make_benchmark_results(ratios=RATIOS)
    assert UnlearningRatioDisplay.from_results(several).curves.notna().all(axis=None)
    groups = GroupAccuracyDisplay.from_results(make_benchmark_results())
    assert groups.accuracy.index.tolist() == ["20-29, Black"]
    assert groups.gold == GOLD


def test_the_average_gap_needs_gold_of_every_seed():
    results = make_benchmark_results()
    is_gold = results["method"] == "retrain"
    with pytest.raises(ValueError, match=r"no gold standard .* 'seed': 1"):
        MethodComparisonDisplay.from_results(results[~(is_gold & (results["seed"] == 1))])
    lost = (results["method"] == "scrub") & (results["metric"] == "TA")
    with pytest.raises(ValueError, match="2 runs lack some, the first of 'scrub'"):
        MethodComparisonDisplay.from_results(results[~lost])
    with pytest.raises(ValueError, match=r"no metric \['AVG_GAP'\]"):
        MethodComparisonDisplay.from_results(results[results["metric"] != "TA"])


@pytest.mark.parametrize("column", ["dataset", "forget", "selection"])
@pytest.mark.parametrize(
    "display", [MethodComparisonDisplay, UnlearningRatioDisplay, GroupAccuracyDisplay]
)
def test_settings_are_not_averaged(display, column):
    ratios = RATIOS if display is UnlearningRatioDisplay else (0.5,)
    results = make_benchmark_results(ratios=ratios)
    first = results[column].iloc[0]
    mixed = pd.concat([results, results.assign(**{column: "last"})])
    hint = re.escape(f"choose one: results[results['{column}'] == '{first}']")
    with pytest.raises(ValueError, match=hint):
        display.from_results(mixed)
    display.from_results(mixed[mixed[column] == first])  # as the message says


# colours -----------------------------------------------------------------------------------------


def test_forty_two_models_look_different_without_colour_or_in_it():
    names = [f"method_{n}{end}" for n in range(42) for end in ("", " + reweight")]
    styles = model_styles([*names, GOLD, RESEEDED, "pretrain"])
    looks = [
        (style["color"], style["marker"], style.get("markerfacecolor")) for style in styles.values()
    ]
    assert len(set(looks)) == len(looks) == 87
    first = [styles[name]["marker"] for name in names[1:12:2]]
    assert len(set(first)) == 6, "few methods differ by marker alone"


# what both share ---------------------------------------------------------------------------------

DISPLAYS = [MethodComparisonDisplay, UnlearningRatioDisplay, GroupAccuracyDisplay]


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda frame: frame.to_numpy(), TypeError, "must be a DataFrame"),
        (lambda frame: frame.iloc[:0], ValueError, "is empty"),
        (lambda frame: frame.drop(columns="metric"), ValueError, "lacks the columns metric"),
        (lambda frame: frame.assign(value="1"), ValueError, "must hold finite numbers"),
        (lambda frame: frame.assign(reweight="yes"), ValueError, "must hold 0 and 1 only"),
        (lambda frame: pd.concat([frame, frame]), ValueError, "rows twice"),
    ],
)
def test_malformed_results_are_refused(display, spoil, error, message):
    with pytest.raises(error, match=message):
        display.from_results(spoil(make_results(ratios=RATIOS)))
    assert not plt.get_fignums(), "no empty figure is left behind"


@pytest.mark.parametrize("layout", ["constrained", None])
@pytest.mark.parametrize("display", [MethodComparisonDisplay, UnlearningRatioDisplay])
def test_given_axes_are_divided(display, layout):
    figure, (left, right) = plt.subplots(1, 2, figsize=(20, 6), layout=layout)
    ratios = (0.5,) if display is MethodComparisonDisplay else RATIOS
    drawn = display.from_results(make_results(ratios=ratios), ax=right)
    assert drawn.figure_ is figure and plt.get_fignums() == [figure.number]
    figure.canvas.draw()
    assert not left.has_data()
    assert all(ax.get_position().x0 > left.get_position().x1 for ax in drawn.axes_)
    if layout:
        check_readable(figure)
