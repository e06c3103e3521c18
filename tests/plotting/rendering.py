"""Results to draw, and a rendered check that no text covers another."""

from itertools import combinations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

COLUMNS = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no figure open: matplotlib keeps every one until it is closed."""
    yield
    plt.close("all")


def make_results(methods=("miu", "scrub"), ratios=(0.5,), seeds=3, groups=()):
    """A tidy table of a comparison, with numbers that differ everywhere."""
    rng = np.random.default_rng(0)
    models = [("pretrain", 0), ("retrain", 0), ("retrain", 1), ("gold_reseeded", 1)]
    models += [(method, reweight) for method in methods for reweight in (0, 1)]
    rows = []
    for ratio in ratios:
        for seed in range(seeds):
            for method, reweight in models:
                values = {name: rng.uniform(40, 95) for name in ("AVG_GAP", "GA", "UA", "EO")}
                if (method, reweight) == ("retrain", 1):
                    values["AVG_GAP"] = 100.0
                values["cost"] = rng.uniform(0.5, 20)
                values |= {f"group_accuracy[{name}]": rng.uniform(30, 95) for name in groups}
                for name, value in values.items():
                    rows.append(("digits", ratio, seed, method, reweight, name, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def make_benchmark_results(seeds=2, ratios=(0.5,)):
    """A benchmark's results as a CSV file gives them: more columns, and no average gap."""
    rng = np.random.default_rng(1)
    models = [("pretrain", 0, None), ("retrain", 1, None), ("gold_reseeded", 1, None)]
    models += [("miu", 1, None), ("miu", 1, "no_calibration"), ("scrub", 0, None)]
    rows = []
    for ratio in ratios:
        for seed in range(seeds):
            for model in models:
                values = {name: rng.uniform(40, 95) for name in ("RA", "UA", "TA", "MIA", "EO")}
                values |= {"GA": rng.uniform(40, 95), "cost": rng.uniform(0.5, 20)}
                values["group_accuracy[20-29, Black]"] = rng.uniform(40, 95)
                setting = ("fairface", "group", ratio, seed, "best")
                rows += [(*setting, *model, name, value) for name, value in values.items()]
    columns = ["dataset", "forget", "ratio", "seed", "selection", "method", "reweight", "variant"]
    return pd.DataFrame(rows, columns=[*columns, "metric", "value"])


def drawn_texts(figure):
    """Draw the figure and return the texts that were drawn, and no hidden ones."""
    figure.canvas.draw()  # lays it out
    drawn = []
    original = Text.draw

    def draw(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        return original(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        figure.canvas.draw()
    return drawn


def overlapping_texts(figure):
    """Return texts that cover one another or leave the figure."""
    # letters seldom fill their box, so boxes may touch
    boxes = [(text.get_text(), text.get_window_extent().padded(-1)) for text in drawn_texts(figure)]
    width, height = figure.bbox.size
    found = [(one, two) for (one, a), (two, b) in combinations(boxes, 2) if a.overlaps(b)]
    return found + [
        (text, "outside")
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]


def check_readable(figure):
    """Fail if there is no text, or some text cannot be read."""
    assert drawn_texts(figure), "there is no text at all"
    found = overlapping_texts(figure)
    assert not found, found
