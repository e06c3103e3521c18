import re
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from result_rows import PAPER_METHODS, full_results, models, run_rows

from grmu_sk.benchmark import format_table, summarize
from grmu_sk.benchmark.paper import (
    GOLD,
    PRETRAIN,
    RESEEDED_GOLD,
    Model,
    paper_values,
    table_layout,
)
from grmu_sk.benchmark.statistics import bootstrap_interval
from grmu_sk.benchmark.tables import is_approximate, make_table
from grmu_sk.metrics import AVERAGE_GAP_METRICS
from grmu_sk.plotting import GroupAccuracyDisplay

pytestmark = pytest.mark.quick

METRICS = [*AVERAGE_GAP_METRICS, "AVG_GAP", "cost", "group_accuracy[a, x]", "group_accuracy[b, x]"]


@pytest.fixture
def results():
    """Two seeds; the gold standard has 80 and 90 in everything, the method 82 and 84."""
    values = {
        ("pretrain", 0): (99, 99),
        ("retrain", 0): (70, 71),
        ("retrain", 1): (80, 90),
        ("miu", 1): (82, 84),
    }
    rows = [
        ("data", 0.5, seed, method, reweight, metric, pair[seed])
        for (method, reweight), pair in values.items()
        for seed in (0, 1)
        for metric in METRICS
    ]
    columns = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_mean_population_std_and_delta_per_seed(results):
    summary = summarize(results).set_index(["method", "reweight", "metric"])
    mean, std, delta = summary.loc[("miu", 1, "GA")]
    assert mean == 83
    assert std == 1  # divided by the number of seeds
    assert delta == 4  # (|82 - 80| + |84 - 90|) / 2, not |83 - 85|
    assert summary.loc[("retrain", 1, "RA"), "delta"] == 0


def test_table_in_the_layout_of_the_paper(results):
    lines = format_table(results).splitlines()
    assert lines[0].split() == ["method", "reweight", *AVERAGE_GAP_METRICS, "avg", "gap", "epochs"]
    assert [line.split()[:2] for line in lines[2:]] == [
        ["pretrain", "no"],
        ["retrain", "no"],
        ["retrain", "yes"],
        ["miu", "yes"],
    ]
    assert "83.0 ±1.0 (4.0)" in lines[-1]
    assert lines[4].split()[-2:] == ["-", "85.0"], "the gold standard has no gap to itself"


def test_figure_shows_every_group_and_model(results):
    display = GroupAccuracyDisplay.from_results(results, forget_groups=[("a", "x")])
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["a, x\n(forgotten from)", "b, x"]
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == [
        "pretrain",
        "retrain",
        "retrain + reweight (gold standard)",
        "miu + reweight",
    ]
    assert display.accuracy.loc["a, x", "miu + reweight"] == 83
    assert display.spread.loc["a, x", "miu + reweight"] == 1


def test_figure_needs_group_accuracies(results):
    with pytest.raises(ValueError, match="no 'group_accuracy"):
        GroupAccuracyDisplay.from_results(results[results["metric"] == "GA"])


def cell(values, model, metric, dataset="celeba"):
    chosen = (values["dataset"] == dataset) & (values["metric"] == metric)
    for name, wanted in zip(("method", "reweight", "variant"), model, strict=True):
        chosen &= values[name] == wanted
    assert chosen.sum() == 1
    return values[chosen].iloc[0]


def by_hand(results, model, metric):
    """Values of a model by seed, by a loop over plain tuples."""
    found = {}
    for row in results.itertuples():
        if (row.method, row.reweight, row.variant) == tuple(model) and row.metric == metric:
            found[row.seed] = row.value
    return found


def gap_by_hand(results, model):
    gaps = []
    for seed in sorted(set(results["seed"])):
        deltas = [
            abs(by_hand(results, model, m)[seed] - by_hand(results, GOLD, m)[seed])
            for m in AVERAGE_GAP_METRICS
        ]
        gaps.append(100 - sum(deltas) / 6)
    return np.array(gaps)


@pytest.fixture
def benchmark():
    return run_rows(models())


@pytest.mark.parametrize("model", [Model("miu", 1), Model("salun", 0), PRETRAIN, RESEEDED_GOLD])
def test_values_follow_the_protocol(benchmark, model):
    values = make_table(1, benchmark).cells
    scores = by_hand(benchmark, model, "UA")
    gold = by_hand(benchmark, GOLD, "UA")
    found = cell(values, model, "UA")
    assert found["mean"] == pytest.approx(sum(scores.values()) / 3)
    assert found["std"] == pytest.approx(np.std(list(scores.values())))
    assert found["delta_vs_gold"] == pytest.approx(sum(abs(scores[s] - gold[s]) for s in gold) / 3)
    gaps = gap_by_hand(benchmark, model)
    gap = cell(values, model, "AVG_GAP")
    assert gap["mean"] == pytest.approx(gaps.mean())
    assert gap["std"] == pytest.approx(gaps.std())
    assert (gap["ci_low"], gap["ci_high"]) == bootstrap_interval(gaps)


def test_deltas_are_taken_before_the_mean(benchmark):
    opposite = benchmark["method"].eq("miu") & benchmark["metric"].eq("UA")
    gold = benchmark["seed"].map(by_hand(benchmark, GOLD, "UA"))
    moved = gold + benchmark["seed"].map({0: 3.0, 1: -3.0, 2: 0.0})
    results = benchmark.assign(value=benchmark["value"].mask(opposite, moved))
    found = cell(make_table(1, results).cells, Model("miu", 1), "UA")
    assert found["delta_vs_gold"] == pytest.approx(2.0), "seeds must not cancel"
    assert found["mean"] == pytest.approx(gold.mean())


def test_average_gap_among_the_results_is_not_trusted(benchmark):
    lie = benchmark[benchmark["metric"] == "RA"].assign(metric="AVG_GAP", value=1.0)
    both = make_table(1, pd.concat([benchmark, lie])).cells
    pd.testing.assert_frame_equal(both, make_table(1, benchmark).cells)


def test_fairness_deltas_are_signed_and_against_pretrain(benchmark):
    values = make_table(18, benchmark, dataset="celeba").cells
    before, after = (by_hand(benchmark, m, "WG") for m in (PRETRAIN, Model("miu", 1)))
    expected = sum(after[s] - before[s] for s in after) / 3
    found = cell(values, Model("miu", 1), "WG")
    assert found["delta_vs_pretrain"] == pytest.approx(expected)
    assert found["paper_delta_vs_pretrain"] == 0.7
    text = make_table(18, benchmark, dataset="celeba").render()
    assert f"({expected:+.1f})".replace("-", "\N{MINUS SIGN}") in text


def test_paper_stands_beside_its_own_data_set_only(benchmark):
    values = make_table(1, benchmark).cells
    found = cell(values, Model("miu", 1), "GA")
    assert (found["paper_mean"], found["paper_delta_vs_gold"]) == (41.3, 0.4)
    other = make_table(1, benchmark.assign(dataset="adult_sex"), dataset="adult_sex")
    assert other.cells["paper_mean"].isna().all()
    assert "paper" not in other.render()
    assert "41.3 (0.4)" in make_table(1, benchmark).render()


def test_paper_alone():
    lines = make_table(6).render().splitlines()
    assert lines[2].split() == ["method", "reweight", *AVERAGE_GAP_METRICS, "avg", "gap"]
    last = next(line for line in reversed(lines) if line.startswith("miu"))
    assert "43.2 ±0.6" in last
    assert "*99.0 ±0.2" in last
    assert "gold_reseeded" not in make_table(6).render()
    with pytest.raises(ValueError, match="has no data set 'adult_sex', only celeba"):
        make_table(6, dataset="adult_sex")


@pytest.mark.parametrize("number", range(1, 19))
def test_every_table_with_and_without_results(number):
    layout = table_layout(number)
    printed = paper_values(number)
    alone = make_table(number).cells
    shown = alone[alone["paper_mean"].notna()]
    assert len(shown) == len(printed), "every printed cell is in the table"
    full = full_results("digits", forget=layout.forget, ratio=layout.ratio)
    table = make_table(number, full, dataset="digits")
    for kind in ("text", "markdown", "latex"):
        text = table.render(kind)
        assert "ceiling" in text
        assert "epochs" in text
        assert "seeds" in text
        assert "Missing" not in text
        assert "| - |" not in text


def test_best_is_the_smallest_delta_of_each_block(benchmark):
    values = make_table(1, benchmark).cells
    for reweight in (0, 1):
        names = [Model(name, reweight) for name in PAPER_METHODS]
        for metric, column, sign in (("EO", "delta_vs_gold", -1), ("AVG_GAP", "mean", 1)):
            scores = [sign * round(cell(values, m, metric)[column], 1) for m in names]
            marked = [bool(cell(values, m, metric)["best"]) for m in names]
            assert marked == [score == max(scores) for score in scores]
    assert not values[~values["method"].isin(PAPER_METHODS)]["best"].any()


def test_best_of_the_paper_and_equal_values():
    values = make_table(1).cells
    best = values[values["paper_best"] & (values["reweight"] == 0)]
    by_metric = best.groupby("metric")["method"].agg(sorted).to_dict()
    assert by_metric["TA"] == ["miu", "salun"], "0.1 twice"
    assert by_metric["RA"] == ["salun"]
    assert by_metric["AVG_GAP"] == ["miu"]


def test_equal_as_printed_is_equal(benchmark):
    twin = benchmark.copy()
    is_twin = (twin["method"] == "scrub") & (twin["reweight"] == 1)
    source = twin[(twin["method"] == "miu") & (twin["reweight"] == 1)]
    twin.loc[is_twin, "value"] = source["value"].to_numpy() + 1e-4
    values = make_table(1, twin).cells
    for metric in (*AVERAGE_GAP_METRICS, "AVG_GAP"):
        found = [cell(values, Model(name, 1), metric)["best"] for name in ("scrub", "miu")]
        assert found[0] == found[1]


def test_other_methods_come_after_those_of_the_paper():
    results = run_rows(models((*PAPER_METHODS, "bad_teacher", "no_op", "sisa", "my_own")))
    table = make_table(1, results)
    rows = [row.cells[0] for _, block in table.as_text_table().blocks for row in block]
    rows = [name for name in rows if name != "  paper"]
    assert rows[:5] == ["pretrain", "retrain", "group_dro", "retrain", "gold_reseeded (ceiling)"]
    assert rows[5:13] == [*PAPER_METHODS, *PAPER_METHODS]
    assert rows[13:] == ["bad_teacher", "my_own", "no_op", "sisa"] * 2
    competing = {name for name in rows if is_approximate(name)}
    assert {"bad_teacher", "my_own", *PAPER_METHODS} <= competing
    assert not competing & {"no_op", "sisa", "retrain", "pretrain", "group_dro"}


def test_sweeps_and_ablations_stay_out_of_comparisons():
    results = pd.concat([full_results(), run_rows([Model("miu", 1, "lam=0.1")])])
    assert set(make_table(1, results).cells["variant"]) == {""}
    ablation = make_table(17, results, dataset="celeba").cells
    assert "lam=0.1" not in set(ablation["variant"])
    assert "no_unlearning" in set(ablation["variant"]), "not in the paper, but in the results"


def test_two_seeds_have_no_interval():
    table = make_table(1, run_rows(models(), seeds=2))
    assert table.cells["ci_low"].isna().all()
    text = table.render()
    assert "< 3 seeds" in text
    assert "with fewer than 3 seeds it cannot be resolved" in " ".join(text.split())
    assert "nan" not in text
    assert "< 3 seeds" not in make_table(1, run_rows(models(), seeds=3)).render()


def test_missing_runs_are_dashes_and_named(benchmark):
    gone = (benchmark["method"] == "scrub") & (benchmark["reweight"] == 0)
    gone |= (benchmark["method"] == "miu") & (benchmark["seed"] == 1)
    gone |= benchmark["method"] == "gold_reseeded"
    table = make_table(1, benchmark[~gone])
    lines = table.render().splitlines()
    scrub = next(line for line in lines if line.startswith("scrub "))
    assert scrub.split()[2:] == ["-"] * 9 + ["0/3"]
    assert "2/3" in next(line for line in lines if line.startswith("miu "))
    notes = " ".join(table.notes)
    missing = "gold_reseeded + reweight; scrub; miu (seed 1); miu + reweight (seed 1)"
    assert f"Missing: {missing}." in notes
    command = "grmu bench --dataset celeba --data-root DATA --forget group --ratios 0.5 "
    assert command + "--methods scrub miu --seeds 3 --out RESULTS" in table.notes
    assert not any("Missing" in note for note in make_table(1, benchmark).notes)


def test_missing_ablations_have_a_command():
    results = full_results("celeba")
    table = make_table(4, results[results["variant"] != "no_calibration"], dataset="celeba")
    assert "Missing: miu, no calibration. To get them:" in table.notes
    assert table.notes[-1].endswith("--methods miu --seeds 3 --ablations --out RESULTS")


def test_undefined_metrics_are_named(benchmark):
    gone = (benchmark["method"] == "salun") & (benchmark["metric"] == "MIA")
    gone &= (benchmark["reweight"] == 1) & (benchmark["seed"] == 1)
    for results in (benchmark[~gone], benchmark.assign(value=benchmark["value"].mask(gone))):
        table = make_table(1, results)
        assert "MIA of salun + reweight is undefined with seed 1." in table.notes
        assert not any("Missing" in note for note in table.notes), "it has run"
        assert cell(table.cells, Model("salun", 1), "AVG_GAP")["n_seeds"] == 2
        assert cell(table.cells, Model("salun", 1), "RA")["n_seeds"] == 3


def test_diverged_runs_are_named_and_not_marked(benchmark):
    best = make_table(1, benchmark).cells
    best = best[best["best"] & (best["metric"] == "AVG_GAP") & (best["reweight"] == 1)]["method"]
    winner = best.iloc[0]
    failed = (benchmark["method"] == winner) & (benchmark["reweight"] == 1)
    failed &= benchmark["seed"] == 2
    table = make_table(1, benchmark.assign(value=benchmark["value"].mask(failed)))
    assert any(
        note.startswith(f"{winner} + reweight gave no finite loss with seed 2")
        for note in table.notes
    )
    assert not cell(table.cells, Model(winner, 1), "AVG_GAP")["best"]
    assert "nan" not in table.render()


def test_gold_says_which_epoch_it_kept(benchmark):
    kept = by_hand(benchmark, GOLD, "kept_epoch")
    expected = ", ".join(f"{kept[seed]:g} (seed {seed})" for seed in range(3))
    notes = make_table(1, benchmark).notes
    assert f"Epoch kept by the gold standard: {expected}." in notes


def test_one_seed_has_no_deviation():
    own = [
        row
        for _, rows in make_table(6, run_rows(models(), seeds=1)).as_text_table().blocks
        for row in rows
        if not row.is_quoted
    ]
    assert len(own) == 13
    assert not any("±" in cell for row in own for cell in row.cells)


def test_models_the_seeds_cannot_tell_apart(benchmark):
    results = benchmark.copy()
    gaps = {name: gap_by_hand(results, Model(name, 1)) for name in PAPER_METHODS}
    gaps |= {f"{name} ": gap_by_hand(results, Model(name, 0)) for name in PAPER_METHODS}
    best = max(gaps, key=lambda name: gaps[name].mean())
    note = next(n for n in make_table(1, results).notes if n.startswith("Highest average gap"))
    for name, gap in gaps.items():
        low, high = bootstrap_interval(gaps[best] - gap)
        is_named = f"{name.strip()}{'' if name.endswith(' ') else ' + reweight'} (" in note
        assert is_named == (name != best and low <= 0 <= high)
    assert note.startswith(f"Highest average gap among approximate methods: {best.strip()}")


def test_second_protocol():
    results = pd.concat([run_rows(models()), run_rows(models(), selection="last")])
    best, last = (make_table(1, results, selection=name) for name in ("best", "last"))
    only = make_table(1, results[results["selection"] == "last"], selection="last")
    pd.testing.assert_frame_equal(last.cells, only.cells)
    assert not last.cells["mean"].equals(best.cells["mean"])
    assert "its last epoch" in last.render()
    assert "its best validation epoch" in best.render()
    part = results[(results["selection"] == "best") | (results["method"] != "miu")]
    assert (
        make_table(1, part, selection="last")
        .notes[-1]
        .endswith("--methods miu --seeds 3 --selection last --out RESULTS")
    )
    with pytest.raises(ValueError, match="selection must be 'best' or 'last', got 'first'"):
        make_table(1, results, selection="first")


def test_several_data_sets_one_below_the_other():
    results = pd.concat([full_results("celeba"), full_results("fairface")])
    table = make_table(4, results)
    titles = [title for title, _ in table.as_text_table().blocks if title]
    assert titles == ["celeba", "waterbirds", "fairface"]
    assert "waterbirds: Missing: all runs. To get them:" in table.notes
    assert table.cells["paper_mean"].notna().sum() == len(paper_values(4))


def test_latex_has_balanced_rows_and_escapes(benchmark):
    lines = make_table(1, benchmark).render("latex").splitlines()
    assert r"\usepackage{booktabs,graphicx}" in lines[0]
    columns = next(line for line in lines if line.startswith(r"\begin{tabular}"))
    n_columns = len(columns.removeprefix(r"\begin{tabular}{").rstrip("}"))
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) > 20
    assert {line.count(" & ") + 1 for line in rows} == {n_columns}
    text = "\n".join(lines)
    assert r"l1\_sparse" in text
    assert not re.search(r"(?<!\\)[_%#]", "\n".join(lines[1:]).replace("{%\n", "\n"))
    for begin, end in (("{", "}"), (r"\begin{", r"\end{")):
        plain = text.replace(r"\{", "").replace(r"\}", "")
        assert plain.count(begin) == plain.count(end)
    assert r"\textbf{" in text
    assert "±" not in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert f"\\{rule}" in text


def test_markdown_is_a_table(benchmark):
    lines = make_table(1, benchmark).render("markdown").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert re.fullmatch(r"\|( :?-+:? \|)+", rows[1])
    assert any("**" in row for row in rows[2:])
    assert any(row.startswith("| *paper* |") for row in rows)


def test_csv_can_be_read_back(benchmark):
    table = make_table(1, benchmark)
    read = pd.read_csv(
        StringIO(table.render("csv")),
        keep_default_na=False,
        na_values={name: [""] for name in table.cells if table.cells[name].dtype == float},
    )
    pd.testing.assert_frame_equal(read, table.cells, check_dtype=False)
    with pytest.raises(ValueError, match=r"Unknown format 'html'; there are: text, markdown"):
        table.render("html")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda r: r, {"number": 19}, "no Table 19: choose one from 1 to 18"),
        (lambda r: r, {"number": 2}, "no data set 'waterbirds'; they hold celeba"),
        (lambda r: r, {"dataset": "x"}, "no data set 'x'; they hold celeba"),
        (lambda r: r, {"number": 5}, r"ratio 0.1.*hold .*: group, 0.5, best.*grmu bench"),
        (lambda r: r, {"selection": "last"}, "selection 'last'"),
        (
            lambda r: r[(r["method"] != "retrain") | (r["reweight"] == 0)],
            {},
            "no gold standard for 'celeba'.*--methods retrain",
        ),
        (lambda r: r.iloc[:0], {}, "holds no rows"),
        (lambda r: r.drop(columns=["variant", "ratio"]), {}, "lacks the columns ratio, variant"),
        (lambda r: pd.concat([r, r.iloc[[5]]]), {}, "row 441, column 'metric'.*once, not twice"),
        (lambda r: r.assign(reweight=2), {}, "column 'reweight': expected 0 or 1, got '2'"),
        (lambda r: r.assign(value="a"), {}, "column 'value': expected a finite number, got 'a'"),
        (lambda r: r.assign(seed=0.5), {}, "column 'seed': expected a whole number"),
        (lambda r: r.assign(ratio=50.0), {}, "column 'ratio': expected a share"),
        (lambda r: r.assign(selection="x"), {}, "column 'selection': expected 'best' or 'last'"),
        (lambda r: r.assign(dataset=None), {}, "column 'dataset': expected text"),
    ],
)
def test_what_cannot_be_shown(benchmark, change, options, message):
    with pytest.raises(ValueError, match=message):
        make_table(**{"number": 1, "results": change(benchmark), **options})


def test_results_must_be_a_table():
    with pytest.raises(TypeError, match="must be a DataFrame, got str"):
        make_table(1, "results.csv")
