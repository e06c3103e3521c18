"""Valid calls of the leakage audit: its attacks, reference models, results and their display."""

import copy
import functools

import numpy as np
from audit_targets import _closing
from conftest import make_table
from contract import Call
from targets import _table, fitted, folder, short, small_net, target

from grmu_sk import NoOpUnlearner, audit, plotting
from grmu_sk.audit import Interval

# rows and models ---------------------------------------------------------------------------------

FORGOTTEN = np.array([2, 9, 11])


@functools.cache
def _unlearned():
    table = _table()
    return short(NoOpUnlearner).fit(table.X, table.y, table.a).unlearn(FORGOTTEN)


def _some(table, which):
    return table.X[which].copy(), table.y[which].copy(), table.a[which].copy()


def forgotten():
    return _some(_table(), FORGOTTEN)


def remaining():
    return _some(_table(), np.setdiff1d(np.arange(48), FORGOTTEN))


def nonmembers():
    return _some(make_table(30, seed=8), np.arange(30))


@functools.cache
def _references():
    models = audit.ReferenceModels(small_net(), 4, remaining_per_group=3)
    return models.fit(forgotten(), remaining(), nonmembers())


def _audited(**more):
    return {
        "unlearner": copy.deepcopy(_unlearned()),
        "original": fitted(),
        "forgotten": forgotten(),
        "nonmembers": nonmembers(),
        "references": copy.deepcopy(_references()),
        "n_bootstrap": 100,
        **more,
    }


def is_audit(result):
    assert result.verdict in ("leak", "no leak found", "inconclusive")
    assert len(result) == len(result.attacks) == len(result.to_frame()) > 0
    assert all(0 <= finding.auc.value <= 1 for finding in result.findings)


# the audit ---------------------------------------------------------------------------------------


@target("audit.audit_unlearning", costly=("n_bootstrap", "references"))
def _():
    arguments = _audited(remaining=remaining(), attacks=("loss", "RMIA"), tolerance=0.1)
    arguments |= {"confidence": 0.95, "false_positive_rates": (0.1,), "random_state": 0}
    subject = arguments["unlearner"]
    return Call(audit.audit_unlearning, arguments, subject=subject, check=is_audit)


@target("audit.audit_unlearning#trains", costly=("references",), slow=True)
def _():
    def attack(**arguments):
        return audit.audit_unlearning(**_audited(**arguments))

    arguments = {"references": 4, "random_state": 0, "remaining": None}
    return Call(attack, arguments, documents=(audit.audit_unlearning,), check=is_audit)


@target("audit.ReferenceModels", costly=("n_models",), slow=True)
def _():
    def train(**arguments):
        models = audit.ReferenceModels(**arguments)
        return models.fit(forgotten(), remaining(), nonmembers())

    arguments = {"estimator": small_net(), "n_models": 4, "reweight": False}
    arguments |= {"remaining_per_group": 2, "cache": folder() / "references", "random_state": 0}
    documents = (audit.ReferenceModels, audit.ReferenceModels.fit)
    return Call(train, arguments, documents=documents)


@target("audit.ReferenceModels.fit", slow=True)
def _():
    models = audit.ReferenceModels(small_net(), 4, remaining_per_group=2)
    arguments = {"forgotten": forgotten(), "remaining": remaining(), "nonmembers": nonmembers()}
    return Call(models.fit, arguments, subject=models)


@target("audit.ReferenceModels.fit#parts", slow=True)
def _():
    models = audit.ReferenceModels(small_net(), 4, remaining_per_group=2)

    def fit(X, y, groups):
        return models.fit((X, y, groups), remaining(), nonmembers())

    arguments = dict(zip(("X", "y", "groups"), forgotten(), strict=True))
    return Call(fit, arguments, documents=(models.fit,), subject=models)


# attacks -----------------------------------------------------------------------------------------


def _signals(n_models=6, n_rows=8):
    rng = np.random.default_rng(0)
    is_in = np.arange(n_models)[:, None] % 2 == np.arange(n_rows) % 2
    return {
        "log_odds": rng.normal(size=n_rows),
        "reference_log_odds": rng.normal(size=(n_models, n_rows)),
        "is_in": is_in,
    }


def _are_finite(result):
    assert result.shape == (8,), result.shape
    assert np.isfinite(result).all(), result


@target("audit.lira_scores")
def _():
    arguments = {**_signals(), "variance": "shared", "online": True}
    return Call(audit.lira_scores, arguments)


@target("audit.lira_scores#options")
def _():
    def score(**options):
        return audit.lira_scores(**_signals(), **options)

    arguments = {"variance": "per_row", "online": False}
    return Call(score, arguments, documents=(audit.lira_scores,), check=_are_finite)


@target("audit.rmia_scores")
def _():
    arguments = {**_signals(), "population": np.arange(4, 8), "gamma": 1.0}
    arguments |= {"online": True, "offline_scale": 0.3}
    return Call(audit.rmia_scores, arguments)


@target("audit.rmia_scores#options")
def _():
    def score(**options):
        return audit.rmia_scores(**_signals(), **options)

    arguments = {"population": [4, 5, 7], "gamma": 2.0, "online": False, "offline_scale": 0.5}
    return Call(score, arguments, documents=(audit.rmia_scores,), check=_are_finite)


# results -----------------------------------------------------------------------------------------


def a_finding(**more):
    fields = {"attack": "RMIA", "rows": "forgotten", "group": "all", "n_rows": 80}
    fields |= {"n_nonmembers": 80.0, "auc": Interval(0.5, 0.44, 0.56)}
    fields |= {"power": Interval(0.8, 0.7, 0.9), "change": Interval(-0.3, -0.4, -0.2)}
    fields |= {"confidence": 0.95, "verdict": "no leak found", "reason": "why"}
    return {**fields, "tpr": {0.01: 0.1}, "power_tpr": {0.01: 0.2}, **more}


def an_audit():
    return audit.LeakageAudit([audit.LeakageFinding(**a_finding())], n_models=16)


def _read(found):
    """Read a result in every way there is."""
    found.worst_group("RMIA")
    return str(found), found.to_dict(), found.verdict, found.decisive


@target("audit.Interval")
def _():
    def show(**ends):
        interval = Interval(**ends)
        return str(interval), interval.is_known

    return Call(show, {"value": 0.5, "low": 0.4, "high": 0.6}, documents=(Interval,))


@target("audit.LeakageFinding")
def _():
    def show(**fields):
        return _read(audit.LeakageAudit([audit.LeakageFinding(**fields)], n_models=16))

    return Call(show, a_finding(), documents=(audit.LeakageFinding,))


@target("audit.LeakageAudit")
def _():
    def show(**fields):
        return _read(audit.LeakageAudit(**fields))

    arguments = {"findings": an_audit().findings, "n_models": 16, "reweight": False}
    arguments |= {"tolerance": 0.1, "confidence": 0.95, "n_bootstrap": 100, "notes": ["a note"]}
    return Call(show, arguments, documents=(audit.LeakageAudit,))


@target("audit.LeakageAudit.worst_group")
def _():
    return Call(an_audit().worst_group, {"attack": "RMIA", "rows": "forgotten"})


@target("audit.LeakageAudit.plot")
def _():
    found = an_audit()
    documents = (found.plot, plotting.LeakageDisplay.from_audit)
    return Call(_closing(found.plot), {"rows": "forgotten", "ax": None}, documents=documents)


@target("plotting.LeakageDisplay.from_audit")
def _():
    function = plotting.LeakageDisplay.from_audit
    arguments = {"audit": an_audit(), "rows": "forgotten", "ax": None}
    return Call(_closing(function), arguments, documents=(function,))
