"""One hash that says which model it is."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ..base import BaseUnlearner
from ..utils.arguments import check_types

__all__ = ["model_hash"]


def model_hash(unlearner: BaseUnlearner) -> str:
    """Return SHA-256 of a fitted unlearner's weights and of which rows it has forgotten.

    Models with the same hash predict the same and have forgotten the same rows. Unlike the hash
    of a file, it does not depend on how long the training took or on versions of packages.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    TypeError
        If it is not an unlearner.
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
    check_types(model_hash, locals())
    check_is_fitted(unlearner)
    digest = hashlib.sha256()
    _add(digest, "class", type(unlearner).__name__.encode())
    _add(digest, "forgotten", np.asarray(unlearner.forget_idx_, dtype="<i8").tobytes())
    net = unlearner.net_
    for component in (*net._modules, *net._criteria):  # skorch's list of what has weights
        module = getattr(net, component + "_")
        module = getattr(module, "_orig_mod", module)  # of torch.compile
        for name, value in module.state_dict().items():
            _add(digest, f"{component}/{name}", _content(value))
    return digest.hexdigest()


def _content(value: Any) -> bytes:
    if not isinstance(value, torch.Tensor):
        return repr(value).encode()
    plain = value.detach().cpu().contiguous()
    kind = f"{plain.dtype} {tuple(plain.shape)}".encode()
    return kind + plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def _add(digest: Any, name: str, content: bytes) -> None:
    for part in (name.encode(), content):  # lengths, so that no two lists read the same
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
