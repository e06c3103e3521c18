import pytest
from sklearn.model_selection import ParameterGrid

import grmu_sk
from grmu_sk.base import BaseUnlearner
from grmu_sk.unlearners import all_unlearners


def test_registry_holds_every_method_once():
    names = [name for name, _ in all_unlearners()]
    assert names == sorted(set(names))
    for name, cls in all_unlearners():
        assert issubclass(cls, BaseUnlearner)
        assert getattr(grmu_sk, cls.__name__) is cls
        assert cls.__name__ in grmu_sk.__all__
        assert cls.method_name == name
    with pytest.raises(AttributeError, match="'grmu_sk' has no attribute 'scorer'"):
        grmu_sk.scorer  # noqa: B018


def test_tuning_effort_is_equal():
    """Four settings a method, or none where the recipe of the net is all there is."""
    for name, method in all_unlearners():
        settings = list(ParameterGrid(method.search_grid))
        assert len(settings) == (1 if name in ("retrain", "no_op", "subsample_retrain") else 4)
        for setting in settings:
            method().set_params(**setting)._check_parameters()
