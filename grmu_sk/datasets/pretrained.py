"""What ``transformers`` has of a pretrained model: from a folder, or downloaded once."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["from_pretrained", "load_tokenizer"]


def import_transformers() -> Any:
    """Return the optional package, or say how to install it."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError("transformers is missing: pip install 'grmu_sk[text]'.") from error
    return transformers


def from_pretrained(kind: str, name: str | os.PathLike[str], files: str, **settings: Any) -> Any:
    """Load a part of a pretrained model.

    Parameters
    ----------
    kind : str
        A class of ``transformers``.
    name : str or Path
        A folder, or the name of a model.
    files : str
        What must be in the folder, for a message.
    **settings : dict
        For the class.

    Returns
    -------
    object
        What the class makes of it.

    Raises
    ------
    ImportError
        If ``transformers`` is not installed.
    FileNotFoundError
        If it is neither in a local folder nor to be had from the network.
    """
    transformers = import_transformers()
    place = os.path.expanduser(name)
    try:
        return getattr(transformers, kind).from_pretrained(place, **settings)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name} is no folder with {files}, nor to be had from https://huggingface.co: {error}"
        ) from error


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
    return from_pretrained("AutoTokenizer", name, files)
