"""How the inputs of rows get to the net.

Batches are whole index tensors, and their rows are fetched at once: that is what keeps the loop as
fast as one written by hand. The net's own loader is used if it has any work to do: several
processes, a ``collate_fn``, pinned memory.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from .outputs import run_of
from .randomness import is_gpu
from .rows import InputRows, Rows, TrainingRows, as_tensor, encoded

# Options of a loader that say which rows come when.
ORDERING = ("sampler", "batch_sampler", "shuffle", "drop_last")
# Of the GPU's free memory; the rest is for the net's gradients, activations and copies.
SHARE_FOR_INPUTS = 0.25


# which rows come when ----------------------------------------------------------------------------


def orders_of(net: NeuralNet, name: str) -> dict[str, Any]:
    """Return the options of a net's loader that ask for another order than ours.

    Parameters
    ----------
    net : NeuralNet
        The net.
    name : {"iterator_train", "iterator_valid"}
        Skorch's name of the loader.

    Returns
    -------
    dict
        The options.
    """
    ours = {"shuffle": name == "iterator_train"}
    return {
        option: value
        for option, value in net.get_params_for(name).items()
        if option in ORDERING and value is not None and value is not ours.get(option, False)
    }


def batch_size_of(net: NeuralNet, name: str) -> Any:
    """Return the batch size of a net's loader; -1 or None mean all rows."""
    return net.get_params_for(name).get("batch_size", net.batch_size)


def cut_up(where: torch.Tensor, size: Any) -> Sequence[torch.Tensor]:
    """Return positions in batches of that size."""
    return where.split(len(where) if size in (-1, None) else size) if len(where) else ()


def batches_in_order(net: NeuralNet, data: InputRows, where: torch.Tensor) -> Iterable[Any]:
    """Return inputs, targets and positions, in batches as the net's predictions have them.

    Parameters
    ----------
    net : NeuralNet
        The net.
    data : InputRows
        What is read.
    where : tensor
        Positions.

    Returns
    -------
    iterable of tuple
        The batches.
    """
    batches = cut_up(where, batch_size_of(net, "iterator_valid"))
    # a loader draws a seed for its workers; its own generator keeps that off the global one
    return fetched(net, "iterator_valid", data, batches, torch.Generator())


def split_for_validation(net: NeuralNet, data: TrainingRows, rows: Rows) -> tuple[Rows, Any]:
    """Apply the net's ``train_split`` to some rows.

    Parameters
    ----------
    net : NeuralNet
        Whose split it is.
    data : TrainingRows
        Where rows are.
    rows : ndarray
        Row numbers of ``fit``.

    Returns
    -------
    training : ndarray
        Row numbers to train on.
    validation : Dataset or None
        The others, or a set of the user's own.
    """
    if not net.train_split:
        return rows, None
    where = data.positions(rows)
    part: Subset[Any] = Subset(data, where)  # type: ignore[arg-type]
    training, validation = net.train_split(part, data.y[where])
    if validation is None:
        return rows, None
    held_out, kept = _places_in(part, validation), _places_in(part, training)
    rest = rows if kept is None else rows[np.sort(kept)]
    if held_out is None:
        return rest, encoded(validation, data)
    return rest, Subset(data, where[held_out])  # type: ignore[arg-type]


def _places_in(part: Dataset[Any], chosen: Any) -> NDArray[np.int64] | None:
    """Return which rows of a Dataset were chosen; None if these are others."""
    if chosen is part:
        return np.arange(len(part))
    places = _places_in(part, chosen.dataset) if isinstance(chosen, Subset) else None
    return None if places is None else places[np.asarray(chosen.indices)]


# fetching ----------------------------------------------------------------------------------------


def fetched(
    net: NeuralNet,
    name: str,
    data: InputRows,
    batches: Sequence[torch.Tensor],
    generator: torch.Generator | None = None,
) -> Iterable[Any]:
    """Return whole batches, through the net's own kind of loader if it has any work to do.

    Parameters
    ----------
    net : NeuralNet
        The net.
    name : {"iterator_train", "iterator_valid"}
        Skorch's name of the loader.
    data : InputRows
        What is read.
    batches : sequence of tensors
        Positions.
    generator : torch.Generator or None, default=None
        Of which a seed is drawn, unless the loader has one of its own; None means torch's.

    Returns
    -------
    iterable of tuple
        Inputs, targets and positions of each batch.
    """
    seed = _draw_seed(net.get_params_for(name).get("generator", generator))
    is_plain = _does_nothing(net, name)
    if is_plain and data.collate is not None:  # it is of the net's other loader
        data = copy.copy(data)
        data.collate = None

    def load(own: Sequence[torch.Tensor], seed: int | None = None) -> Iterator[Any]:
        if is_plain:
            return data.batches(own)
        return _loaded(net, name, data, own, _draw_seed(None) if seed is None else seed)

    run = run_of(net)
    return load(batches, seed) if run is None else run.batches(net, data, batches, load)


def _draw_seed(generator: torch.Generator | None) -> int:
    """Draw what a loader draws for its workers."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def _loader_options(net: NeuralNet, name: str) -> dict[str, Any]:
    """Return the options of a net's loader that do not say which rows come when."""
    options, others = net.get_params_for(name), ("batch_size", "generator", *ORDERING)
    return {key: options[key] for key in options if key not in others}


def _does_nothing(net: NeuralNet, name: str) -> bool:
    """Tell whether a net's loader would only fetch what lies in this process's memory."""
    return getattr(net, name) is DataLoader and not any(_loader_options(net, name).values())


def _loaded(
    net: NeuralNet, name: str, data: InputRows, batches: Sequence[torch.Tensor], seed: int
) -> Iterator[Any]:
    """Yield batches as the net's own loader hands them out, with the positions of their rows."""
    kept = {} if data.loaders is None else data.loaders
    if name not in kept:
        rows, order = copy.copy(data), list(batches)
        rows.loaders = None
        loader = getattr(net, name)(rows, batch_sampler=order, **_loader_options(net, name))
        # whole batches are fetched, and made the loader's way, by the rows themselves
        rows.collate, loader.collate_fn = collate_of(loader), _inputs_and_labels
        kept[name] = order, loader
    order, loader = kept[name]
    order[:] = batches
    loader.generator = torch.Generator().manual_seed(seed)
    for (X, y), where in zip(loader, batches, strict=True):
        yield X, y, where


def _inputs_and_labels(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    return batch[:2]


def collate_of(loader: Any) -> Callable[[list[Any]], Any] | None:
    """Return how a loader makes a batch of rows; None if as torch does."""
    collate = getattr(loader, "collate_fn", default_collate)
    return None if collate is default_collate else collate


# near the net ------------------------------------------------------------------------------------


@contextlib.contextmanager
def inputs_near(net: NeuralNet, data: TrainingRows) -> Iterator[None]:
    """Read inputs from the net's GPU, if they fit there, and keep the net's own loaders.

    Loaders that are kept from one epoch to the next need not start their processes anew
    (``persistent_workers``); those with processes go without the copy, since they cannot share a
    GPU's memory.

    Parameters
    ----------
    net : NeuralNet
        The net that trains.
    data : InputRows
        What is read. Datasets and memory maps are left where they are.

    Yields
    ------
    None
        Afterwards copy and loaders are dropped.
    """
    data.loaders, X = {}, data.X
    is_plain = all(_does_nothing(net, name) for name in ("iterator_train", "iterator_valid"))
    # a Dataset may hand out what is on the GPU already, and a tensor may lie there
    is_far = is_gpu(net.device) and not (data.is_lazy or getattr(X, "is_cuda", False))
    if is_plain and is_far and X.nbytes <= SHARE_FOR_INPUTS * _free_memory(net.device):
        X = X if isinstance(X, torch.Tensor) else as_tensor(np.array(X))
        data.on_device = X.to(net.device)
    try:
        yield
    finally:
        data.loaders = data.on_device = None


def _free_memory(device: Any) -> int:
    return torch.cuda.mem_get_info(device)[0]
