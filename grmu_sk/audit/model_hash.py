"""One hash that says which model it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..fingerprints import digest, weights
from ..pipelines import unlearner_of

__all__ = ["model_hash"]


def model_hash(unlearner: Any) -> str:
    """Return SHA-256 of a fitted unlearner's weights and of which rows it has forgotten.

    Models with the same hash predict the same and have forgotten the same rows. Unlike the hash
    of a file, it does not depend on how long the training took or on versions of packages.

    Parameters
    ----------
    unlearner : BaseUnlearner or Pipeline
        Fitted; of a pipeline its last step counts.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    TypeError
        If it holds no unlearner.
    NotFittedError
        If the unlearner is not fitted.

    Examples
    --------
    >>> from grmu_sk import NoOpUnlearner
    >>> from grmu_sk.audit import model_hash
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
    >>> one, other = (NoOpUnlearner(random_state=0).fit(X, y, a) for _ in range(2))
    >>> model_hash(one) == model_hash(other), model_hash(one) == model_hash(other.unlearn([3]))
    (True, False)
    """
    unlearner = unlearner_of(unlearner)
    known = {
        "class": type(unlearner).__name__.encode(),
        "forgotten": np.asarray(unlearner.forget_idx_, dtype="<i8").tobytes(),
    }
    return digest([*known.items(), *weights(unlearner.net_)])
