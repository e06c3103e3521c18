"""BERT as a classifier of token numbers; needs the optional dependency ``transformers``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["BertClassifier", "load_tokenizer"]

INSTALL = (
    "transformers is needed for text and is not installed: pip install 'grmu_sk[text]', or "
    "pip install transformers."
)


class BertClassifier(nn.Module):
    """BERT with a linear head, on inputs of shape (n, length, 3): numbers, mask, segments.

    The features, input of the head, are the pooled output after dropout: 768 numbers a row for
    ``bert-base-uncased``.

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
        transformers = _import_transformers()
        settings = dict(config or {})
        if weights is None:
            self.bert = transformers.BertModel(transformers.BertConfig(**settings))
        else:
            self.bert = _pretrained_body(transformers.BertModel, weights, settings)
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


def load_tokenizer(name: str | os.PathLike[str] = "bert-base-uncased") -> Any:
    """Load the tokenizer that belongs to a model.

    Parameters
    ----------
    name : str or Path, default="bert-base-uncased"
        A folder with its files (``tokenizer.json``, or ``vocab.txt`` and
        ``tokenizer_config.json``), or the name of a model, which is downloaded once.

    Returns
    -------
    tokenizer
        Of ``transformers``.

    Raises
    ------
    ImportError
        If ``transformers`` is not installed.
    FileNotFoundError
        If it is neither in a local folder nor to be had from the network.
    """
    files = "tokenizer.json, or vocab.txt and tokenizer_config.json"
    return _from_pretrained(_import_transformers().AutoTokenizer, name, files)


def _pretrained_body(kind: Any, weights: str | os.PathLike[str], settings: dict[str, Any]) -> Any:
    body, info = _from_pretrained(
        kind, weights, "config.json and model.safetensors", output_loading_info=True, **settings
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"{weights} does not hold all weights of BERT: {len(missing)} are missing, "
            f"{missing[0]} for one. It belongs to another network."
        )
    return body


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return transformers


def _from_pretrained(kind: Any, name: str | os.PathLike[str], files: str, **settings: Any) -> Any:
    is_folder = os.path.isdir(os.path.expanduser(name))
    place = os.path.expanduser(name) if is_folder else os.fspath(name)
    try:
        return kind.from_pretrained(place, **settings)
    except (OSError, ValueError) as error:
        if is_folder:
            raise FileNotFoundError(
                f"The folder {name} does not hold what is needed ({files}): {error}"
            ) from error
        raise FileNotFoundError(
            f"{name!r} is not a folder here, and could not be had from the network as a model of "
            f"that name. Without a network, get the files of {name} ({files}) on another machine, "
            "from https://huggingface.co, put them into a folder and give that folder. The reason "
            f"was: {error}"
        ) from error
