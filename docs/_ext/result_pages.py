"""The comparison of all methods: its table and what follows from it, made from the results."""

from pathlib import Path

import pandas as pd
from generated_pages import kind

from grmu_sk.results import GOLD, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row, read_results, summarize
from grmu_sk.unlearners import all_unlearners

FIXED = {
    PRETRAIN: "before the request",
    Row("no_op", False): "doing nothing",
    RETRAIN: "retrain",
    GOLD: "gold standard (retrain + reweight)",
    RESEEDED_GOLD: "ceiling (a second gold standard)",
}
FAMILIES = {
    "": "What to compare with",
    "exact": "Exact methods",
    "approximate": "Approximate methods",
}
GAP = "AVG_GAP"
TITLES = {
    GAP: "average gap",
    "row_distance": "row distance",
    "damage": "damage",
    **{metric: metric for metric in ("UA", "GA", "TA", "RA", "MIA", "EO")},
    "cost": "cost, epochs",
    "retrainings": "cost, retrainings",
}
#: Metrics that are a difference to the gold standard themselves, or have none.
WITHOUT_DELTA = (GAP, "row_distance", "damage", "cost", "retrainings")


class Comparison:
    """The results in a folder, over seeds.

    Attributes
    ----------
    n_seeds : int
    mean, std, delta : DataFrame
        A line for each row of the table, a column for each metric.
    """

    def __init__(self, folder):
        results = read_results(folder)
        self.n_seeds = results["seed"].nunique()
        self.mean, self.std, self.delta = (
            _by_row(summarize(results)[name]) for name in ("mean", "std", "delta")
        )
        methods = self.mean[GAP].drop(list(FIXED), errors="ignore")
        self.methods = methods.sort_values(ascending=False, kind="stable")
        registry = dict(all_unlearners())
        self.kinds = {row: kind(registry[row.method]) for row in self.methods.index}

    def of_kind(self, how):
        """Return the rows of a family, the closest to the gold standard first."""
        if not how:
            return [row for row in FIXED if row in self.mean.index]
        return [row for row in self.methods.index if self.kinds[row] == how]

    def table(self):
        """Return the table, in HTML."""
        metrics = [metric for metric in TITLES if metric in self.mean]
        head = "".join(f'<th scope="col">{TITLES[metric]}</th>' for metric in metrics)
        lines = [f'<thead><tr><th scope="col">method</th>{head}</tr></thead>']
        for how, title in FAMILIES.items():
            name = f'<tr class="family"><th scope="rowgroup">{title}</th>'
            lines.append(f'<tbody>{name}<td colspan="{len(metrics)}"></td></tr>')
            for row in self.of_kind(how):
                cells = "".join(f"<td>{self.cell(row, metric)}</td>" for metric in metrics)
                lines.append(f'<tr><th scope="row">{FIXED.get(row, row.label)}</th>{cells}</tr>')
            lines.append("</tbody>")
        table = "\n".join(lines)
        attributes = 'class="results-scroll" role="region" aria-label="All results" tabindex="0"'
        return f'<div {attributes}>\n<table class="table results">\n{table}\n</table>\n</div>\n'

    def cell(self, row, metric):
        """Return mean, deviation and distance to the gold standard, as far as there is one."""
        if row == GOLD and metric in WITHOUT_DELTA[:3]:
            return "gold"
        if pd.isna(self.mean.loc[row, metric]):
            return "not finite"
        digits = 2 if metric in ("row_distance", "retrainings") else 1
        text = f"{self.mean.loc[row, metric]:.{digits}f}"
        if metric in ("cost", "retrainings"):
            return text
        text += f"<small>±{self.std.loc[row, metric]:.{digits}f}"
        if metric not in WITHOUT_DELTA and row != GOLD:
            text += f" ({self.delta.loc[row, metric]:.1f})"
        return text + "</small>"

    def named(self, rows):
        """Return methods with their average gap, as text."""
        return ", ".join(f"{row.label} ({self.mean.loc[row, GAP]:.1f})" for row in rows)

    def findings(self):
        """Return what the numbers say, in Markdown."""
        gap, std = self.mean[GAP], self.std[GAP]
        nothing, least = Row("no_op", False), gap[RESEEDED_GOLD] - std[RESEEDED_GOLD]
        close = self.methods[self.methods >= least].index
        below = self.methods[self.methods <= gap[nothing]].index
        kept = self.mean["UA"][self.methods.index]
        kept = [row.label for row in kept.index if kept[row] > self.mean.loc[PRETRAIN, "UA"] - 2]
        switch = [
            (row, Row(row.method, False))
            for row in self.methods.index
            if row.reweight and Row(row.method, False) in self.methods.index
        ]
        gain = {row.method: gap[row] - gap[alone] for row, alone in switch}
        helped = sorted((name for name in gain if gain[name] > 0), key=lambda n: -gain[n])
        hurt = sorted((name for name in gain if gain[name] <= 0), key=gain.get)
        approximate = self.of_kind("approximate")
        cost = next(name for name in ("retrainings", "cost") if name in self.mean)
        cheapest = min(close, key=lambda row: self.mean.loc[row, cost], default=None)
        lines = [
            f"**The ceiling is {gap[RESEEDED_GOLD]:.1f} ± {std[RESEEDED_GOLD]:.1f}**: the gold "
            f"standard once more, with another seed. {len(close)} lines lie within one standard "
            f"deviation of it or above: {self.named(close)}. Their order means nothing.",
            f"**Doing nothing reaches {gap[nothing]:.1f}**, and {len(below)} lines are no better: "
            f"{self.named(below) or 'none'}. Of the six metrics only UA and MIA measure whether "
            "anything was forgotten; read UA beside the average gap.",
            f"**Approximate methods**: the first are {self.named(approximate[:3])}, MIU + REWEIGHT "
            f"is number {approximate.index(Row('miu', True)) + 1} of {len(approximate)} lines "
            f"({gap[Row('miu', True)]:.1f}).",
            f"**REWEIGHT** raises the average gap of {len(helped)} of {len(gain)} methods with the "
            f"switch, most that of {_gains(gain, helped[:4])}; it lowers that of "
            f"{_gains(gain, hurt) or 'none'}. Seeing the group's remaining rows more often raises "
            "accuracy on its forgotten rows too, which counts against methods that hardly forget.",
            f"**Hardly anything is forgotten** by {', '.join(kept) or 'none'}: "
            "UA is within 2 points of that before the request.",
        ]
        if cheapest is not None:
            lines.append(
                f"**The cheapest within the ceiling's deviation** is {cheapest.label}: "
                f"{self.mean.loc[cheapest, cost]:.2f} where the gold standard costs "
                f"{self.mean.loc[GOLD, cost]:.2f} ({TITLES[cost].removeprefix('cost, ')})."
            )
        if Row("as_unseen", True) not in gap.index:
            lines.append(
                "When this was measured `AsUnseenUnlearner` did not exist, and MIU had other "
                "defaults than today's ([why](choices.md))."
            )
        return "".join(f"- {line}\n" for line in lines)


def _by_row(scores):
    """Return a line for each row of the table, and a column for each metric."""
    metrics = scores.index.get_level_values("metric").unique()
    table = pd.DataFrame({metric: scores.xs(metric, level="metric") for metric in metrics})
    table.index = pd.Index([Row(method, bool(r)) for method, r in table.index])
    return table


def _gains(gain, names):
    return ", ".join(f"{name} ({gain[name]:+.1f})" for name in names)


def write_pages(app, config):
    """Write what the page of the comparison includes."""
    here = Path(app.srcdir)
    comparison = Comparison(here / "results" / "all_methods")
    for name, text in (("html", comparison.table()), ("md", comparison.findings())):
        path = here / "_generated" / f"all_methods_{name}.inc"
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def setup(app):
    """Write the parts with every build."""
    app.connect("config-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
