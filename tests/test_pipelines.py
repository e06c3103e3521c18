import numpy as np
import pytest
from conftest import make_net
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grmu_sk import FineTuneUnlearner
from grmu_sk.pipelines import inputs_of_unlearner, unlearner_of
from grmu_sk.scorers import ta_scorer


def wrapped(kind):
    unlearner = FineTuneUnlearner(make_net(), max_epochs=1, random_state=0)
    pipe = make_pipeline(StandardScaler(), unlearner)
    search = {"param_grid": {}, "cv": 2, "scoring": ta_scorer}
    return {
        "bare": unlearner,
        "search of pipeline": GridSearchCV(pipe, **search),
        "pipeline of pipeline": make_pipeline("passthrough", pipe),
    }[kind]


@pytest.mark.parametrize("kind", ["bare", "search of pipeline", "pipeline of pipeline"])
def test_fitted_and_unfitted(table, kind):
    estimator = wrapped(kind)
    found = unlearner_of(estimator, fitted=False)
    assert isinstance(found, FineTuneUnlearner)
    with pytest.raises((NotFittedError, TypeError), match=r"not fitted|fitted search"):
        unlearner_of(estimator)
    with config_context(enable_metadata_routing=True):
        estimator.fit(table.X, table.y, groups=table.a)
    unlearner = unlearner_of(estimator)
    assert (found is unlearner) == ("search" not in kind)
    assert unlearner_of(FrozenEstimator(estimator)) is unlearner
    X = inputs_of_unlearner(FrozenEstimator(estimator), table.X)
    np.testing.assert_array_equal(unlearner.predict(X), estimator.predict(table.X))
    accuracy = np.mean(estimator.predict(table.X) == table.y)
    assert ta_scorer(FrozenEstimator(estimator), table.X, table.y) == pytest.approx(accuracy)
    scaled = StandardScaler().fit_transform(table.X) if "pipeline" in kind else table.X
    np.testing.assert_allclose(X, scaled)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table.X, table.y)
    with pytest.raises(TypeError, match="needs an unlearner, a Pipeline whose last step"):
        unlearner_of(model)
