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
from grmu_sk.results import Row, check_results

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
