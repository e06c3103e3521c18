r"""Training on several processes at once, with ``torch.distributed``.

All processes draw the same order of rows. Of each batch, which is the *global* one of
``batch_size`` rows, a process sends its share through the net; the outputs, and the features where
a method reads them, are then gathered. From there on every process has the whole batch before it
and computes the same loss: a mean over the batch, the logarithm of a mean, a draw of other groups
are what they are in one process, and no method has to know how many there are.

With :math:`o_r` the outputs of share r and :math:`\theta` the weights, the gradient is

.. math:: \nabla L = \sum_r \Big(\frac{\partial o_r}{\partial\theta}\Big)^\top
          \frac{\partial L}{\partial o_r} + \frac{\partial L}{\partial\theta}

the last term being what depends on weights directly, such as an L1 penalty, or by way of rows that
every process has sent through the net. Each process has that term, and its own of the sum. The
gather's gradient is multiplied by the number of processes and all gradients are then averaged, so
that each term counts once.

Torch's own wrapper for this, ``DistributedDataParallel``, is not used: it averages the losses of
shares, and requires that each loss depends on all weights by way of the outputs (the mutual
information of features does not reach the last layer).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from skorch.utils import to_device
from torch import nn
from torch.utils.data import Dataset

from .net_copies import parts_of
from .randomness import derive_seed, isolated_rng
from .rows import InputRows, TrainingRows, evenly_spaced

__all__ = ["DistributedError", "ParallelMixin"]

# Enough rows to tell whether processes were given different inputs.
N_COMPARED = 64


class DistributedError(RuntimeError):
    """Raised by the other processes if one failed, and by all if they do different things.

    See Also
    --------
    grmu_sk.distributed.ParallelMixin : A net for several processes.

    Examples
    --------
    >>> from grmu_sk.distributed import DistributedError
    >>> issubclass(DistributedError, RuntimeError)
    True
    """


def process_count() -> int:
    """Return how many processes work together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@cache
def _control_group(world: Any) -> Any:
    """Return the group for roll calls, made once for each start of ``torch.distributed``.

    It has a connection of its own: in main memory, whatever the devices are, and never in the way
    of tensors that are under way.
    """
    return dist.new_group(backend="gloo")


def is_logger(callback: Callback) -> bool:
    """Tell whether a callback is one of skorch's that only tell others what happens."""
    return any(base.__module__ == "skorch.callbacks.logging" for base in type(callback).__mro__)


def _is_of_main_process(callback: Callback) -> bool:
    """Tell whether a callback prints, writes files, or decides when to stop."""
    of_main = getattr(callback, "main_process_only", False)
    return of_main or is_logger(callback) or isinstance(callback, Checkpoint | EarlyStopping)


# shares of a batch -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """The rows of a global batch that one process sends through the net.

    Shares follow each other in the order of ranks and differ by one row at most.

    Attributes
    ----------
    n_rows : int
        Rows of the global batch.
    run : ParallelRun
        The processes that take part.
    """

    n_rows: int
    run: ParallelRun

    def take(self, batch: torch.Tensor) -> torch.Tensor:
        """Return this process's part of something with an entry for each row of the batch."""
        return batch.tensor_split(self.run.count)[self.run.rank]

    def join(self, part: Any) -> Any:
        """Return the whole of which every process has its part, with the gradient.

        Parameters
        ----------
        part : tensor, or tuple or list of tensors and None
            Their first axis are the rows of this process.

        Returns
        -------
        tensor, tuple or list
            The same with the rows of the global batch.

        Raises
        ------
        TypeError
            If it is something else, or a tensor has another first axis.
        """
        if isinstance(part, tuple | list):
            return type(part)([self.join(one) for one in part])
        n_own = len(self.take(torch.empty(self.n_rows)))
        if part is not None and getattr(part, "shape", ())[:1] != (n_own,):
            raise TypeError(f"Several processes need outputs whose first axis is the {n_own} rows.")
        return None if part is None else _Join.apply(part, self)


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, share: Share) -> torch.Tensor:
        ctx.share = share
        sizes = list(map(len, torch.empty(share.n_rows).tensor_split(share.run.count)))
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part
        parts = share.run.gather(padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.share.take(gradients[0]) * ctx.share.run.count, None


# a run ------------------------------------------------------------------------------------------


class ParallelRun:
    """One ``fit`` or ``unlearn`` in which several processes take part.

    An exchange that one process never enters would keep the others waiting. So each begins with a
    roll call, in which a process that failed says so instead, and in which processes that are
    about to do different things find out.

    Parameters
    ----------
    device : device
        Where the net is.

    Attributes
    ----------
    rank : int
        Which one this is, from 0, which prints and writes files.
    count : int
        How many there are.
    passing : Share or None
        What the rows are that are sent through the net just now.
    """

    def __init__(self, device: Any) -> None:
        self.count, self.rank = process_count(), dist.get_rank()
        self.passing: Share | None = None
        self._control = _control_group(dist.group.WORLD)
        self._device = device
        self._handed_out: dict[int, tuple[Any, Share]] = {}
        self._n_draws = 0

    def meet(self, doing: str, failure: str = "", value: Any = None) -> list[Any]:
        """Wait for the others, and raise if one failed or is doing something else.

        Parameters
        ----------
        doing : str
            What comes next; the same text in all processes.
        failure : str, default=""
            Why this one cannot go on.
        value : object, default=None
            What can be pickled.

        Returns
        -------
        list
            The values of all processes.

        Raises
        ------
        DistributedError
            In all processes.
        """
        answers: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(answers, (failure, doing, value), group=self._control)
        except RuntimeError as error:
            raise DistributedError(
                f"Process {self.rank} of {self.count} has lost the others: one of them ended, or "
                "did not answer in time. Look for the first error in the output of all processes."
            ) from error
        failures, doings, values = zip(*answers, strict=True)
        if any(failures) or len(set(doings)) > 1:
            said = [failures[rank] or f"was to {doings[rank]}" for rank in range(self.count)]
            raise DistributedError(
                "A process failed, or they are not doing the same; nothing was changed. "
                + "; ".join(f"process {rank}: {what}" for rank, what in enumerate(said))
            )
        return list(values)

    def from_main(self, value: Any) -> Any:
        """Return the main process's value in all processes; it must be picklable."""
        return self.meet("take over a value", value=value)[0]

    def take_over(self, net: NeuralNet) -> None:
        """Put the main process's weights and buffers in place of a net's own.

        Running statistics of BatchNorm, for example, are those of each one's rows.
        """
        parts = parts_of(net).values()
        tensors = [x for part in parts for x in (*part.parameters(), *part.buffers())]
        known = [tensor.detach() for tensor in tensors if not nn.parameter.is_lazy(tensor)]
        self.meet(f"take over {list(map(_kind, known))}")
        for tensor in known:
            values = tensor.contiguous()
            dist.broadcast(values, src=0)
            tensor.copy_(values)

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors of all processes, which have the same shape, by rank."""
        self.meet(f"gather {_kind(tensor)}")
        gathered = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(gathered, tensor)
        return gathered

    def average_gradients(self, net: NeuralNet) -> None:
        """Replace gradients by their means over the processes."""
        found = [weight.grad for _, weight in net.get_all_learnable_params()]
        self.meet(f"add up {[None if gradient is None else _kind(gradient) for gradient in found]}")
        for gradient in filter(torch.is_tensor, found):
            dist.all_reduce(gradient)
            gradient /= self.count

    def share_of(self, X: Any) -> Share | None:
        """Return the share that these inputs are; None if all processes have the same."""
        return self._handed_out.get(id(X), (None, None))[1]

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Draw from generators of this process inside the block.

        Dropout and random transforms are for the rows of one process; what all draw together, the
        order of rows above all, must not move with them.
        """
        self._n_draws += 1
        seed = derive_seed(torch.initial_seed() % 2**64, 1 + self.rank, self._n_draws)
        with isolated_rng(seed, self._device):
            yield

    @contextmanager
    def training(self, net: NeuralNet, data: TrainingRows, phases: Sequence[Any]) -> Iterator[None]:
        """Begin and end training with the same rows and weights in all processes.

        The main process alone has the callbacks that must not act once in each.
        """
        self.meet(_description(data, phases))
        self.take_over(net)
        everyone = net.callbacks_
        if self.rank != 0:
            net.callbacks_ = [pair for pair in everyone if not _is_of_main_process(pair[1])]
        try:
            yield
        finally:
            net.callbacks_ = everyone
        # the main process may have gone back to its best epoch
        self.take_over(net)
        net.history = self.from_main(net.history)

    def batches(
        self,
        net: NeuralNet,
        data: InputRows,
        batches: Sequence[torch.Tensor],
        fetch: Callable[[Sequence[torch.Tensor]], Iterator[Any]],
    ) -> Iterator[Any]:
        """Yield this process's share of the inputs of each batch, with all its targets.

        A batch with fewer than two rows for each process is not split, since one row alone has no
        variance to be normalised by: all processes see all of it.
        """
        where = torch.cat([torch.empty(0, dtype=torch.int64), *batches])
        self.meet(f"visit {len(where)} rows in the order with the checksum {checksum(where)}")
        shares = [Share(len(one), self) if len(one) >= 2 * self.count else None for one in batches]
        parts = zip(batches, shares, strict=True)
        own = [batch if share is None else share.take(batch) for batch, share in parts]
        with self.own_randomness():
            fetched = fetch(own)
        for share, batch in zip(shares, batches, strict=True):
            with self.own_randomness():
                X, _, _ = next(fetched)
            X = to_device(X, net.device)
            if share is not None:
                self._handed_out[id(X)] = X, share  # known by identity
            try:
                yield X, data.labels(batch), batch
            finally:
                self._handed_out.pop(id(X), None)


def _kind(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _description(data: TrainingRows, phases: Sequence[Any]) -> str:
    parts = [torch.from_numpy(rows) for rows in (data.rows, *(phase.rows for phase in phases))]
    parts += [data.y, data.g, *([] if data.sample_weight is None else [data.sample_weight])]
    if not isinstance(data.X, Dataset):  # whose transforms may be random
        parts.append(data.fetch_rows(evenly_spaced(data.rows, N_COMPARED)))
    return f"train on {len(data)} rows with the checksums {list(map(checksum, parts))}"


def checksum(numbers: torch.Tensor) -> int:
    return zlib.crc32(numbers.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


_run: ContextVar[ParallelRun | None] = ContextVar("grmu_sk_parallel_run", default=None)


def refuse_several_processes(net: Any, what: str) -> None:
    """Raise ValueError if a net is trained by several processes, of which one alone may do this."""
    if isinstance(net, ParallelMixin) and process_count() > 1:
        raise ValueError(f"Several processes cannot carry out {what}: do that in one process.")


class ParallelMixin:
    """Lets several processes train a net of skorch's together, if put before its class.

    Each process runs the same program with the same data, on a device of its own. They find each
    other by ``torch.distributed.init_process_group``, which ``accelerate.Accelerator`` calls as
    well. In one process such a net is like any other.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> from grmu_sk.distributed import ParallelMixin
    >>> class ParallelNet(ParallelMixin, NeuralNetClassifier):
    ...     pass
    """

    @property
    def run_of_processes(self) -> ParallelRun | None:
        """The run that takes place; what the training loop asks for."""
        return _run.get()

    @contextmanager
    def working_together(self: Any) -> Iterator[None]:
        """Let the processes train the net together inside the block.

        If one fails, all raise. In one process nothing happens, and a block inside another belongs
        to that.

        Yields
        ------
        None
            Once all have arrived.

        Raises
        ------
        DistributedError
            If another process failed, or does something else; it says what happened where.
        """
        if process_count() == 1 or _run.get() is not None:
            yield
            return
        run = ParallelRun(self.device)
        token = _run.set(run)
        try:
            yield
            run.meet("end the run")
        except BaseException as error:
            if not isinstance(error, DistributedError):  # of which all know
                with suppress(DistributedError):  # which is how the others learn of it
                    run.meet("", failure=f"{type(error).__name__}: {error}")
            raise
        finally:
            _run.reset(token)

    def initialize(self: Any) -> Any:
        """Initialise the net, in all processes with the weights of the main one.

        Returns
        -------
        NeuralNet
            The same net.
        """
        super().initialize()  # type: ignore[misc]
        if (run := _run.get()) is not None:
            run.take_over(self)
        return self

    def infer(self: Any, x: Any, **fit_params: Any) -> Any:
        """Return what the module makes of inputs; of a share of a batch, all processes' together.

        Parameters
        ----------
        x : tensor, or dict or list of tensors
            The inputs.
        **fit_params : dict
            Passed on to the module.

        Returns
        -------
        tensor or tuple
            The outputs.
        """
        run = _run.get()
        share = None if run is None else run.share_of(x)
        if run is None or share is None:
            return super().infer(x, **fit_params)  # type: ignore[misc]
        run.passing = share
        try:
            with run.own_randomness():
                output = super().infer(x, **fit_params)  # type: ignore[misc]
        finally:
            run.passing = None
        return share.join(output)

    def train_step_single(self: Any, batch: Any, **fit_params: Any) -> Any:
        """Compute loss and gradients of a batch, and average the gradients of all processes.

        Parameters
        ----------
        batch : tuple
            Inputs and targets.
        **fit_params : dict
            Passed on to the module.

        Returns
        -------
        dict
            With the entries loss and y_pred.
        """
        result = super().train_step_single(batch, **fit_params)  # type: ignore[misc]
        if (run := _run.get()) is not None:
            run.average_gradients(self)
        return result
