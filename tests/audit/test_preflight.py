"""A request is looked at from all sides, and nothing is touched."""

import json
import pickle
import sys

import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from grmu_sk import FineTuneUnlearner, MIUUnlearner, SISAUnlearner
from grmu_sk.audit import preflight
from grmu_sk.unlearners import all_unlearners

TABLE, LARGE = make_table(160), make_table(1000)


def fitted(method=FineTuneUnlearner, net=None, table=TABLE, **kwargs):
    made = method(make_net() if net is None else net, random_state=0, **kwargs)
    return made.fit(table.X, table.y, table.a)


def rows_of(pair, count=None, table=TABLE):
    return np.flatnonzero((table.y == pair[0]) & (table.a == pair[1]))[:count]


def by_group(report):
    return report.groups.set_index(["label", "attribute"])


def test_counts_shares_and_skew():
    forget = np.concatenate([rows_of((1, 0), 4), rows_of((0, 0), 1)])
    report = preflight(fitted(), forget, methods=[])
    assert report.n_requested == 5 and report.n_present == 160
    for pair, row in by_group(report).iterrows():
        present, asked = len(rows_of(pair)), {(1, 0): 4, (0, 0): 1}.get(pair, 0)
        assert (row["trained"], row["present"], row["requested"]) == (present, present, asked)
        assert row["remaining"] == present - asked
        assert row["share_before"] == pytest.approx(present / 160)
        assert row["share_after"] == pytest.approx((present - asked) / 155)
        assert row["skew"] == pytest.approx((asked / 5) / (present / 160))
    unlearner, rows, total = fitted(), rows_of((1, 0), 6), len(rows_of((1, 0)))
    unlearner.unlearn(rows[:3])
    report = preflight(unlearner, rows, methods=[])
    names = ["trained", "present", "requested", "remaining"]
    counts = by_group(report).loc[(1, 0)][names].tolist()
    assert (counts, report.n_requested) == ([total, total - 3, 3, total - 6], 3)
    assert "forgotten already" in preflight(unlearner, rows[:3], methods=[]).reasons[0]


def test_risks():
    few, many = (fitted(table=table) for table in (TABLE, LARGE))
    for unlearner, table, count, expected in (
        (many, LARGE, 2, "more than its share of the request"),
        (many, LARGE, len(rows_of((1, 0), table=LARGE)) // 2 + 1, "half of it or more goes"),
        (few, TABLE, 2, "fewer than 30 rows are left"),
        (few, TABLE, None, "vanishes"),
    ):
        report = preflight(unlearner, rows_of((1, 0), count, table), methods=[])
        risks = by_group(report)["risk"]
        assert risks[(1, 0)] == expected and (risks.drop((1, 0)) == "").all()
    assert report.recommendation == "retrain", "REWEIGHT has no row of it to draw"
    assert "vanishes" in " ".join(report.reasons)
    evenly = np.concatenate([rows_of(pair, table=LARGE)[::8] for pair in np.ndindex(2, 2)])
    assert (preflight(many, evenly, methods=[]).groups["risk"] == "").all()


class Counter(Callback):
    calls = 0

    def on_epoch_begin(self, net, **_):
        type(self).calls += 1


def test_every_method_is_timed_or_explained_and_nothing_is_changed():
    unlearner = fitted(MIUUnlearner, make_net(max_epochs=1, callbacks=[Counter()]))
    before, names, calls = pickle.dumps(unlearner), dict(vars(unlearner)), Counter.calls
    state = torch.get_rng_state()
    costs = preflight(unlearner, rows_of((1, 0), 5), budget=600).costs.set_index("method")
    assert set(costs.index) == {name for name, _ in all_unlearners()} - {"no_op"}
    assert costs.index[:2].tolist() == ["miu", "retrain"]
    assert costs["seconds"].notna().sum() > 15, "methods did run"
    assert ((costs["seconds"] > 0) == (costs["note"] == "")).all()
    assert costs["ratio"]["retrain"] == 1 and "fitted anew" in costs["note"]["sisa"]
    assert pickle.dumps(unlearner) == before
    assert all(vars(unlearner)[name] is value for name, value in names.items())
    assert Counter.calls == calls, "callbacks may write and log"
    assert torch.equal(torch.get_rng_state(), state)


def test_longer_runs_are_predicted_longer(monkeypatch):
    """By a clock that ticks once a row and epoch: a real one depends on what else is running."""

    def run(probe, data, forget, epochs):
        return 0.01 + 0.001 * len(data.rows) * epochs, epochs

    monkeypatch.setattr(sys.modules["grmu_sk.audit.preflight"], "_run", run)
    forget, model = rows_of((1, 0), 5), fitted(max_epochs=400)
    predicted = preflight(model, forget, methods=["fine_tune"]).costs["seconds"][0]
    assert predicted == pytest.approx(0.01 + 0.001 * len(model.remaining_idx_) * 400)
    costs = preflight(model, forget, budget=0).costs
    assert costs["note"].str.contains("budget is used up").all()


def test_recommendation(monkeypatch):
    seconds = {"retrain": 50.0, "as_unseen": 10.0, "fine_tune": 30.0}
    module = sys.modules["grmu_sk.audit.preflight"]
    monkeypatch.setattr(module, "_predicted_seconds", lambda u, d, c, *_: seconds[c.method_name])
    unlearner, forget = fitted(), rows_of((1, 0), 5)

    def look(made=unlearner, rows=forget, methods=seconds, **options):
        return preflight(made, rows, methods=list(methods), **options)

    exact = look()
    assert exact.recommendation == "retrain + reweight"
    assert "takes about 33 to 75 s and is exact" in exact.reasons[0]
    assert "REWEIGHT keeps each group's share" in exact.reasons[1]
    approximate = look(short_enough=20)
    assert approximate.recommendation == "as_unseen + reweight"
    assert "It is approximate" in approximate.reasons[0]
    assert approximate.costs.set_index("method")["ratio"]["as_unseen"] == 0.2
    seconds["as_unseen"] = 40.0
    assert look(short_enough=20).recommendation == "retrain + reweight", "it would save little"
    del seconds["as_unseen"]
    seconds["fine_tune"] = 5.0
    without = FineTuneUnlearner(make_net(), random_state=0).fit(TABLE.X, TABLE.y)
    report = look(without, short_enough=20)
    assert report.recommendation == "fine_tune" and "no groups" in report.reasons[1]
    assert look(fitted(SISAUnlearner), methods=[]).recommendation == "sisa"
    assert "Every row of the class(es) [1]" in look(rows=TABLE.y == 1).reasons[0]


def test_rows_that_are_not_stored_and_pipelines():
    unlearner, only = fitted(store_data=False), {"methods": ["retrain"]}
    given = {"y": TABLE.y, "groups": TABLE.a}
    with pytest.raises(ValueError, match="not stored"):
        preflight(unlearner, [1, 2])
    report = preflight(unlearner, [1, 2], **given, **only)
    assert report.groups["remaining"].sum() == 158 and report.costs.empty
    pipe = make_pipeline(StandardScaler(), FineTuneUnlearner(make_net(), store_data=False))
    with config_context(enable_metadata_routing=True):
        pipe.fit(9 * TABLE.X, **given)
    for model, X in ((unlearner, TABLE.X), (pipe, 9 * TABLE.X)):
        assert preflight(model, [1, 2], X=X, **given, **only).costs["seconds"][0] > 0
    with pytest.raises(ValueError, match="not what fit was given"):
        preflight(pipe[-1], [1, 2], X=9 * TABLE.X, **given, **only)


def test_text_and_json():
    labels = np.array(["no", "yes"], dtype=object)[TABLE.y]
    unlearner = FineTuneUnlearner(make_net(), random_state=0).fit(TABLE.X, labels, TABLE.a)
    report = preflight(unlearner, rows_of((1, 0), 5), methods=["retrain", "sisa"])
    for word in ("Request: 5 of 160 rows", "yes", "retrain", "Recommended:", "skew", " -"):
        assert word in str(report)
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["costs"][1]["seconds"] is None and again["groups"][0]["label"] == "no"
