"""What the display of an audit draws."""

import pytest
from matplotlib import pyplot as plt
from rendering import check_readable, close_figures  # noqa: F401

from grmu_sk.audit import Interval, LeakageAudit, LeakageFinding
from grmu_sk.plotting import LeakageDisplay


def finding(attack, group, auc, power, verdict, rows="forgotten", spread=0.06):
    def around(value):
        if spread is None:
            return Interval(value)
        return Interval(value, max(value - spread, 0), min(value + spread, 1))

    change = Interval(auc - power)
    return LeakageFinding(
        attack, rows, group, 80, 160.0, around(auc), around(power), change, 0.95, verdict, ""
    )


AUDIT = LeakageAudit(
    [
        finding("loss", "all", 0.48, 0.55, "inconclusive"),
        finding("loss", "(0, 1)", 0.5, 0.57, "inconclusive", spread=None),
        finding("RMIA", "all", 0.52, 0.85, "no leak found"),
        finding("RMIA", "(0, 1)", 0.12, 0.8, "leak"),
        finding("RMIA", "all", 0.9, 0.8, "leak", rows="remaining"),
    ],
    n_models=32,
    tolerance=0.07,
)


def test_draws_before_and_after_of_every_finding():
    display = AUDIT.plot()
    assert isinstance(display, LeakageDisplay)
    ax = display.ax_
    points = {
        (round(float(line.get_xdata()[0]), 3), line.get_markerfacecolor() == "white")
        for line in ax.lines
        if line.get_marker() not in (None, "None", "")
    }
    expected = {(f.auc.value, False) for f in AUDIT.findings[:4]}
    assert points == expected | {(f.power.value, True) for f in AUDIT.findings[:4]}
    intervals = {
        tuple(round(x, 2) for x in segment[:, 0])
        for collection in ax.collections
        for segment in collection.get_segments()
    }
    assert len(intervals) == 6 and (0.06, 0.18) in intervals, "none where none is known"
    (band,) = [patch for patch in ax.patches if patch.get_label().startswith("chance")]
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx([0.43, 0.57])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[3] == "RMIA: (0, 1) (n = 80)"
    assert ax.get_xlabel() == "AUC on forgotten rows, 32 reference models"
    check_readable(display.figure_)


def test_remaining_rows_have_no_band():
    ax = AUDIT.plot(rows="remaining").ax_
    assert ax.get_xlabel() == "AUC on remaining rows, 32 reference models"
    assert not [patch for patch in ax.patches if patch.get_label().startswith("chance")]


def test_draws_into_the_axes_given():
    _, ax = plt.subplots()
    assert LeakageDisplay.from_audit(AUDIT, ax=ax).ax_ is ax


def test_refuses_what_is_not_there():
    with pytest.raises(ValueError, match="holds nothing about nonmembers rows"):
        AUDIT.plot(rows="nonmembers")
    with pytest.raises(ValueError, match="holds nothing about"):
        LeakageAudit([], n_models=4).plot()
