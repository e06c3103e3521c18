"""A request is looked at from all sides, and nothing is touched."""

import json
import pickle
import random
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, make_table
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback, Checkpoint

from grmu_sk import FineTuneUnlearner, MIUUnlearner, SISAUnlearner
from grmu_sk.audit import preflight
from grmu_sk.unlearners import all_unlearners


def fitted(method=FineTuneUnlearner, net=None, n_rows=160, **kwargs):
    table = make_table(n_rows)
    made = method(make_net() if net is None else net, random_state=0, **kwargs)
    return made.fit(table.X, table.y, table.a), table


def rows_of(table, pair, count=None):
    return np.flatnonzero((table.y == pair[0]) & (table.a == pair[1]))[:count]


def test_counts_shares_and_skew():
    unlearner, table = fitted()
    forget = np.concatenate([rows_of(table, (1, 0), 4), rows_of(table, (0, 0), 1)])
    report = preflight(unlearner, forget, methods=[])
    frame = report.to_frame().set_index(["label", "attribute"])
    assert report.n_requested == 5 and report.n_present == 160
    for pair, row in frame.iterrows():
        present = ((table.y == pair[0]) & (table.a == pair[1])).sum()
        asked = {(1, 0): 4, (0, 0): 1}.get(pair, 0)
        assert (row["trained"], row["present"], row["requested"]) == (present, present, asked)
        assert row["remaining"] == present - asked
        assert row["share_before"] == pytest.approx(present / 160)
        assert row["share_after"] == pytest.approx((present - asked) / 155)
        assert row["skew"] == pytest.approx((asked / 5) / (present / 160))


def test_risks():
    unlearner, table = fitted()
    size = len(rows_of(table, (1, 0)))
    options = {"methods": [], "min_rows": 0, "min_share": 0}

    def risk(count, **changed):
        report = preflight(unlearner, rows_of(table, (1, 0), count), **{**options, **changed})
        frame = report.groups.set_index(["label", "attribute"])
        assert (frame["risk"].drop((1, 0)) == "").all()
        return frame["risk"][(1, 0)], report

    assert risk(2)[0] == ""
    assert "fewer than 1000 rows left" in risk(2, min_rows=1000)[0]
    assert "of it goes" in risk(size - 1, min_share=0.5)[0]
    assert "of it goes" not in risk(1, min_share=0.5)[0]
    vanishing, report = risk(size)
    assert vanishing == "vanishes"
    assert "vanishes" in " ".join(report.reasons)
    assert report.recommendation == "retrain", "REWEIGHT has no row of it to draw"


def test_later_requests_count_from_what_is_left():
    unlearner, table = fitted()
    rows = rows_of(table, (1, 0), 6)
    unlearner.unlearn(rows[:3])
    report = preflight(unlearner, rows, methods=[])
    row = report.groups.set_index(["label", "attribute"]).loc[(1, 0)]
    total = len(rows_of(table, (1, 0)))
    assert (row["trained"], row["present"]) == (total, total - 3)
    assert (row["requested"], row["remaining"], report.n_requested) == (3, total - 6, 3)
    done = preflight(unlearner, rows[:3], methods=[])
    assert (done.n_requested, done.recommendation) == (0, "")
    assert "forgotten already" in done.reasons[0]
    assert (done.groups["requested"] == 0).all()


class Counter(Callback):
    calls = 0

    def on_epoch_begin(self, net, **_):
        type(self).calls += 1


def test_nothing_is_changed(tmp_path):
    net = make_net(callbacks=[Checkpoint(dirname=str(tmp_path), monitor=None), Counter()])
    unlearner, table = fitted(MIUUnlearner, net)
    before, names = pickle.dumps(unlearner), dict(vars(unlearner))
    inputs = table.X.copy()
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    calls = Counter.calls
    states = random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state()
    report = preflight(unlearner, rows_of(table, (1, 0), 5), budget=600)
    assert report.costs["seconds"].notna().sum() > 15, "methods did run"
    assert pickle.dumps(unlearner) == before
    assert all(vars(unlearner)[name] is value for name, value in names.items())
    assert vars(unlearner).keys() == names.keys()
    assert np.array_equal(table.X, inputs)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files
    assert Counter.calls == calls, "callbacks may write and log"
    assert random.getstate() == states[0]
    assert pickle.dumps(np.random.get_state()) == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_every_method_is_predicted_or_explained():
    unlearner, table = fitted()
    costs = preflight(unlearner, rows_of(table, (1, 0), 5), budget=600).costs.set_index("method")
    assert set(costs.index) == {name for name, _ in all_unlearners()} - {"no_op"}
    assert costs.index[:2].tolist() == ["fine_tune", "retrain"]
    for _, row in costs.iterrows():
        assert (row["seconds"] > 0) == (row["note"] == "")
    assert costs["ratio"]["retrain"] == 1
    assert "fitted anew" in costs["note"]["sisa"]


def test_longer_runs_are_predicted_longer():
    long, table = fitted(max_epochs=400)
    short, _ = fitted(max_epochs=2)
    forget = rows_of(table, (1, 0), 5)
    times = [
        preflight(made, forget, methods=["fine_tune"]).costs["seconds"][0] for made in (short, long)
    ]
    assert times[1] > 20 * times[0]


def test_budget():
    unlearner, table = fitted()
    costs = preflight(unlearner, rows_of(table, (1, 0), 5), budget=0).costs
    assert costs["note"].str.contains("budget is used up").all()


def test_recommendation(monkeypatch):
    seconds = {"retrain": 50.0, "miu": 10.0, "fine_tune": 30.0}
    module = sys.modules["grmu_sk.audit.preflight"]
    monkeypatch.setattr(module, "predicted_seconds", lambda u, d, cls, *_: seconds[cls.method_name])
    unlearner, table = fitted()
    forget = rows_of(table, (1, 0), 5)

    def look(made=unlearner, rows=forget, **options):
        return preflight(made, rows, methods=list(seconds), **options)

    exact = look()
    assert exact.recommendation == "retrain + reweight"
    assert "takes about 33 to 75 s and is exact" in exact.reasons[-1]
    assert "REWEIGHT keeps each group's share" in exact.reasons[-2]
    approximate = look(short_enough=20)
    assert approximate.recommendation == "miu + reweight"
    assert "It is approximate" in approximate.reasons[-1]
    assert approximate.costs.set_index("method")["ratio"]["miu"] == 0.2
    seconds["miu"] = 40.0
    assert look(short_enough=20).recommendation == "retrain + reweight", "it would save little"
    seconds["fine_tune"] = 5.0
    without = FineTuneUnlearner(make_net(), random_state=0).fit(table.X, table.y)
    assert look(without, short_enough=20).recommendation == "fine_tune"
    sharded, _ = fitted(SISAUnlearner)
    assert preflight(sharded, forget, methods=[]).recommendation == "sisa"
    evenly = np.concatenate([rows_of(table, pair)[::4] for pair in np.ndindex(2, 2)])
    even = preflight(unlearner, evenly, methods=[], min_rows=0)
    assert "spread over the groups" in even.reasons[0]


def test_requests_that_cannot_be_carried_out():
    unlearner, table = fitted()
    everything = preflight(unlearner, np.ones(table.n, dtype=bool))
    assert everything.recommendation == "" and "Nothing would remain" in everything.reasons[0]
    assert len(everything.costs) == 0
    one_class = preflight(unlearner, table.y == 1)
    assert "Every row of the class(es) [1]" in one_class.reasons[0]


def test_without_groups():
    table = make_table()
    unlearner = FineTuneUnlearner(make_net(), random_state=0).fit(table.X, table.y)
    report = preflight(unlearner, [1, 2], methods=["retrain"])
    assert report.recommendation == "retrain"
    assert "no groups" in report.reasons[0]
    assert (report.groups["attribute"] == "").all()


def test_rows_that_are_not_stored():
    unlearner, table = fitted(store_data=False)
    with pytest.raises(ValueError, match="not stored"):
        preflight(unlearner, [1, 2])
    report = preflight(unlearner, [1, 2], y=table.y, groups=table.a, methods=["retrain"])
    assert report.groups["remaining"].sum() == 158
    assert "not stored" in report.costs["note"][0]
    timed = preflight(unlearner, [1, 2], X=table.X, y=table.y, groups=table.a, methods=["retrain"])
    assert timed.costs["seconds"][0] > 0


def test_bad_input():
    unlearner, table = fitted()
    with pytest.raises(NotFittedError):
        preflight(FineTuneUnlearner(make_net()), [1])
    with pytest.raises(IndexError):
        preflight(unlearner, [999])
    with pytest.raises(ValueError, match="Unknown methods"):
        preflight(unlearner, [1], methods=["magic"])
    with pytest.raises(ValueError, match="fit was given 160"):
        preflight(unlearner, [1], y=table.y[:5], groups=table.a[:5])
    with pytest.raises(ValueError, match="without groups"):
        preflight(unlearner, [1], y=table.y)


def test_text_and_json():
    table = make_table()
    labels = np.array(["no", "yes"], dtype=object)[table.y]
    unlearner = FineTuneUnlearner(make_net(), random_state=0).fit(table.X, labels, table.a)
    report = preflight(unlearner, rows_of(table, (1, 0), 5), methods=["retrain", "sisa"])
    shown = str(report)
    for word in ("Request: 5 of 160 rows (3.1%)", "yes", "retrain", "Recommended:", "skew"):
        assert word in shown
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["costs"][1]["seconds"] is None
    assert again["groups"][0]["label"] == "no"
    frame = report.to_frame()
    frame["risk"] = "changed"
    assert isinstance(frame, pd.DataFrame) and (report.groups["risk"] != "changed").all()
