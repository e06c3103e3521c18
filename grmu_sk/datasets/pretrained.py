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
        raise ImportError(
            "transformers is needed for text and is not installed: pip install 'grmu_sk[text]', or "
            "pip install transformers."
        ) from error
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
        if os.path.isdir(place):
            raise FileNotFoundError(
                f"The folder {name} does not hold what is needed ({files}): {error}"
            ) from error
        raise FileNotFoundError(
            f"{name!r} is not a folder here, and could not be had from the network as a model of "
            f"that name. Without a network, get the files of {name} ({files}) on another machine, "
            "from https://huggingface.co, put them into a folder and give that folder. The reason "
            f"was: {error}"
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
