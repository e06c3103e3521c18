from time import sleep
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_net, make_table
from joblib import Parallel, delayed

from grmu_sk import RetrainUnlearner, comparison, sample_forget_set
from grmu_sk.comparison import Split, Splits, compare, rows_for
from grmu_sk.results import RETRAIN


def test_what_is_measured_row_by_row_and_group_by_group(quick_attack):
    """Against the gold standard of the seed, recomputed from models trained by hand."""
    train, test = (make_table(n_rows=400, seed=seed) for seed in (0, 1))
    of_train, of_test = (Split(part.X, part.y, part.a) for part in (train, test))
    splits = Splits("table", of_train, of_test, of_test, [(1, 1)])
    net = make_net(max_epochs=3)
    found = compare(net, lambda seed: splits, rows_for([]), seeds=[7])
    found = found.set_index(["method", "reweight", "metric"])["value"]

    forget = sample_forget_set(train.y, train.a, forget_groups=(1, 1), random_state=7)
    mask = np.isin(np.arange(train.n), forget)

    def model(reweight):
        unlearner = RetrainUnlearner(net, reweight=reweight, random_state=7)
        return unlearner.fit(train.X, train.y, train.a, forget=mask)

    def log_odds(unlearner):
        proba = unlearner.predict_proba(train.X[forget])
        own = proba[np.arange(len(forget)), train.y[forget]]
        return np.log(own / (proba.sum(axis=1) - own))

    ours, gold = model(reweight=False), model(reweight=True)
    distance = np.sqrt(np.mean((log_odds(ours) - log_odds(gold)) ** 2))
    assert found["retrain", 0, "row_distance"] == pytest.approx(distance, rel=1e-4)
    right, right_of_gold = (one.predict(test.X) == test.y for one in (ours, gold))
    others = [(test.y == y) & (test.a == a) for y, a in ((0, 0), (0, 1), (1, 0))]
    lost = [right_of_gold[rows].mean() - right[rows].mean() for rows in others if rows.sum() >= 30]
    assert found["retrain", 0, "damage"] == pytest.approx(100 * max(lost))
    assert ("retrain", 1, "damage") not in found.index


def test_threads_of_a_worker_do_one_row_after_the_other(monkeypatch):
    at_work, peaks = [], []

    def forget_rows(*_):
        at_work.append(1)
        sleep(0.02)
        peaks.append(len(at_work))
        at_work.pop()
        raise FloatingPointError

    monkeypatch.setattr(comparison, "forget_rows", forget_rows)
    splits = SimpleNamespace(train=SimpleNamespace(X=None))
    jobs = [delayed(comparison.run_row)(RETRAIN, None, splits, None, seed=0)] * 4
    assert Parallel(4, backend="threading")(jobs) == [(RETRAIN, "FloatingPointError: ", None)] * 4
    assert peaks == [1] * 4
