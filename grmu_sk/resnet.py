"""ResNet-18, with random or pretrained weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.models.resnet import BasicBlock, ResNet

__all__ = ["ResNet18", "resnet18"]

IMAGENET = ResNet18_Weights.IMAGENET1K_V1
HEAD = ("fc.weight", "fc.bias")


class ResNet18(ResNet):
    """ResNet-18 [1]_ for square colour images, with a head of its own.

    The features are the 512 numbers that enter the head, ``fc``. Images are to be scaled to
    [-1, 1], as the paper [2]_ does with pretrained weights too.

    Parameters
    ----------
    n_classes : int, default=2
        Number of target labels, hence of logits.
    weights : {"imagenet"}, str or Path or None, default=None
        None gives random weights. A file (``.pth``, ``.pt`` or ``.safetensors``) gives the weights
        in it, whether torchvision's or timm's, whose names are the same. ``"imagenet"`` gives
        torchvision's, from its cache, or else downloaded once. The head is always new: its weights
        in the file are left out.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or the weights cannot be downloaded; says which file to get and
        where to put it.
    ValueError
        If the file holds other things than weights, or those of another network.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun. "Deep Residual Learning for Image Recognition". CVPR
       2016.
    .. [2] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.

    Examples
    --------
    >>> import torch
    >>> from grmu_sk.resnet import ResNet18
    >>> ResNet18(n_classes=9)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 9])
    """

    def __init__(
        self, n_classes: int = 2, *, weights: str | os.PathLike[str] | None = None
    ) -> None:
        if isinstance(n_classes, bool) or not isinstance(n_classes, int) or n_classes < 1:
            raise ValueError(f"n_classes must be a whole number of at least 1, got {n_classes!r}.")
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=n_classes)
        if weights is not None:
            _load_body(self, *_read_weights(weights))


def resnet18(n_classes: int = 2, weights: str | os.PathLike[str] | None = None) -> ResNet18:
    """Return a ResNet-18.

    Parameters
    ----------
    n_classes : int, default=2
        Number of target labels.
    weights : {"imagenet"}, str or Path or None, default=None
        See :class:`ResNet18`.

    Returns
    -------
    ResNet18
        The network.
    """
    return ResNet18(n_classes, weights=weights)


def _read_weights(weights: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """Return weights by name, and where they are from."""
    if weights == "imagenet":
        path = Path(torch.hub.get_dir(), "checkpoints", Path(IMAGENET.url).name)
        if not path.is_file():
            _download(path)
    else:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no file {path} with weights of ResNet-18. {_where_to_get()}"
            )
    return _read_file(path), str(path)


def _where_to_get(place: str = "anywhere and give its path as weights=...") -> str:
    return (
        f"Get {IMAGENET.url} (45 MB, torchvision's weights trained on ImageNet) and put it {place}"
    )


def _download(path: Path) -> None:
    try:
        torch.hub.load_state_dict_from_url(
            IMAGENET.url, model_dir=str(path.parent), check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"The weights trained on ImageNet are not on this machine and could not be downloaded "
            f"({error}). {_where_to_get(f'at {path}')}, or anywhere else and give its path as "
            "weights=..."
        ) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as weights: {error}. {_where_to_get()}") from error
    except Exception as error:  # torch's unpickler has a class of its own for what it refuses
        raise ValueError(
            f"{path} holds more than weights, and nothing else is loaded from a file: {error}. "
            f"{_where_to_get()}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ValueError(f"{path} does not hold weights by name. {_where_to_get()}")
    return state


def _load_body(net: nn.Module, state: dict[str, Any], source: str) -> None:
    """Load all weights but the head's, which must be there by name and shape."""
    expected = {name: value for name, value in net.state_dict().items() if name not in HEAD}
    # files of old versions of torch do not count batches
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in state and name not in counters]
    unknown = [name for name in state if name not in expected and name not in HEAD]
    if missing or unknown:
        raise ValueError(
            f"{source} holds the weights of another network than ResNet-18: "
            f"{_list('missing', missing)}; {_list('unknown', unknown)}."
        )
    for name, value in expected.items():
        if name in state and state[name].shape != value.shape:
            raise ValueError(
                f"{source} holds the weights of another network than ResNet-18: {name} has shape "
                f"{tuple(state[name].shape)}, expected {tuple(value.shape)}."
            )
    body = {name: value for name, value in state.items() if name in expected}
    net.load_state_dict(body, strict=False)


def _list(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")
