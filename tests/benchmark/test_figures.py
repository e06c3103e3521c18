import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from result_rows import PAPER_METHODS, models, run_rows

from grmu_sk.benchmark import make_figure
from grmu_sk.benchmark.figures import figure_datasets
from grmu_sk.benchmark.paper import paper_values
from grmu_sk.benchmark.tables import with_deltas
from grmu_sk.results import GOLD, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row, check_results

matplotlib.use("Agg")

RATIOS = (0.1, 0.5, 0.9)
GROUPS = (("blond", "male"), ("blond", "female"), ("dark", "male"), ("dark", "female"))
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
        *(run_rows(models(), dataset="fairface", ratio=ratio) for ratio in RATIOS),
        run_rows(models(), dataset="fairface", forget="groups-9"),
        run_rows(models(), dataset="fairface", forget="groups-25"),
        run_rows(models(), dataset="fairface", forget="pairs-4", groups=MANY_GROUPS),
        run_rows([*models(), *sweep], dataset="celeba"),
        run_rows(models(), dataset="celeba", forget="pairs-2", groups=GROUPS),
    ]
    return pd.concat(parts)


def panel(figure, row, column):
    axes = [ax for ax in figure.axes if ax.get_xlabel() or ax.lines]
    columns = sorted({round(ax.get_position().x0, 2) for ax in axes})
    rows = sorted({round(ax.get_position().y1, 2) for ax in axes}, reverse=True)
    for ax in axes:
        box = ax.get_position()
        if (round(box.x0, 2), round(box.y1, 2)) == (columns[column], rows[row]):
            return ax
    raise AssertionError((row, column))


@pytest.mark.parametrize(
    ("number", "dataset"), [(2, "celeba"), (7, "fairface"), (5, "fairface"), (8, "celeba")]
)
def test_figures_fit_their_page(results, number, dataset):
    built = make_figure(number, results, dataset=dataset)
    built.figure.canvas.draw()
    assert built.notes == ()
    assert built.caption.startswith(f"Figure {number}, {dataset}: ")
    is_ours = "our choice" in built.caption
    assert is_ours == (number != 8), "what the paper does not settle is said to be ours"


def test_points_are_means_and_deviations_of_the_results(results):
    data = make_figure(4, results, dataset="fairface").data
    ours = data[(data["source"] == "results") & (data["position"] == 90)].set_index("model")
    runs = check_results(results[(results["dataset"] == "fairface") & (results["ratio"] == 0.9)])
    runs = with_deltas(runs)
    runs = runs[runs["metric"] == "AVG_GAP"]
    for name in PAPER_METHODS:
        row = Row(name, True)
        values, point = runs.loc[row.of(runs), "value"], ours.loc[row]
        assert point["mean"] == pytest.approx(values.mean())
        assert point["std"] == pytest.approx(np.std(values.to_numpy()))


def test_drawn_lines_are_the_data_and_the_paper_has_panels_of_its_own(results):
    for number, metric, position, table in [
        (4, "AVG_GAP", 10, 11),
        (5, "UA", 90, 13),
        (6, "GA", 1, 14),
    ]:
        data = make_figure(number, results, dataset="fairface").data
        printed = data[(data["source"] == "paper") & (data["position"] == position)]
        found = printed[(printed["metric"] == metric) & (printed["model"] == Row("miu", True))]
        values = paper_values(table).set_index(["method", "reweight", "metric"])
        expected = values.loc[("miu", 1, metric), ["mean", "std"]].tolist()
        assert found[["mean", "std"]].iloc[0].tolist() == expected
    built = make_figure(3, results, dataset="fairface")
    built.figure.canvas.draw()
    for column, source in enumerate(("results", "paper")):
        ax = panel(built.figure, 0, column)
        data = built.data[(built.data["source"] == source) & (built.data["metric"] == "GA")]
        drawn = sorted(np.concatenate([line.get_ydata() for line in ax.lines]).tolist())
        assert drawn == pytest.approx(sorted(data["mean"]))
    assert set(built.data["model"]) == {PRETRAIN, RETRAIN, GOLD, RESEEDED_GOLD}


def test_colours_stay_when_a_method_is_missing_and_that_is_named(results):
    def colours(table):
        lines = panel(make_figure(4, table, dataset="fairface").figure, 0, 0).lines
        return {round(line.get_ydata()[0], 6): line.get_color() for line in lines}

    whole, part = colours(results), colours(results[results["method"] != "l1_sparse"])
    assert len(part) == len(whole) - 2
    assert all(whole[value] == color for value, color in part.items())
    part = results[(results["ratio"] != 0.9) & (results["method"] != "salun")]
    first, command, *_ = make_figure(4, part, dataset="fairface").notes
    assert first == "Missing: group, ratio 0.1: salun; salun + reweight. To get them:"
    assert command == (
        "grmu bench --dataset fairface --data-root DATA --forget group --ratios 0.1 "
        "--methods salun --seeds 3 --out RESULTS"
    )


def test_paper_alone_or_not_at_all(results):
    for number in (3, 4, 5, 6, 8):
        built = make_figure(number, dataset=figure_datasets(number)[0])
        assert set(built.data["source"]) == {"paper"} and built.notes == ()
    built = make_figure(4, results.replace({"fairface": "adult_sex"}), dataset="adult_sex")
    assert set(built.data["source"]) == {"results"}
    assert "The paper's numbers" not in built.caption


def test_lambda_sweep(results):
    built = make_figure(8, results, dataset="celeba")
    is_ours = (built.data["source"] == "results") & (built.data["model"] == Row("miu", True))
    of_celeba = results[(results["dataset"] == "celeba") & (results["forget"] == "group")]
    gaps = with_deltas(check_results(of_celeba))
    gaps = gaps[gaps["metric"] == "AVG_GAP"].groupby("variant")["value"].mean()
    expected = [gaps[f"lam={value:g}"] for value in LAMBDAS]
    assert built.data[is_ours]["mean"].tolist() == pytest.approx(expected)
    paper = built.data[built.data["source"] == "paper"].set_index("position")["mean"]
    assert paper.to_dict() == {1: 99.2, 2: 99.0}, "lambda 1 and 10"


def labels_of(built):
    return [label.get_text() for label in built.figure.axes[0].get_yticklabels()]


def test_accuracy_of_each_group(results):
    data = make_figure(7, results, dataset="celeba").data
    of_miu = data[data["model"] == "miu + reweight"].set_index("position")
    rows = results[(results["forget"] == "pairs-2") & Row("miu", True).of(results)]
    rows = rows[rows["metric"] == "group_accuracy[blond, male]"]
    assert of_miu.loc["blond, male", "mean"] == pytest.approx(rows["value"].mean())
    before = make_figure(2, results, dataset="celeba").data
    assert set(before["model"]) == {"pretrain", "retrain", "retrain + reweight (gold standard)"}
    renamed = {
        "group_accuracy[blond, male]": "group_accuracy[Blond_Hair, Male]",
        "group_accuracy[dark, female]": "group_accuracy[not Blond_Hair, not Male]",
    }
    labels = labels_of(make_figure(2, results.replace(renamed), dataset="celeba"))
    marked = [label for label in labels if "forgotten from" in label]
    assert len(marked) == 2 and all("Blond_Hair" in label for label in marked)
    built = make_figure(2, results, dataset="fairface")
    assert "Of 20 groups, the 12 that change most" in built.caption
    assert len(labels_of(built)) == 12


def test_same_figure_same_bytes(results, tmp_path):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b" / "c"):
        files = make_figure(8, results, dataset="celeba").save(folder)
        assert [file.name for file in files] == ["figure_8_celeba.png", "figure_8_celeba.svg"]
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"\x89PNG") and b"miu + reweight" in contents[0][1]


def test_which_data_sets_a_figure_can_show(results):
    for number, names in {4: ["celeba", "fairface"], 6: ["fairface"], 8: ["celeba"]}.items():
        assert figure_datasets(number, results) == names
    assert figure_datasets(2, results) == ["celeba", "fairface"]
    assert figure_datasets(2) == []
    part = results[~results["forget"].str.startswith("pairs")]
    assert figure_datasets(2, part) == ["celeba", "fairface"], "so that the error can say why"


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"number": 1}, None, "no Figure 1"),
        ({"number": 2}, lambda r: r[r["metric"] == "GA"], r"no metric 'group_accuracy\[y, a\]'"),
        ({"number": 8}, lambda r: r[r["variant"] == ""], "several weights.*--lambdas 0.1,1,10"),
        ({"number": 7}, lambda r: None, "Figure 7 needs results"),
        ({"dataset": "digits"}, lambda r: None, "no numbers of Figure 4 for 'digits'"),
    ],
)
def test_what_cannot_be_drawn(results, options, change, message):
    table = results if change is None else change(results)
    with pytest.raises(ValueError, match=message):
        make_figure(**{"number": 4, "dataset": "celeba", "results": table, **options})
