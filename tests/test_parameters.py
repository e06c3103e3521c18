"""Parameters declared once: values out of range, documentation, and a class of one's own."""

import ast
import inspect
from types import SimpleNamespace

import pytest
from conftest import make_net
from numpydoc.validate import validate

from grmu_sk import unlearners
from grmu_sk.parameters import POSITIVE, parameter
from grmu_sk.unlearners import all_unlearners
from grmu_sk.unlearners.approximate import RetainingUnlearner

METHODS = dict(all_unlearners())
REFUSED = {
    "as_unseen": {"alpha": -1},
    "boundary_shrink": {"input_range": (1, 0)},
    "cf_k": {"k": 3},
    "fine_tune": {"lr": 1e39},
    "miu": {"tune_updates": (1, 2, 3)},
    "neg_grad_plus": {"alpha": 1.1},
    "scrub": {"temperature": 0},
    "sisa": {"n_shards": 161},
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_out_of_range_are_refused_by_name(name, table):
    unlearner = METHODS[name](make_net(), **REFUSED[name])
    with pytest.raises(ValueError, match=rf"\b{next(iter(REFUSED[name]))}\b"):
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
