"""A valid call of every public entry point; the fuzz run breaks its arguments."""

import atexit
import copy
import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from conftest import make_net, make_table
from contract import Call

import grmu_sk
from grmu_sk import FineTuneUnlearner, RetrainUnlearner, audit, metrics, model_selection, scorers
from grmu_sk.base import BaseUnlearner
from grmu_sk.nets import MLP, SmallCNN
from grmu_sk.persistence import load, save
from grmu_sk.unlearners import all_unlearners

FORGET_PAIR = (1, 0)


@dataclass
class Target:
    """A public entry point.

    Attributes
    ----------
    name : str
        As users write it, below ``grmu_sk``; what follows ``#`` tells targets of one name apart.
    make : callable
        Returns a valid call with fresh arguments.
    costly : tuple of str
        Arguments for which a large number asks for a lot of work, and rightly.
    fixed : tuple of str
        Arguments that are not broken.
    """

    name: str
    make: Callable[[], Call]
    costly: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    slow: bool = False
    tags: tuple[str, ...] = field(default=())

    @property
    def public_name(self) -> str:
        return self.name.partition("#")[0]


TARGETS: dict[str, Target] = {}


def target(name, **options):
    def register(make):
        assert name not in TARGETS, name
        TARGETS[name] = Target(name, make, **options)
        return make

    return register


@functools.cache
def folder() -> Path:
    """A folder for the files of this process."""
    made = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


# what calls are made of --------------------------------------------------------------------------


@functools.cache
def _table():
    return make_table(48, seed=3)


def rows(n=24):
    """Return labels, predictions and attribute of some rows."""
    table = _table()
    predicted = np.where(np.arange(48) % 5 == 0, 1 - table.y, table.y)
    return table.y[:n].copy(), predicted[:n], table.a[:n].copy()


def inputs(n=24):
    return _table().X[:n].copy()


def losses(n=12, seed=0):
    return np.random.default_rng(seed).exponential(size=n)


def probabilities(n=24, seed=0):
    raw = np.random.default_rng(seed).uniform(0.05, 1, size=(n, 2))
    return raw / raw.sum(axis=1, keepdims=True)


def small_net(**kwargs):
    return make_net(module__hidden=(4,), max_epochs=1, **kwargs)


SHORT = {"max_epochs": 1, "forget_epochs": 1, "tune_updates": (1, 1), "n_shards": 2, "n_fisher": 8}


def short(method, **kwargs):
    known = {name: value for name, value in SHORT.items() if name in method._get_param_names()}
    return method(small_net(), random_state=0, **{**known, **kwargs})


@functools.cache
def _fitted(name="fine_tune", forgotten=False):
    table = _table()
    method = dict(all_unlearners())[name]
    unlearner = short(method, keep_forgotten=forgotten).fit(table.X, table.y, table.a)
    return unlearner.unlearn([2, 9]) if forgotten else unlearner


def fitted(name="fine_tune", forgotten=False):
    return copy.deepcopy(_fitted(name, forgotten))


def is_share(result):
    assert isinstance(result, float), result
    assert np.isnan(result) or 0 <= result <= 1, result


def are_shares(result):
    for value in dict(result).values():
        is_share(float(value))


# grmu_sk -----------------------------------------------------------------------------------------


def _drawn_rows(result):
    assert result.dtype.kind == "i", result.dtype
    assert len(np.unique(result)) == len(result) > 0


@target("sample_forget_set")
def _():
    y, _, a = rows()
    arguments = {"y": y, "groups": a, "forget_groups": FORGET_PAIR, "ratio": 0.5, "random_state": 0}
    return Call(grmu_sk.sample_forget_set, arguments, check=_drawn_rows)


def _mine(**parameters):
    X, y = parameters.pop("X"), parameters.pop("y")
    return grmu_sk.MINE(**parameters).fit(X, y)


MINE_PARAMETERS = {"hidden": 4, "max_updates": 2, "batch_size": 8, "lr": 0.001, "random_state": 0}
MINE_PARAMETERS |= {"marginal": "permute", "discrete": True, "moving_average_rate": 0.01}


@target("MINE", costly=("hidden", "max_updates", "batch_size"), fixed=("X", "y"))
def _():
    arguments = {**MINE_PARAMETERS, "optimizer": None, "X": inputs(), "y": rows()[0]}
    return Call(_mine, arguments, documents=(grmu_sk.MINE, grmu_sk.MINE.fit))


@target("MINE.fit")
def _():
    mine = grmu_sk.MINE(**MINE_PARAMETERS)
    return Call(mine.fit, {"X": inputs(), "y": rows()[0]}, subject=mine)


@functools.cache
def _fitted_mine():
    return grmu_sk.MINE(**MINE_PARAMETERS).fit(inputs(), rows()[0])


@target("MINE.score")
def _():
    mine = copy.deepcopy(_fitted_mine())
    return Call(mine.score, {"X": inputs(), "y": rows()[0]}, subject=mine)


def _sampler():
    y, _, a = rows(40)
    return grmu_sk.ReweightSampler().fit(y, groups=a)


def are_probabilities(result):
    assert np.isclose(np.sum(result), 1), result
    assert (np.asarray(result) >= 0).all()


@target("ReweightSampler.fit")
def _():
    y, _, a = rows()
    sampler = _sampler()
    return Call(sampler.fit, {"X": y, "y": None, "groups": a}, subject=sampler)


@target("ReweightSampler.transform")
def _():
    y, _, a = rows()
    sampler = _sampler()
    arguments = {"X": y, "groups": a}
    # X holds labels, which errors call y as everywhere else
    return Call(
        sampler.transform, arguments, subject=sampler, check=are_probabilities, names=("y",)
    )


@target("ReweightSampler.fit_transform")
def _():
    y, _, a = rows()
    arguments = {"X": y, "y": None, "groups": a}
    function = grmu_sk.ReweightSampler().fit_transform
    return Call(function, arguments, check=are_probabilities)


@target("ReweightSampler.to_torch", costly=("num_samples",))
def _():
    y, _, a = rows()
    arguments = {"X": y, "groups": a, "num_samples": 8, "generator": torch.Generator()}
    return Call(_sampler().to_torch, arguments, names=("y",))


def _parameter_target(name, method):
    """What a method does with parameters that make no sense, when it is asked to forget."""

    def set_and_unlearn(unlearner, **parameters):
        # a parameter stays what it was set to; everything else is as before
        unlearner.set_params(**parameters)
        before = vars(unlearner).copy()
        try:
            return unlearner.unlearn([4, 7])
        except Exception:
            changed = [key for key in before if vars(unlearner).get(key) is not before[key]]
            assert not changed, f"{changed} changed"
            assert vars(unlearner).keys() == before.keys()
            raise

    def make():
        unlearner = fitted(name)
        parameters = unlearner.get_params(deep=False)
        for other in ("estimator", "store_data", "keep_forgotten"):
            del parameters[other]
        return Call(
            functools.partial(set_and_unlearn, unlearner),
            parameters,
            documents=(method, BaseUnlearner.unlearn),
        )

    costly = tuple(method._get_param_names())
    TARGETS[method.__name__] = Target(method.__name__, make, costly=costly, tags=("method",))


for _name, _method in all_unlearners():
    _parameter_target(_name, _method)


def _fit_target(name, method):
    @target(f"{name}.fit", costly=())
    def _():
        table = _table()
        unlearner = short(method)
        arguments = {"X": table.X[:30].copy(), "y": table.y[:30].copy(), "groups": table.a[:30]}
        arguments |= {"forget": np.arange(30) % 10 == 0, "sample_id": np.arange(30)}
        if name == "BaseUnlearner":
            arguments["sample_weight"] = np.ones(30)
        return Call(unlearner.fit, arguments, subject=unlearner)


_fit_target("BaseUnlearner", FineTuneUnlearner)
_fit_target("SISAUnlearner", grmu_sk.SISAUnlearner)


@target("BaseUnlearner#estimator")
def _():
    table = _table()

    def fit(**parameters):
        return FineTuneUnlearner(max_epochs=1, **parameters).fit(table.X, table.y, table.a)

    arguments = {"estimator": small_net(), "random_state": 0}
    arguments |= {"store_data": True, "keep_forgotten": False}
    return Call(fit, arguments, documents=(FineTuneUnlearner, BaseUnlearner.fit))


@target("BaseUnlearner#feature_layer")
def _():
    table = _table()

    def fit(**parameters):
        unlearner = short(grmu_sk.MIUUnlearner).set_params(**parameters)
        return unlearner.fit(table.X, table.y, table.a)

    arguments = {"feature_layer": "layers.0"}
    return Call(fit, arguments, documents=(FineTuneUnlearner, BaseUnlearner.fit))


@target("MIUUnlearner.fast")
def _():
    arguments = {"estimator": small_net(), "lam": 1.0, "random_state": 0}
    return Call(grmu_sk.MIUUnlearner.fast, arguments)


@target("BaseUnlearner.unlearn")
def _():
    unlearner = fitted()
    return Call(unlearner.unlearn, {"forget": np.array([1, 5])}, subject=unlearner)


@target("BaseUnlearner.unlearn#ids")
def _():
    unlearner = fitted()
    return Call(unlearner.unlearn, {"ids": np.array([1, 5])}, subject=unlearner)


@target("BaseUnlearner.unlearn#data")
def _():
    table, unlearner = _table(), fitted()
    arguments = {"forget": np.array([1, 5]), "X": table.X.copy(), "y": table.y.copy()}
    arguments |= {"groups": table.a.copy(), "sample_weight": None, "ids": None, "ledger": None}
    return Call(unlearner.unlearn, arguments, subject=unlearner)


@target("BaseUnlearner.unlearn#checkpoint")
def _():
    unlearner = fitted("miu")
    arguments = {"forget": np.array([1, 5]), "checkpoint": folder() / "a.checkpoint"}
    return Call(unlearner.unlearn, arguments, subject=unlearner)


@target("UnlearningCheckpoint", slow=True)
def _():
    def use(**arguments):
        checkpoint = grmu_sk.UnlearningCheckpoint(**arguments)
        checkpoint.delete()  # a test before may have kept one
        fitted().unlearn([1, 5], checkpoint=checkpoint)
        assert checkpoint.exists() == bool(checkpoint.keep)

    arguments = {"path": folder() / "b.checkpoint", "every_steps": 1, "every_seconds": 60.0}
    arguments |= {"keep": False, "unusable": "raise"}
    kept = grmu_sk.UnlearningCheckpoint
    documents = (kept, kept.delete, BaseUnlearner.unlearn)
    return Call(use, arguments, documents=documents)


for _method_name in ("predict", "predict_proba", "predict_log_proba"):

    @target(f"BaseUnlearner.{_method_name}")
    def _(method_name=_method_name):
        unlearner = fitted()
        function = getattr(unlearner, method_name)
        return Call(function, {"X": inputs()}, subject=unlearner)


@target("BaseUnlearner.training_rows")
def _():
    unlearner = fitted()
    return Call(unlearner.training_rows, {"which": "remaining"}, subject=unlearner)


@target("BaseUnlearner.report", costly=("n_bootstrap",))
def _():
    unlearner = fitted()
    X, (y, _, a) = inputs(), rows()
    arguments = {"path": folder() / "page.html", "X": X, "y": y, "groups": a, "n_bootstrap": 2}

    def report(path, X, y, groups, **more):
        return unlearner.report(path, X, y, groups, **more)

    documents = (audit.write_report, audit.build_evidence)
    return Call(report, arguments, documents=documents, subject=unlearner)


@target("BaseUnlearner.save")
def _():
    unlearner = fitted()
    return Call(unlearner.save, {"path": folder() / "saved"}, documents=(save,), subject=unlearner)


@functools.cache
def saved_model():
    path = folder() / "model.safetensors"
    _fitted(forgotten=True).save(path)
    return path


@target("BaseUnlearner.load")
def _():
    arguments = {"path": saved_model(), "estimator": small_net()}
    return Call(FineTuneUnlearner.load, arguments, documents=(load, BaseUnlearner.load))


# persistence, nets -------------------------------------------------------------------------------


@target("persistence.save")
def _():
    unlearner = fitted()
    return Call(save, {"unlearner": unlearner, "path": folder() / "saved"}, subject=unlearner)


@target("persistence.load")
def _():
    arguments = {"path": saved_model(), "estimator": small_net(), "expected": FineTuneUnlearner}
    return Call(load, arguments)


@target("nets.MLP", costly=("n_features", "n_classes", "hidden"))
def _():
    return Call(MLP, {"n_features": 4, "n_classes": 2, "hidden": (3, 3), "dtype": None}, draws=True)


@target("nets.SmallCNN", costly=("n_classes", "n_channels", "width", "depth"))
def _():
    arguments = {"n_classes": 2, "n_channels": 3, "width": 2, "batch_norm": True, "depth": 2}
    return Call(SmallCNN, arguments, draws=True)


# metrics -----------------------------------------------------------------------------------------


def _metric(name, check=is_share, **more):
    @target(f"metrics.{name}")
    def _():
        y, predicted, a = rows()
        arguments = {"y_true": y, "y_pred": predicted, "groups": a}
        arguments |= {"sample_weight": np.ones(24)}
        arguments |= {key: copy.copy(value) for key, value in more.items()}
        return Call(getattr(metrics, name), arguments, check=check)


_of_groups = {"forget_groups": [FORGET_PAIR], "empty": "raise"}
_metric("group_accuracies", are_shares)
_metric("worst_group_accuracy_score")
_metric("group_accuracy_score", **_of_groups)
_metric("demographic_parity_gap", pos_label=1, **_of_groups)
_metric("equal_opportunity_gap", pos_label=1, **_of_groups)
_metric("equalized_odds_gap", rule="paper", pos_label=1, **_of_groups)


@target("metrics.split_accuracy_score")
def _():
    y, predicted, _ = rows()
    arguments = {"y_true": y, "y_pred": predicted, "rows": np.arange(6)}
    return Call(metrics.split_accuracy_score, {**arguments, "sample_weight": None}, check=is_share)


@target("metrics.per_sample_cross_entropy")
def _():
    arguments = {"y_true": rows()[0], "proba": probabilities(), "classes": np.array([0, 1])}
    return Call(metrics.per_sample_cross_entropy, arguments)


@target("metrics.fit_membership_attack", costly=("n_jobs",))
def _():
    arguments = {"member_losses": losses(), "nonmember_losses": losses(seed=1)}
    return Call(metrics.fit_membership_attack, {**arguments, "random_state": 0, "n_jobs": None})


@target("metrics.membership_inference_efficacy", costly=("n_jobs",))
def _():
    arguments = {"member_losses": losses(), "nonmember_losses": losses(seed=1)}
    arguments |= {"forget_losses": losses(5, seed=2), "attack": "paper", "random_state": 0}
    return Call(metrics.membership_inference_efficacy, arguments, check=is_share)


@target("metrics.MembershipAttack")
def _():
    return Call(metrics.MembershipAttack, {"member_intervals": np.array([[0.0, 1.0]])})


@target("metrics.MembershipAttack.is_member")
def _():
    attack = metrics.MembershipAttack(np.array([[0.1, 1.0]]))
    return Call(attack.is_member, {"losses": losses()}, subject=attack)


def _split_predictions(n=24, **more):
    y, _, a = rows(n)
    return metrics.SplitPredictions(**{"y": y, "proba": probabilities(n), "groups": a, **more})


@target("metrics.evaluate_predictions", costly=("n_jobs",))
def _():
    arguments = {name: _split_predictions() for name in ("remaining", "test", "holdout")}
    arguments |= {"forget": _split_predictions(8), "classes": np.array([0, 1])}
    arguments |= {"forget_groups": [FORGET_PAIR], "mia": ("paper",), "eo_rule": "paper"}
    arguments |= {"threshold": None, "empty": "nan", "random_state": 0, "n_jobs": None}
    return Call(metrics.evaluate_predictions, arguments, check=are_shares)


@target("metrics.SplitPredictions")
def _():
    y, _, a = rows()

    def use(y, proba, groups):
        split = metrics.SplitPredictions(y, proba, groups)
        return metrics.evaluate_predictions(
            classes=[0, 1],
            remaining=split,
            forget=split,
            test=split,
            forget_groups=[FORGET_PAIR],
            mia=(),
            empty="nan",
        )

    documents = (metrics.SplitPredictions, metrics.evaluate_predictions)
    arguments = {"y": y, "proba": probabilities(), "groups": a}
    return Call(use, arguments, documents=documents, check=are_shares)


def _scores(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(size=3) for name in ("RA", "UA", "TA", "MIA", "EO", "GA")}


for _name, _check in (
    ("average_gap_score", is_share),
    ("tug_of_war_score", is_share),
    ("metric_deltas", are_shares),
):

    @target(f"metrics.{_name}")
    def _(name=_name, check=_check):
        arguments = {"values": _scores(), "gold": _scores(1), "metrics": ("RA", "UA", "TA")}
        return Call(getattr(metrics, name), arguments, check=check)

    @target(f"metrics.{_name}#frame")
    def _(name=_name, check=_check):
        frames = [pd.DataFrame(_scores(seed)) for seed in range(2)]
        arguments = {"values": frames[0], "gold": frames[1], "metrics": ("RA", "UA")}
        return Call(getattr(metrics, name), arguments, check=check)


# scorers, model selection ------------------------------------------------------------------------


def _scorer(name):
    @target(f"scorers.{name}")
    def _():
        scorer = getattr(scorers, name)
        unlearner = fitted(forgotten=True)
        X, (y, _, a) = inputs(), rows()
        arguments = {"estimator": unlearner, "X": X, "y": y, "groups": a, "sample_weight": None}
        documents = (scorers.UnlearningScorer, scorers.UnlearningScorer.__call__)
        return Call(
            scorer,
            arguments,
            positional=("estimator", "X", "y"),
            documents=documents,
            subject=unlearner,
            names=("unlearner", "keep_forgotten"),
        )


for _name in scorers.__all__:
    if isinstance(getattr(scorers, _name), scorers.UnlearningScorer):
        _scorer(_name)


@target("scorers.get_unlearning_scorer")
def _():
    return Call(scorers.get_unlearning_scorer, {"name": "ga"})


@target("scorers.avg_gap_scorer")
def _():
    arguments = {"gold": short(RetrainUnlearner), "memory": None}
    return Call(scorers.avg_gap_scorer, arguments)


@target("scorers.UnlearningScorer")
def _():
    arguments = {"name": "mine", "function": len, "uses_groups": True, "uses_weights": True}
    return Call(scorers.UnlearningScorer, arguments)


@target("scorers.UnlearningScorer.set_score_request")
def _():
    def request(**names):
        with grmu_sk_routing():
            return copy.deepcopy(scorers.ga_scorer).set_score_request(**names)

    documents = (scorers.UnlearningScorer.set_score_request,)
    return Call(request, {"groups": "a", "sample_weight": None}, documents=documents)


def grmu_sk_routing():
    from sklearn import config_context

    return config_context(enable_metadata_routing=True)


@target("model_selection.UnlearningStratifiedKFold")
def _():
    y, _, a = rows(40)

    def split(**parameters):
        cv = model_selection.UnlearningStratifiedKFold(**parameters)
        return list(cv.split(inputs(40), y, a, forget=np.arange(40) % 3 == 0))

    arguments = {"n_splits": 2, "shuffle": True, "random_state": 0}
    documents = (
        model_selection.UnlearningStratifiedKFold,
        model_selection.UnlearningStratifiedKFold.split,
    )
    return Call(split, arguments, documents=documents)


@target("model_selection.UnlearningStratifiedKFold.split")
def _():
    y, _, a = rows(40)
    cv = model_selection.UnlearningStratifiedKFold(2)

    def split(X, y, groups, forget):
        return list(cv.split(X, y, groups, forget=forget))

    arguments = {"X": inputs(40), "y": y, "groups": a, "forget": np.arange(40) % 3 == 0}
    return Call(split, arguments, documents=(cv.split,))


@target("model_selection.UnlearningStratifiedKFold.get_n_splits")
def _():
    arguments = {"X": inputs(), "y": None, "groups": None, "forget": None}
    return Call(model_selection.UnlearningStratifiedKFold(2).get_n_splits, arguments)


@target("model_selection.cross_validate_unlearning", costly=("cv", "n_jobs"), slow=True)
def _():
    table = _table()
    arguments = {"unlearners": {"fine_tune": short(FineTuneUnlearner)}, "X": table.X.copy()}
    arguments |= {"y": table.y.copy(), "groups": table.a.copy(), "forget": np.arange(48) % 4 == 0}
    arguments |= {"gold": short(RetrainUnlearner), "cv": 2, "metrics": ("TA",), "random_state": 0}
    return Call(model_selection.cross_validate_unlearning, {**arguments, "n_jobs": None})
