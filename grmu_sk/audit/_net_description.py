"""A digest of how a net is trained, the same in every process, to recognise it again."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from skorch import NeuralNet

from ..utils._description import describe
from ..utils._digest import add, add_weights

__all__ = ["net_digest"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def net_digest(net: NeuralNet) -> str:
    """Return SHA-256 of an initialised net's parameters, code and weights.

    Parameters
    ----------
    net : NeuralNet
        Initialised.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        If a parameter looks different in every process, such as an object without a repr.
    """
    digest = hashlib.sha256()
    add(digest, "class", _text(type(net)))
    for name, value in sorted(net.get_params(deep=False).items()):
        try:
            add(digest, name, _text(value))
        except ValueError as error:
            raise ValueError(
                f"The net's parameter {name} cannot be told from another one in the next process "
                f"({error}), so that a cache might hold answers of other nets. Leave cache out, or "
                "give that object a __repr__ that says what it does."
            ) from error
    add_weights(digest, net)
    return digest.hexdigest()


def _shown(value: Any) -> dict[str, Any]:
    text = repr(value)
    if _ADDRESS.search(text):
        raise ValueError(f"all that is known of it is {text}")
    return {"shown": text}


def _text(value: Any) -> bytes:
    return json.dumps(describe(value, _shown, exact=True)).encode()
