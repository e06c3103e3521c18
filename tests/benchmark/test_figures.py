from itertools import product

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from result_rows import PAPER_METHODS, models, run_rows

from grmu_sk.benchmark import make_figure
from grmu_sk.benchmark.paper import paper_values
from grmu_sk.benchmark.tables import with_gaps
from grmu_sk.results import GOLD, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row, check_results

matplotlib.use("Agg")

GROUPS = list(product(("Blond_Hair", "not Blond_Hair"), ("Male", "not Male")))
MANY_GROUPS = [(f"age {y}", f"race {a}") for y in range(5) for a in range(4)]
LAMBDAS = (0.1, 1, 10)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def results():
    sweep = [Row("miu", True, f"lam={value:g}") for value in LAMBDAS]
    parts = [
        *(run_rows(models(), dataset="fairface", ratio=ratio) for ratio in (0.1, 0.5, 0.9)),
        run_rows(models(), dataset="fairface", forget="groups-9"),
        run_rows(models(), dataset="fairface", forget="groups-25"),
        run_rows(models(), dataset="fairface", forget="pairs-4", groups=MANY_GROUPS),
        run_rows([*models(), *sweep], dataset="celeba"),
        run_rows(models(), dataset="celeba", forget="pairs-2", groups=GROUPS),
    ]
    return pd.concat(parts)


@pytest.mark.parametrize(
    ("number", "dataset"), [(2, "celeba"), (7, "fairface"), (5, "fairface"), (8, "celeba")]
)
def test_figures_fit_their_page_and_are_the_same_bytes_again(results, number, dataset, tmp_path):
    built = make_figure(number, results, dataset=dataset)
    built.figure.canvas.draw()
    assert built.notes == ()
    assert built.caption.startswith(f"Figure {number}, {dataset}: ")
    is_ours = "our choice" in built.caption
    assert is_ours == (number != 8), "what the paper does not settle is said to be ours"
    if number == 8:
        again = make_figure(number, results, dataset=dataset)
        files = [*built.save(tmp_path / "a"), *again.save(tmp_path / "b")]
        assert [file.name for file in files[:2]] == ["figure_8_celeba.png", "figure_8_celeba.svg"]
        contents = [file.read_bytes() for file in files]
        assert contents[:2] == contents[2:]


def test_points_are_means_and_deviations_of_the_results_and_the_papers(results):
    built = make_figure(4, results, dataset="fairface")
    ours = built.data[(built.data["source"] == "results") & (built.data["position"] == 90)]
    runs = check_results(results[(results["dataset"] == "fairface") & (results["ratio"] == 0.9)])
    runs = with_gaps(runs)
    runs = runs[runs["metric"] == "AVG_GAP"]
    for name in PAPER_METHODS:
        values = runs.loc[Row(name, True).of(runs), "value"].to_numpy()
        point = ours[ours["model"] == Row(name, True)].iloc[0]
        assert (point["mean"], point["std"]) == pytest.approx((np.mean(values), np.std(values)))
    drawn = np.concatenate([line.get_ydata() for line in built.figure.axes[0].lines])
    assert sorted(drawn) == pytest.approx(
        sorted(built.data[built.data["source"] == "results"]["mean"])
    )
    for number, metric, position, table in [(5, "UA", 90, 13), (6, "GA", 1, 14)]:
        built = make_figure(number, results, dataset="fairface")
        data = built.data
        printed = data[(data["source"] == "paper") & (data["position"] == position)]
        found = printed[(printed["metric"] == metric) & (printed["model"] == Row("miu", True))]
        values = paper_values(table).set_index(["method", "reweight", "metric"])
        expected = values.loc[("miu", 1, metric), ["mean", "std"]].tolist()
        assert found[["mean", "std"]].iloc[0].tolist() == expected
    lines = built.figure.axes[0].lines
    shapes = {(line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(shapes) == len(lines) == 9, "without colour, too"


def test_colours_stay_when_a_method_is_missing_and_that_is_named(results):
    def colours(built):
        lines = built.figure.axes[0].lines
        return {round(line.get_ydata()[0], 6): line.get_color() for line in lines}

    part = make_figure(4, results[results["method"] != "salun"], dataset="fairface")
    whole, colours_left = colours(make_figure(4, results, dataset="fairface")), colours(part)
    assert len(colours_left) == len(whole) - 2
    assert all(whole[value] == color for value, color in colours_left.items())
    assert part.notes[0] == "Missing, fairface, group, ratio 0.1: salun; salun + reweight."
    built = make_figure(3, results.replace({"fairface": "adult_sex"}), dataset="adult_sex")
    assert set(built.data["source"]) == {"results"} and "The paper's numbers" not in built.caption
    assert set(built.data["model"]) == {PRETRAIN, RETRAIN, GOLD, RESEEDED_GOLD}
    assert set(make_figure(6, dataset="fairface").data["source"]) == {"paper"}


def test_lambda_sweep(results):
    data = make_figure(8, results, dataset="celeba").data
    is_ours = (data["source"] == "results") & (data["model"] == Row("miu", True))
    of_celeba = results[(results["dataset"] == "celeba") & (results["forget"] == "group")]
    gaps = with_gaps(check_results(of_celeba))
    gaps = gaps[gaps["metric"] == "AVG_GAP"].groupby("variant")["value"].mean()
    expected = [gaps[f"lam={value:g}"] for value in LAMBDAS]
    assert data[is_ours]["mean"].tolist() == pytest.approx(expected)
    paper = data[data["source"] == "paper"].set_index("position")["mean"]
    assert paper.to_dict() == {1: 99.2, 2: 99.0}, "lambda 1 and 10"


def test_accuracy_of_each_group(results):
    built = make_figure(7, results, dataset="celeba")
    point = built.data[built.data["model"] == "miu + reweight"].set_index("position")["mean"]
    rows = results[(results["forget"] == "pairs-2") & Row("miu", True).of(results)]
    rows = rows[rows["metric"] == "group_accuracy[Blond_Hair, Male]"]
    assert point["Blond_Hair, Male"] == pytest.approx(rows["value"].mean())
    labels = [label.get_text() for label in built.figure.axes[0].get_yticklabels()]
    marked = [label.partition(" (forg")[0] for label in labels if "forgotten from" in label]
    assert sorted(marked) == ["Blond_Hair, Male", "not Blond_Hair, not Male"]
    built = make_figure(2, results, dataset="fairface")
    assert set(built.data["model"]) == {row.title for row in (PRETRAIN, RETRAIN, GOLD)}
    assert "Of 20 groups, the 12 that change most" in built.caption
    assert len(built.figure.axes[0].get_yticklabels()) == 12


def test_what_cannot_be_drawn(results):
    for number, dataset, table, message in [
        (1, "celeba", results, "no Figure 1"),
        (2, "celeba", results[results["metric"] == "GA"], r"no metric 'group_accuracy\[y, a\]'"),
        (8, "celeba", results[results["variant"] == ""], "several weights: --lambdas 0.1,1,10"),
        (7, "celeba", None, "Figure 7 needs results"),
        (4, "digits", None, "no numbers of Figure 4 for 'digits'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_figure(number, table, dataset=dataset)
