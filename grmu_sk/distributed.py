r"""Training on several processes at once, with skorch's ``AccelerateMixin``.

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
gather's gradient is multiplied by the number of processes and all gradients are then averaged,
which gives both their due.

Accelerate's own wrapper for this, ``DistributedDataParallel``, is not used: it averages the losses
of shares, requires that each loss depends on all weights by way of the outputs (the mutual
information of features does not reach the last layer), and the accelerator would hold on to each
module it has wrapped: to weights that know of forgotten rows, for as long as the process lives.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from skorch.hf import AccelerateMixin
from skorch.utils import to_device
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from .randomness import derive_seed, isolated_rng
from .rows import InputRows, TrainingRows

__all__ = ["DistributedError", "parallel_class"]

# What an accelerator holds on to; looking first saves a collection of garbage, which takes long.
PREPARED = ("_models", "_optimizers", "_schedulers", "_dataloaders")
SUPPORTED = ("NO", "MULTI_CPU", "MULTI_GPU")
# Enough rows to tell whether processes were given different inputs.
N_COMPARED = 64


# what processes tell each other -----------------------------------------------------------------


class DistributedError(RuntimeError):
    """What processes raise that could have gone on when another one could not.

    See Also
    --------
    grmu_sk.distributed.parallel_class : A trained net for several processes.

    Examples
    --------
    >>> from grmu_sk.distributed import DistributedError
    >>> issubclass(DistributedError, RuntimeError)
    True
    """


def process_count(accelerator: Any) -> int:
    """Return how many processes work together.

    An accelerator that was unpickled elsewhere still says how many there were, but they are gone.
    """
    return int(accelerator.num_processes) if dist.is_initialized() else 1


_known_group: tuple[Any, Any] | None = None


def _control_group(accelerator: Any) -> Any:
    """Return the group for roll calls, made once for each start of ``torch.distributed``.

    It has a connection of its own: in main memory, whatever the devices are, and never in the way
    of tensors that are under way.
    """
    global _known_group
    world = dist.group.WORLD
    if _known_group is None or _known_group[0] is not world:
        timeout = getattr(accelerator.init_handler, "timeout", None)
        _known_group = world, dist.new_group(backend="gloo", timeout=timeout)
    return _known_group[1]


def _kind(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


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

    Shares follow each other in the order of ranks and differ by one row at most. A batch with
    fewer than two rows for each process is not split, since one row alone has no variance to be
    normalised by: all processes see all of it.

    Attributes
    ----------
    n_rows : int
        Rows of the global batch.
    run : ParallelRun
        The processes that take part.
    """

    n_rows: int
    run: ParallelRun

    @property
    def is_split(self) -> bool:
        """Whether the batch is split at all."""
        return self.n_rows >= 2 * self.run.count

    @property
    def sizes(self) -> list[int]:
        """Rows of each process."""
        count = self.run.count
        if not self.is_split:
            return [self.n_rows] * count
        size, rest = divmod(self.n_rows, count)
        return [size + (rank < rest) for rank in range(count)]

    def take(self, batch: torch.Tensor) -> torch.Tensor:
        """Return this process's part of something with an entry for each row of the batch."""
        if not self.is_split:
            return batch
        return batch.split(self.sizes)[self.run.rank]

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
        if not self.is_split or part is None:
            return part
        if isinstance(part, tuple | list):
            return type(part)([self.join(one) for one in part])
        n_own = self.sizes[self.run.rank]
        if not isinstance(part, torch.Tensor) or part.shape[:1] != (n_own,):
            raise TypeError(
                f"On several processes a module must return tensors whose first axis are the "
                f"{n_own} rows, got a {type(part).__name__}."
            )
        whole: torch.Tensor = _Join.apply(part, self)
        return whole

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """Return the whole, without gradient."""
        padded = part.new_zeros((max(self.sizes), *part.shape[1:]))
        padded[: len(part)] = part
        parts = self.run.gather(padded)
        return torch.cat([whole[:size] for whole, size in zip(parts, self.sizes, strict=True)])


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, share: Share) -> torch.Tensor:
        ctx.share = share
        return share.gather(part.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        return ctx.share.take(gradient) * ctx.share.run.count, None


# a run ------------------------------------------------------------------------------------------


class ParallelRun:
    """One ``fit`` or ``unlearn`` in which the processes of an ``Accelerator`` take part.

    An exchange that one process never enters would keep the others waiting. So each begins with a
    roll call, in which a process that failed says so instead, and in which processes that are
    about to do different things find out.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
        Says how many processes there are and which one this is.

    Attributes
    ----------
    rank : int
        Which one this is, from 0, which prints and writes files.
    count : int
        How many there are.
    """

    def __init__(self, accelerator: Any) -> None:
        self.count = process_count(accelerator)
        self.rank: int = accelerator.process_index
        self.device: torch.device = accelerator.device
        self._control = _control_group(accelerator)
        self._is_broken = False
        self.passing: Share | None = None  # in the forward pass that is under way
        self._handed_out: dict[int, tuple[Any, Share]] = {}
        self._n_draws = 0

    # exchanges -----------------------------------------------------------------------------------

    def meet(self, doing: str, failure: str = "") -> None:
        """Wait for the others, and raise if one failed or is doing something else.

        Parameters
        ----------
        doing : str
            The same text in all processes, or their ways have parted.
        failure : str, default=""
            Why this one cannot go on.

        Raises
        ------
        DistributedError
            In all processes.
        """
        answers: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(answers, (failure, doing), group=self._control)
        except RuntimeError as error:
            self._is_broken = True
            raise DistributedError(
                f"Process {self.rank} of {self.count} has lost the others: one of them ended, or "
                "did not answer in time. Look for the first error in the output of all processes."
            ) from error
        if failure or answers != [("", doing)] * self.count:
            self._is_broken = True
            said = [failure or f"was to {doing}" for failure, doing in answers]
            raise DistributedError(
                "A process failed, or they are not doing the same; nothing was changed. "
                + "; ".join(f"process {rank}: {what}" for rank, what in enumerate(said))
            )

    def report(self, error: BaseException) -> None:
        """Let the others know, at their next exchange, that this process cannot go on."""
        if not self._is_broken:
            with suppress(DistributedError):  # which is how the others learn of it
                self.meet("", failure=f"{type(error).__name__}: {error}")

    def from_main(self, value: Any) -> Any:
        """Return the main process's value in all processes; it must be picklable."""
        self.meet("take over a value")
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._control)
        return values[0]

    def take_over_weights(self, net: NeuralNet) -> None:
        """Put the main process's weights and buffers in place of a net's own."""
        parts = _parts(net)
        self._take_over(x for part in parts for x in (*part.parameters(), *part.buffers()))

    def take_over_buffers(self, net: NeuralNet) -> None:
        """Put the main process's buffers in place of a net's own.

        Weights are the same anyway; running statistics of BatchNorm are those of each one's rows.
        """
        self._take_over(x for part in _parts(net) for x in part.buffers())

    def _take_over(self, tensors: Iterable[torch.Tensor]) -> None:
        known = [tensor for tensor in tensors if not nn.parameter.is_lazy(tensor)]
        self.meet(f"take over {[_kind(tensor) for tensor in known]}")
        for tensor in known:
            values = tensor.detach().contiguous()
            dist.broadcast(values, src=0)
            tensor.detach().copy_(values)

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors of all processes, which have the same shape, by rank."""
        self.meet(f"gather {_kind(tensor)}")
        gathered = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(gathered, tensor)
        return gathered

    def average_gradients(self, net: NeuralNet) -> None:
        """Replace gradients by their means over the processes."""
        weights = [weight for _, weight in net.get_all_learnable_params()]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
            same = [gradient for gradient in gradients if gradient.dtype == dtype]
            flat = torch.cat([gradient.reshape(-1) for gradient in same])
            self.meet(f"add up {_kind(flat)}")
            dist.all_reduce(flat)
            sums = flat.split([gradient.numel() for gradient in same])
            for gradient, total in zip(same, sums, strict=True):
                gradient.copy_(total.view_as(gradient) / self.count)

    # a batch -------------------------------------------------------------------------------------

    def share_of(self, X: Any) -> Share | None:
        """Return the share that these inputs are; None if all processes have the same."""
        _, share = self._handed_out.get(id(X), (None, None))
        return share if share is not None and share.is_split else None

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Draw from generators of this process inside the block.

        Dropout and random transforms are for the rows of one process; what all draw together, the
        order of rows above all, must not move with them.
        """
        self._n_draws += 1
        path = 1 + self.rank, self._n_draws
        seed = derive_seed(torch.initial_seed() % 2**64, *path)
        with isolated_rng(seed, self.device):
            yield

    @contextmanager
    def passed(self, net: NeuralNet, X: Any) -> Iterator[Share | None]:
        """Surround a forward pass, and give the share of a batch that its inputs are."""
        share, module = self.share_of(X), net.module_
        if share is not None and self.device.type == "cpu":
            _refuse_batch_norm(module)
        # weights that are drawn in the first pass must be the same in all processes
        is_lazy = any(nn.parameter.is_lazy(parameter) for parameter in module.parameters())
        is_own = share is not None and module.training and not is_lazy
        outer, self.passing = self.passing, share
        try:
            with self.own_randomness() if is_own else nullcontext():
                yield share
        finally:
            self.passing = outer

    # training ------------------------------------------------------------------------------------

    @contextmanager
    def training(self, net: NeuralNet, data: TrainingRows, phases: Sequence[Any]) -> Iterator[None]:
        """Begin and end training with the same rows and weights in all processes.

        The main process alone has the callbacks that must not act once in each.
        """
        self.meet(_description(data, phases))
        self.take_over_weights(net)
        everyone = net.callbacks_
        if self.rank != 0:
            net.callbacks_ = [pair for pair in everyone if not _is_of_main_process(pair[1])]
        try:
            yield
        finally:
            net.callbacks_ = everyone
        # the main process may have gone back to its best epoch
        self.take_over_weights(net)
        net.history = self.from_main(net.history)

    def batches(
        self,
        net: NeuralNet,
        data: InputRows,
        batches: Sequence[torch.Tensor],
        fetch: Callable[[Sequence[torch.Tensor]], Iterator[Any]],
    ) -> Iterator[Any]:
        """Yield this process's share of the inputs of each batch, with all its targets.

        What is drawn in common is what one process alone would draw, in the same order.
        """
        where = torch.cat([torch.empty(0, dtype=torch.int64), *batches])
        self.meet(f"visit {len(where)} rows in the order with the checksum {checksum(where)}")
        shares = [Share(len(batch), self) for batch in batches]
        draws = isinstance(data.X, Dataset)  # its transforms may
        own = [share.take(batch) for share, batch in zip(shares, batches, strict=True)]
        with self.own_randomness():
            fetched = fetch(own)
        for share, batch in zip(shares, batches, strict=True):
            with self.own_randomness() if draws else nullcontext():
                X, _, _ = next(fetched)
            X = to_device(X, net.device)
            self._handed_out[id(X)] = X, share  # known by identity
            try:
                yield X, data.labels(batch), batch
            finally:
                del self._handed_out[id(X)]


def _refuse_batch_norm(module: nn.Module) -> None:
    """Raise ValueError if a net normalises what several CPUs have of a batch."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
            raise ValueError(
                "BatchNorm cannot normalise a batch that several CPUs share: use one process, GPUs "
                "with torch.nn.SyncBatchNorm, or GroupNorm."
            )


_run: ContextVar[ParallelRun | None] = ContextVar("grmu_sk_parallel_run", default=None)


@contextmanager
def all_processes(net: Any) -> Iterator[None]:
    """Let the processes of a net's accelerator work together inside the block.

    If one fails, all raise; the others a :class:`DistributedError` that says what happened where.
    A net without an accelerator works alone, and a block inside another belongs to that.

    Parameters
    ----------
    net : NeuralNet or object
        What is going to be trained.

    Raises
    ------
    ValueError
        If the accelerator was set up for something that cannot be done here.
    DistributedError
        If another process failed, or does something else.
    """
    if not isinstance(net, AccelerateMixin) or _run.get() is not None:
        yield
        return
    _check_accelerator(net.accelerator)
    if process_count(net.accelerator) == 1:
        yield
        return
    run = ParallelRun(net.accelerator)
    token = _run.set(run)
    try:
        yield
        run.meet("end the run")
    except BaseException as error:
        run.report(error)
        raise
    finally:
        _run.reset(token)


def _check_accelerator(accelerator: Any) -> None:
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind not in SUPPORTED:
        raise ValueError(f"Only data-parallel training is supported, not distributed type {kind}.")
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError("Losses are those of whole batches: use gradient_accumulation_steps=1.")
    if accelerator.scaler is not None:
        raise ValueError(
            f"mixed_precision={accelerator.mixed_precision!r} needs losses to be scaled, which is "
            "not supported. Use mixed_precision='bf16', or none."
        )


def refuse_several_processes(net: Any, what: str) -> None:
    """Raise ValueError if a net is trained by several processes, of which one alone may do this."""
    if isinstance(net, AccelerateMixin) and process_count(net.accelerator) > 1:
        raise ValueError(
            f"Several processes cannot carry out {what}. Do that in a program that was started as "
            "one process, or call unlearn(forget) in all of them."
        )


def forget_prepared(net: NeuralNet) -> None:
    """Let a net's accelerator drop the modules and optimizers that a user had it prepare."""
    if isinstance(net, AccelerateMixin) and any(vars(net.accelerator)[name] for name in PREPARED):
        net.accelerator.free_memory()


# training ----------------------------------------------------------------------------------------


def _description(data: TrainingRows, phases: Sequence[Any]) -> str:
    parts = {
        "row numbers": torch.from_numpy(data.rows),
        "labels": data.y,
        "groups": data.g,
        "weights": data.sample_weight,
        **{f"rows of '{phase.name}'": torch.from_numpy(phase.rows) for phase in phases},
    }
    if not isinstance(data.X, Dataset):  # whose transforms may be random
        where = torch.linspace(0, len(data) - 1, N_COMPARED).long()
        parts["inputs"], _, _ = data.__getitems__(where)  # type: ignore[arg-type]
    codes = {name: checksum(part) for name, part in parts.items() if part is not None}
    return f"train on {len(data)} rows with the checksums {codes}"


def checksum(numbers: torch.Tensor) -> int:
    return zlib.crc32(numbers.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


# nets -------------------------------------------------------------------------------------------


def device_of(net: Any) -> Any:
    """Return the device on which a net's weights are to be, as skorch names it."""
    is_placed = isinstance(net, AccelerateMixin) and net.accelerator.device_placement
    if net.device is not None or not is_placed:
        return net.device
    device = net.accelerator.device
    return "cpu" if device.type == "cpu" else device  # accelerate's "cpu:0" is not for torch.load


def parallel_class(own: type) -> type:
    """Return a class of nets that can be trained by several processes here.

    Unlearners do this by themselves; it is needed for a net that is trained already, to initialise
    it and load its weights. ``AccelerateMixin`` wraps modules, and exchanges data in methods of its
    own. That is right in skorch's loop and in the way of this package's, in which each process
    sees the rows it is to see.

    Parameters
    ----------
    own : type
        A class of nets.

    Returns
    -------
    type
        A subclass with the same name; without ``AccelerateMixin``, the class itself.

    Examples
    --------
    >>> from accelerate import Accelerator
    >>> from skorch import NeuralNetClassifier
    >>> from skorch.hf import AccelerateMixin
    >>> from grmu_sk.distributed import parallel_class
    >>> from grmu_sk.nets import MLP
    >>> class AcceleratedNet(AccelerateMixin, NeuralNetClassifier):
    ...     pass
    >>> accelerator = Accelerator(cpu=True)
    >>> net = parallel_class(AcceleratedNet)(MLP, module__n_features=4, accelerator=accelerator)
    >>> net.initialize().device
    'cpu'
    """
    if not issubclass(own, AccelerateMixin) or issubclass(own, _TakingPart):
        return own
    anything: Any = own  # a type checker does not know that classes can be keys of a cache
    kind: type = _parallel_class(anything)
    return kind


@cache
def _parallel_class(own: type) -> type:
    names = {"__module__": own.__module__, "__qualname__": own.__qualname__}
    # the order is: _TakingPart, the user's classes, _InPlaceOfMixin, AccelerateMixin, skorch's
    return type(own.__name__, (_TakingPart, own, _InPlaceOfMixin), names)


class _TakingPart:
    """What a net does otherwise during a run, whatever its own class does."""

    @property
    def run_of_processes(self) -> ParallelRun | None:
        """The run that takes place; what the training loop asks for."""
        return _run.get()

    @property
    def placed_on(self: Any) -> Any:
        """The device its weights are on, or will be."""
        return device_of(self)

    def infer(self: Any, x: Any, **fit_params: Any) -> Any:
        run = _run.get()
        if run is None:
            return super().infer(x, **fit_params)  # type: ignore[misc]
        with run.passed(self, x) as share:
            output = super().infer(x, **fit_params)  # type: ignore[misc]
        return output if share is None else share.join(output)

    def train_step_single(self: Any, batch: Any, **fit_params: Any) -> Any:
        result = super().train_step_single(batch, **fit_params)  # type: ignore[misc]
        run = _run.get()
        if run is not None:
            run.average_gradients(self)
        return result

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        return (_new, (type(self).__bases__[1],), *reduced[2:])  # the class itself has no address


def _new(own: type) -> Any:
    kind: Any = parallel_class(own)
    return kind.__new__(kind)


class _InPlaceOfMixin(AccelerateMixin):
    """``AccelerateMixin`` without its wrappers and exchanges."""

    def initialize(self: Any) -> Any:
        super().initialize()
        self.device = device_of(self)
        if (run := _run.get()) is not None:
            run.take_over_weights(self)
        return self

    def _initialize_accelerator(self: Any) -> Any:
        for part in _parts(self):
            part.to(device_of(self))
        return self

    def evaluation_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        return super(AccelerateMixin, self).evaluation_step(*args, **kwargs)

    def get_iterator(self: Any, *args: Any, **kwargs: Any) -> Any:
        return super(AccelerateMixin, self).get_iterator(*args, **kwargs)

    def save_params(self: Any, *args: Any, **kwargs: Any) -> None:
        self._save_or_load("save_params", *args, **kwargs)

    def load_params(self: Any, *args: Any, **kwargs: Any) -> None:
        self._save_or_load("load_params", *args, **kwargs)

    def _save_or_load(self: Any, method: str, *args: Any, **kwargs: Any) -> None:
        # during a run the main process alone has the callbacks that do it, and waits for nobody
        after = AccelerateMixin if _run.get() is not None else _InPlaceOfMixin
        getattr(super(after, self), method)(*args, **kwargs)


def _parts(net: NeuralNet) -> list[nn.Module]:
    parts = (getattr(net, name + "_") for name in (*net._modules, *net._criteria))
    return [part for part in parts if isinstance(part, nn.Module)]
