"""The paper's networks, ResNet-18 and BERT, and a small one that is quick on a CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.models.resnet import BasicBlock, ResNet

from ..nets import SmallCNN

__all__ = ["BertClassifier", "ChannelsLastCNN", "ResNet18"]

IMAGENET = ResNet18_Weights.IMAGENET1K_V1
HEAD = ("fc.weight", "fc.bias")


class ChannelsLastCNN(SmallCNN):
    """A :class:`~grmu_sk.nets.SmallCNN` whose activations lie in memory with channels last.

    Quicker on a CPU; outputs differ by rounding only. The weights stay as they are, since what
    reads them (files, methods that rank them) expects the usual order.
    """

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images."""
        return super().forward(X.contiguous(memory_format=torch.channels_last))


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
    >>> from grmu_sk.benchmark.nets import ResNet18
    >>> ResNet18(n_classes=9)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 9])
    """

    def __init__(
        self, n_classes: int = 2, *, weights: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=n_classes)
        if weights is not None:
            state = _imagenet() if weights == "imagenet" else _read(Path(weights).expanduser())
            _load_body(self, state, weights)


def _imagenet() -> Mapping[str, Any]:
    try:
        return IMAGENET.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        path = Path(torch.hub.get_dir(), "checkpoints", Path(IMAGENET.url).name)
        raise FileNotFoundError(
            f"ImageNet's weights could not be downloaded ({error}). Get {IMAGENET.url} (45 MB) and "
            f"put it at {path}, or anywhere else and give its path as weights, or --weights."
        ) from error


def _load_body(net: nn.Module, state: Mapping[str, Any], where: str | os.PathLike[str]) -> None:
    """Load all weights but the head's, which must be there by name and shape."""
    kept = {name: value for name, value in net.state_dict().items() if name in HEAD}
    body = {name: value for name, value in state.items() if name not in HEAD}
    try:
        net.load_state_dict({**kept, **body})
    except RuntimeError as error:
        raise ValueError(f"{where} holds the weights of another net: {error}") from error


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler has many for what it refuses
        raise ValueError(f"{path} cannot be read as weights: {error}") from error
    return state.get("state_dict", state)


class BertClassifier(nn.Module):
    """BERT with a linear head, on inputs of shape (n, length, 3): numbers, mask, segments.

    The features, input of the head, are the pooled output after dropout: 768 numbers a row for
    ``bert-base-uncased``. Needs the optional dependency ``transformers``.

    Parameters
    ----------
    n_classes : int, default=2
        Number of target labels, hence of logits.
    weights : str or Path or None, default="bert-base-uncased"
        A folder with pretrained weights as ``transformers`` saves them (``config.json`` and
        ``model.safetensors``), or the name of a model, which is downloaded once. None gives random
        weights.
    config : mapping or None, default=None
        Settings of ``transformers.BertConfig``: sizes with random weights, dropout with pretrained
        ones.

    Raises
    ------
    ImportError
        If ``transformers`` is not installed.
    FileNotFoundError
        If the weights are neither in a local folder nor to be had from the network.
    ValueError
        If they are those of another network.

    References
    ----------
    J. Devlin, M.-W. Chang, K. Lee and K. Toutanova. "BERT: Pre-training of Deep Bidirectional
    Transformers for Language Understanding". NAACL 2019.
    """

    def __init__(
        self,
        n_classes: int = 2,
        *,
        weights: str | os.PathLike[str] | None = "bert-base-uncased",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.bert = _bert(weights, dict(config or {}))
        found = self.bert.config
        rate = found.classifier_dropout
        self.dropout = nn.Dropout(found.hidden_dropout_prob if rate is None else rate)
        self.head = nn.Linear(found.hidden_size, n_classes)
        nn.init.normal_(self.head.weight, std=found.initializer_range)
        nn.init.zeros_(self.head.bias)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of texts.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, length, 3)
            For each token its number, 1 if it counts (0 for padding), and its segment.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_classes)
            Logits.
        """
        numbers, mask, segments = X.long().unbind(dim=-1)
        output = self.bert(input_ids=numbers, attention_mask=mask, token_type_ids=segments)
        return self.head(self.dropout(output.pooler_output))


def _bert(weights: str | os.PathLike[str] | None, settings: dict[str, Any]) -> Any:
    try:
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise ImportError("transformers is missing: pip install 'grmu_sk[text]'.") from error
    if weights is None:
        return BertModel(BertConfig(**settings))
    place = os.path.expanduser(weights)
    found: Any
    try:
        found = BertModel.from_pretrained(place, output_loading_info=True, **settings)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{weights} is no folder with config.json and model.safetensors, nor to be had from "
            f"https://huggingface.co: {error}"
        ) from error
    body, info = found
    if info["missing_keys"]:
        raise ValueError(f"{weights} does not hold these weights of BERT: {info['missing_keys']}.")
    return body
