"""Parameters declared once: values out of range, documentation, and a class of one's own."""

import ast
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_net
from numpydoc.validate import validate

from grmu_sk import unlearners
from grmu_sk.parameters import POSITIVE, parameter
from grmu_sk.unlearners import all_unlearners
from grmu_sk.unlearners.approximate import RetainingUnlearner

METHODS = dict(all_unlearners())
NAN = float("nan")
REFUSED = {
    "as_unseen": {"lr_share": [0], "alpha": [-1], "forget_every": [0], "reference_epochs": [0]},
    "bad_teacher": {"retain_share": [0, 1.5, NAN], "temperature": [-1, 0]},
    "boundary_expand": {"retaining": ["yes"]},
    "boundary_shrink": {"epsilon": [-0.1], "input_range": [(1, 0), (0, 1, 2)]},
    "budget_retrain": {"batch_size": [0, -2]},
    "cf_k": {"k": [0, 1.5, 3]},
    "eu_k": {"k": [0, 1.5, 3]},
    "fine_tune": {"max_epochs": [0, 1.5], "lr": [-1, np.inf, NAN, 1e39], "reweight": ["no", None]},
    "gradient_ascent": {"max_loss": [0, NAN]},
    "group_dro": {"eta": [-0.1, np.inf, NAN]},
    "influence": {"alpha": [-1], "damping": [0], "n_fisher": [0]},
    "l1_sparse": {"l1_penalty": [-1e-4, NAN]},
    "miu": {
        "marginal": ["none"],
        "estimators": ["both"],
        "tune_mode": ["off"],
        "original_mode": ["off"],
        "retain_fraction": [0, 1.5],
        "keep_features": ["no"],
        "lam": [-1],
        "moving_average_rate": [0],
        "tune_updates": [(-1, 2), (1, 2, 3)],
        "mine_momentum": [1],
        "mine_hidden": [0],
    },
    "neg_grad_plus": {"alpha": [-0.1, 1.1]},
    "no_op": {"random_state": [-1, "1"]},
    "random_label": {"exclude_true": ["no"]},
    "retrain": {"reweight": ["no"]},
    "salun": {"threshold": [0, 1.5]},
    "scrub": {
        "forget_epochs": [-1],
        "alpha": [-0.1],
        "gamma": [-1],
        "temperature": [0],
        "retain_batch_size": [0],
    },
    "shrink_perturb": {"shrink": [-0.1, 1.1], "noise": [-1]},
    "sisa": {"n_shards": [0, 161, 2.0], "aggregation": ["median"]},
    "ssd": {"selection_weighting": [0], "dampening_constant": [-1], "fisher_batch_size": [0]},
    "subsample_retrain": {"store_data": ["no"]},
}


@pytest.mark.parametrize("name", METHODS)
def test_values_out_of_range_are_refused_by_name(name, table):
    for parameter_name, values in REFUSED[name].items():
        for value in values:
            unlearner = METHODS[name](make_net(), **{parameter_name: value})
            with pytest.raises(ValueError, match=rf"\b{parameter_name}\b"):
                unlearner.fit(table.X, table.y, table.a)
            assert not hasattr(unlearner, "net_")


@pytest.mark.parametrize("name", METHODS)
def test_documentation_is_complete_and_true(name):
    method = METHODS[name]
    problems = validate(f"grmu_sk.{method.__name__}")["errors"]
    # the order of the page is its own: what a method adds comes first
    ours = [text for code, text in problems if code in {"PR01", "PR02", "PR04", "PR10", "YD01"}]
    assert ours == []
    for parameter_name, declared in inspect.signature(method).parameters.items():
        line = next(s for s in method.__doc__.split("\n") if s.startswith(f"{parameter_name} :"))
        default = line.rpartition("default=")[2]  # a literal
        assert ast.literal_eval(default) == declared.default, line


class Fading(RetainingUnlearner):
    """Forget slowly.

    Parameters
    ----------
    speed : float, default=0.5
        How fast.

    Notes
    -----
    Short.
    """

    speed: float = parameter(0.5, POSITIVE)
    #: an attribute that fit sets, no parameter
    curve_: list[float]

    def _phases(self, request):
        raise AssertionError


def test_a_class_of_ones_own_inherits_what_it_does_not_say():
    assert Fading(None, speed=2).get_params()["speed"] == 2
    assert "curve_" not in Fading().get_params()
    assert Fading().get_params()["max_epochs"] == 10
    assert Fading.__doc__.index("speed :") < Fading.__doc__.index("max_epochs : int, default=10")
    with pytest.raises(TypeError, match="positional"):
        Fading(None, 2)


def test_another_package_registers_a_method(monkeypatch):
    points = [SimpleNamespace(load=lambda: Fading)]
    monkeypatch.setattr(unlearners, "entry_points", lambda group: points)
    monkeypatch.setattr(Fading, "method_name", "fading", raising=False)
    assert dict(unlearners.all_unlearners())["fading"] is Fading
