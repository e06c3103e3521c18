import numpy as np
import pandas as pd
import pytest
from result_rows import PAPER_METHODS, full_results, models, run_rows

from grmu_sk.benchmark import make_table
from grmu_sk.benchmark.paper import paper_values, table_layout
from grmu_sk.benchmark.tables import bootstrap_interval, is_approximate
from grmu_sk.metrics import AVERAGE_GAP_METRICS
from grmu_sk.results import GOLD, PRETRAIN, Row, format_table, rows_there, summarize

pytestmark = pytest.mark.quick

GOLDEN, MIU = ("retrain", 1), ("miu", 1)


def test_a_comparison_in_memory():
    """Two seeds; the gold standard has 80 and 90 in everything, the method 82 and 84."""
    pairs = {("pretrain", 0): (99, 99), ("retrain", 0): (70, 71), GOLDEN: (80, 90), MIU: (82, 84)}
    rows = [
        ("data", 0.5, seed, *model, metric, pair[seed])
        for model, pair in pairs.items()
        for seed in (0, 1)
        for metric in [*AVERAGE_GAP_METRICS, "AVG_GAP", "retrainings"]
    ]
    columns = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]
    results = pd.DataFrame(rows, columns=columns)
    summary = summarize(results)
    mean, std, delta = summary.loc[(*MIU, "GA")]
    assert mean == 83
    assert std == 1  # divided by the number of seeds
    assert delta == 4  # (|82 - 80| + |84 - 90|) / 2, not |83 - 85|
    assert summary.loc[(*GOLDEN, "RA"), "delta"] == 0
    lines = format_table(results).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["pretrain", "retrain", "retrain", "miu"]
    assert "83.0 ±1.0 (4.0)" in lines[-1]
    assert lines[4].split()[-2:] == ["-", "85.00"], "the gold standard has no gap to itself"


def cell(table, row, metric):
    values = table.cells
    return values[row.of(values) & (values["metric"] == metric)].iloc[0]


def by_hand(results, row, metric):
    """Values of a model by seed."""
    lines = results[row.of(results) & (results["metric"] == metric)]
    return dict(zip(lines["seed"], lines["value"], strict=True))


@pytest.fixture
def benchmark():
    return run_rows(models())


def test_intervals_are_those_of_all_possible_draws():
    values = [3.0, 4.0, 8.0]
    means = [np.mean([a, b, c]) for a in values for b in values for c in values]
    expected = np.quantile(np.repeat(means, 1000), [0.025, 0.975])
    found = bootstrap_interval(pd.Series([*values, np.nan]))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.isnan(bootstrap_interval(pd.Series([1.0, 2.0, np.nan]))).all()


def test_values_follow_the_protocol(benchmark):
    row, table = Row("miu", True), make_table(1, benchmark)
    scores, gold = by_hand(benchmark, row, "UA"), by_hand(benchmark, GOLD, "UA")
    found = cell(table, row, "UA")
    assert found["mean"] == pytest.approx(sum(scores.values()) / 3)
    assert found["std"] == pytest.approx(np.std(list(scores.values())))
    assert found["delta"] == pytest.approx(sum(abs(scores[s] - gold[s]) for s in gold) / 3)
    pairs = [(by_hand(benchmark, row, m), by_hand(benchmark, GOLD, m)) for m in AVERAGE_GAP_METRICS]
    gaps = [100 - sum(abs(own[s] - gold[s]) for own, gold in pairs) / 6 for s in range(3)]
    gap, ends = cell(table, row, "AVG_GAP"), bootstrap_interval(pd.Series(gaps))
    assert (gap["mean"], gap["std"]) == pytest.approx((np.mean(gaps), np.std(gaps)))
    assert (gap["ci_low"], gap["ci_high"]) == pytest.approx(ends)
    text = f"{gap['mean']:.1f} ±{gap['std']:.1f}"
    assert text in table.render() and f"[{ends[0]:.1f}, {ends[1]:.1f}]" in table.render()
    lie = benchmark[benchmark["metric"] == "RA"].assign(metric="AVG_GAP", value=1.0)
    both = make_table(1, pd.concat([benchmark, lie])).cells
    pd.testing.assert_frame_equal(both, table.cells)


def test_fairness_deltas_are_signed_and_against_pretrain(benchmark):
    table = make_table(18, benchmark, dataset="celeba")
    before, after = (by_hand(benchmark, row, "WG") for row in (PRETRAIN, Row("miu", True)))
    expected = sum(after[s] - before[s] for s in after) / 3
    found = cell(table, Row("miu", True), "WG")
    assert (found["delta"], found["paper_delta"]) == (pytest.approx(expected), 0.7)
    assert f"({expected:.1f})" in table.render()


def test_paper_stands_beside_its_own_data_set_only_or_alone(benchmark):
    found = cell(make_table(1, benchmark), Row("miu", True), "GA")
    assert (found["paper_mean"], found["paper_delta"]) == (41.3, 0.4)
    text = make_table(1, benchmark).render()
    assert "41.3 (0.4)" in text and "(paper)" in text
    other = make_table(1, benchmark.assign(dataset="adult_sex"), dataset="adult_sex")
    assert other.cells["paper_mean"].isna().all() and "(paper)" not in other.render()
    assert "*99.0 ±0.2" in make_table(6).render()


@pytest.mark.parametrize("number", [4, 5, 14, 16, 17, 18])
def test_every_kind_of_table_with_and_without_results(number):
    layout = table_layout(number)
    alone = make_table(number).cells
    assert alone["paper_mean"].notna().sum() == len(paper_values(number)), "every printed cell"
    full = full_results("digits", forget=layout.forget, ratio=layout.ratio)
    text = make_table(number, full, dataset="digits").render("markdown")
    assert all(word in text for word in ("other seed", "epochs", "seeds"))
    assert "Missing" not in text and "| - |" not in text


def test_the_best_of_each_block_is_marked_equal_as_printed(benchmark):
    source = benchmark[Row("miu", True).of(benchmark)]
    twin = benchmark.copy()
    twin.loc[Row("scrub", True).of(twin), "value"] = source["value"].to_numpy() + 1e-4
    for results in (benchmark, twin):
        table = make_table(1, results)
        for reweight in (False, True):
            gaps = [cell(table, Row(name, reweight), "AVG_GAP") for name in PAPER_METHODS]
            shown = [round(gap["mean"], 1) for gap in gaps]
            assert [gap["best"] for gap in gaps] == [value == max(shown) for value in shown]
        assert set(table.cells[table.cells["best"]]["metric"]) == {"AVG_GAP"}


def test_which_rows_are_shown_and_compete():
    results = run_rows(models((*PAPER_METHODS, "bad_teacher", "no_op", "sisa", "my_own")))
    names = [row.method for row in rows_there(make_table(1, results).cells)]
    exact = ["pretrain", "retrain", "group_dro", "retrain", "gold_reseeded"]
    assert names[:5] == exact and names[5:9] == ["no_op", "sisa"] * 2
    assert names[9:] == [*PAPER_METHODS * 2, *["bad_teacher", "my_own"] * 2]
    assert all(is_approximate(name) == (n >= 9) for n, name in enumerate(names))
    results = pd.concat([full_results(), run_rows([Row("miu", True, "lam=0.1")])])
    assert set(make_table(1, results).cells["variant"]) == {""}
    table = make_table(17, results)
    ablation = set(table.cells["variant"])
    assert "lam=0.1" not in ablation
    assert "no_unlearning" in ablation, "not in the paper, but in the results"
    missing = [note for note in table.notes if note.startswith("Missing, waterbirds")]
    assert len(missing) == 1 and "miu, no calibration; miu; " in missing[0]


def test_missing_runs_are_dashes_and_named(benchmark):
    gone = (benchmark["method"] == "scrub") & (benchmark["reweight"] == 0)
    gone |= (benchmark["method"] == "miu") & (benchmark["seed"] == 1)
    gone |= benchmark["method"] == "gold_reseeded"
    table = make_table(1, benchmark[~gone])
    assert "0/3" in table.render() and "2/3" in table.render()
    for part in ("scrub; miu (seed 1); miu + reweight (seed 1)", "gold_reseeded + reweight"):
        assert part in table.notes[-1]


def test_undefined_metrics_and_diverged_runs_are_named(benchmark):
    gone = Row("salun", True).of(benchmark) & (benchmark["metric"] == "MIA")
    gone &= benchmark["seed"] == 1
    for results in (benchmark[~gone], benchmark.assign(value=benchmark["value"].mask(gone))):
        table = make_table(1, results)
        (note,) = (note for note in table.notes if note.startswith("Left out"))
        assert note.startswith("Left out of means: salun + reweight on celeba, seed 1, gave no ")
        assert note.endswith("AVG_GAP.") and "Missing" not in table.render(), "it has run"
        assert cell(table, Row("salun", True), "AVG_GAP")["n_seeds"] == 2
        assert cell(table, Row("salun", True), "RA")["n_seeds"] == 3
    best = table.cells[table.cells["best"]]
    winner = Row(best[best["reweight"] == 1]["method"].iloc[0], True)
    failed = winner.of(benchmark) & (benchmark["seed"] == 2)
    table = make_table(1, benchmark.assign(value=benchmark["value"].mask(failed)))
    assert f"{winner.label} on celeba, seed 2, gave no RA, UA" in table.render()
    assert not cell(table, winner, "AVG_GAP")["best"] and "nan" not in table.render()


def test_selections_are_kept_apart_and_few_seeds_say_so():
    results = pd.concat([run_rows(models(), seeds=2), run_rows(models(), selection="last")])
    best, last = (make_table(1, results, selection=name) for name in ("best", "last"))
    only = make_table(1, results[results["selection"] == "last"], selection="last")
    pd.testing.assert_frame_equal(last.cells, only.cells)
    assert "< 3 seeds" in best.render() and "nan" not in best.render()


def test_what_cannot_be_shown(benchmark):
    for results, options, message in [
        (benchmark, {"number": 5}, "'group', ratio 0.1: 'grmu bench' trains"),
        (benchmark, {"selection": "last"}, "selection 'last'"),
        (benchmark[benchmark["method"] != "retrain"], {}, "gold standard of 'celeba'"),
        (pd.concat([benchmark, benchmark.iloc[[5]]]), {}, "rows twice"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_table(**{"number": 1, "results": results, **options})
