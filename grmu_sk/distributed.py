r"""Training on several devices at once, with skorch's ``AccelerateMixin``.

All processes draw the same order of rows. Of each batch, which is the *global* one of
``batch_size`` rows, a process reads its share and sends it through the net; the outputs, and the
features where a method reads them, are then gathered. From there on every process has the whole
batch before it and computes the same loss: a mean over the batch, the logarithm of a mean, a draw
of other groups are what they are in one process, and no method has to know how many there are.

With :math:`o_r` the outputs of share r and :math:`\theta` the weights, the gradient is

.. math:: \nabla L = \sum_r \Big(\frac{\partial o_r}{\partial\theta}\Big)^\top
          \frac{\partial L}{\partial o_r} + \frac{\partial L}{\partial\theta}

the last term being what depends on weights directly, such as an L1 penalty. Each process has that
term, and its own of the sum. The gather's gradient is multiplied by the number of processes and
all gradients are then averaged, which gives both their due.

Accelerate's own wrapper for this, ``DistributedDataParallel``, is not used: it averages the losses
of shares, requires that each loss depends on all weights by way of the outputs (the mutual
information of features does not reach the last layer), and does not know of losses that depend on
rows of other processes.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._processes import DistributedError, Processes
from .utils._random import derive_seed

__all__ = [
    "DistributedError",
    "Share",
    "all_processes",
    "class_of",
    "current_share",
    "device_of",
    "from_main_process",
    "initialized",
    "is_main_process",
    "n_processes",
    "parallel_run",
    "run_of",
    "take_over_statistics",
    "take_over_weights",
    "training_together",
]

SUPPORTED = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_HPU", "MULTI_NPU", "MULTI_MLU")


@dataclass(frozen=True)
class Share:
    """The rows of a global batch that one process sends through the net.

    Shares follow each other in the order of ranks and differ by one row at most. A batch with
    fewer rows than there are processes is not split: all see all of it.

    Attributes
    ----------
    n_rows : int
        Rows of the global batch.
    processes : Processes
        Those that take part.
    """

    n_rows: int
    processes: Processes

    @property
    def is_split(self) -> bool:
        """Whether the batch is split at all."""
        return self.processes.count <= self.n_rows

    @property
    def n_own(self) -> int:
        """Rows of this process."""
        return self._size(self.processes.rank) if self.is_split else self.n_rows

    @property
    def start(self) -> int:
        """Where they begin in the batch."""
        if not self.is_split:
            return 0
        size, rest = divmod(self.n_rows, self.processes.count)
        return self.processes.rank * size + min(self.processes.rank, rest)

    def _size(self, rank: int) -> int:
        size, rest = divmod(self.n_rows, self.processes.count)
        return size + (rank < rest)

    def take(self, batch: torch.Tensor) -> torch.Tensor:
        """Return this process's part of something with an entry for each row of the batch."""
        return batch[self.start : self.start + self.n_own]

    def join(self, part: Any) -> Any:
        """Return the whole of which every process has its part, with the gradient.

        Parameters
        ----------
        part : tensor, or tuple, list or dict of tensors
            Their first axis are the rows of this process.

        Returns
        -------
        tensor, tuple, list or dict
            The same with the rows of the global batch.

        Raises
        ------
        TypeError
            If a tensor has another first axis, so that parts cannot be joined.
        """
        if not self.is_split:
            return part
        if isinstance(part, dict):  # of the same kind: transformers return dicts with attributes
            joined = {name: self.join(value) for name, value in part.items()}
            return joined if type(part) is dict else type(part)(**joined)
        if isinstance(part, tuple | list):
            values = [self.join(value) for value in part]
            return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)
        if not isinstance(part, torch.Tensor):
            return part
        if part.dim() == 0 or len(part) != self.n_own:
            raise TypeError(
                f"The module returned a tensor of shape {tuple(part.shape)} for {self.n_own} rows. "
                "On several processes the first axis of all it returns must be the rows."
            )
        joined_part: torch.Tensor = _Join.apply(part, self)
        return joined_part

    def gathered(self, part: torch.Tensor) -> torch.Tensor:
        """Return the whole, without gradient."""
        sizes = [self._size(rank) for rank in range(self.processes.count)]
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part
        parts = self.processes.gather(padded)
        return torch.cat([whole[:size] for whole, size in zip(parts, sizes, strict=True)])


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, share: Share) -> torch.Tensor:
        ctx.share = share
        return share.gathered(part.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        return ctx.share.take(gradient) * ctx.share.processes.count, None


class _Total(torch.autograd.Function):
    """A sum over processes, each of which goes on to compute its part of a loss from it."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, processes: Processes) -> torch.Tensor:
        ctx.processes = processes
        total = part.detach().clone(memory_format=torch.contiguous_format)
        processes.add_up(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        ctx.processes.add_up(total)
        return total, None


# a run ------------------------------------------------------------------------------------------


class ParallelRun:
    """One ``fit`` or ``unlearn`` in which several processes take part.

    Parameters
    ----------
    processes : Processes
        Those that take part.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.share: Share | None = None  # of the forward pass that is under way
        self._handed_out: dict[int, tuple[Any, Share]] = {}
        self._changed: list[_ChangedNet] = []
        self._own_random: tuple[int, Any] | None = None
        self._room: dict[Any, torch.Tensor] = {}

    def share_of(self, n_rows: int) -> Share:
        """Return this process's share of a batch."""
        return Share(n_rows, self.processes)

    @contextmanager
    def handing_out(self, X: Any, n_rows: int) -> Iterator[None]:
        """Know these inputs, by identity, as this process's share of a batch of so many rows."""
        self._handed_out[id(X)] = X, self.share_of(n_rows)
        try:
            yield
        finally:
            del self._handed_out[id(X)]

    def adopt(self, net: NeuralNet) -> None:
        """Let an initialised net take part, for the length of the run."""
        self._changed.append(_ChangedNet(net))

    def release(self) -> None:
        """Leave all nets as they would be without the run."""
        for changed in self._changed:
            changed.restore()
        self._changed.clear()

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Draw from generators of this process inside the block.

        Dropout and random transforms are for the rows of one process; what all draw together, the
        order of rows above all, must not move with them.
        """
        common, seed = _random_states(self.processes.device), torch.initial_seed()
        if self._own_random is None or self._own_random[0] != seed:
            _seed_all(derive_seed(seed % 2**64, 1 + self.processes.rank))
        else:
            _set_random_states(self._own_random[1], self.processes.device)
        try:
            yield
        finally:
            self._own_random = seed, _random_states(self.processes.device)
            _set_random_states(common, self.processes.device)

    @contextmanager
    def passing(self, net: NeuralNet, x: Any) -> Iterator[Share | None]:
        """Surround a forward pass, and give the share of a batch that ``x`` is, if it is one.

        Other inputs are the same in all processes, and so is the output.
        """
        _, share = self._handed_out.get(id(x), (None, None))
        outer, self.share = self.share, share
        try:
            with self._randomness_of(net, share):
                yield share
        finally:
            self.share = outer

    def _randomness_of(self, net: NeuralNet, share: Share | None) -> AbstractContextManager[None]:
        module = net.module_
        if share is None or not share.is_split or not module.training:
            return nullcontext()
        # weights that are drawn in the first pass must be the same in all processes
        if any(nn.parameter.is_lazy(parameter) for parameter in module.parameters()):
            return nullcontext()
        return self.own_randomness()

    def average_gradients(self, net: NeuralNet) -> None:
        """Replace gradients by their means over the processes.

        A weight that no process has a gradient of keeps none, so that the optimizer leaves it
        alone.
        """
        parameters = dict.fromkeys(
            parameter for _, parameter in net.get_all_learnable_params() if parameter.requires_grad
        )
        for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
            self._average([parameter for parameter in parameters if parameter.dtype == dtype])

    def _average(self, parameters: list[nn.Parameter]) -> None:
        if any(p.grad is not None and p.grad.is_sparse for p in parameters):
            raise TypeError(
                "Gradients of several processes are averaged, and a sparse one cannot be. Give "
                "the module's Embedding layers sparse=False."
            )
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        is_there = parts[0].new_tensor([p.grad is not None for p in parameters])
        flat = self._flat(sum(map(torch.Tensor.numel, parts)) + len(parts), is_there)
        torch.cat([part.detach().reshape(-1) for part in (*parts, is_there)], out=flat)
        self.processes.add_up(flat)
        flat /= self.processes.count
        *means, share_there = flat.split([*map(torch.Tensor.numel, parts), len(parts)])
        for parameter, part, mean, is_anywhere in zip(
            parameters, parts, means, share_there.tolist(), strict=True
        ):
            if is_anywhere:
                parameter.grad = part.copy_(mean.view_as(part))

    def _flat(self, size: int, like: torch.Tensor) -> torch.Tensor:
        """Return room for all gradients; of tens of megabytes, getting it anew takes long."""
        key = size, like.dtype, like.device
        if key not in self._room:
            self._room[key] = like.new_empty(size)
        return self._room[key]


class _TakingPart:
    """What a net with ``AccelerateMixin`` does otherwise during a run.

    The mixin exchanges data in methods of its own, which is right in skorch's loop and in the way
    of this one, in which each process sees the rows it is to see.
    """

    def infer(self: Any, x: Any, **fit_params: Any) -> Any:
        run = parallel_run()
        if run is None:
            return super().infer(x, **fit_params)  # type: ignore[misc]
        with run.passing(self, x) as share:
            output = super().infer(x, **fit_params)  # type: ignore[misc]
        return output if share is None else share.join(output)

    def train_step_single(self: Any, batch: Any, **fit_params: Any) -> Any:
        result = super().train_step_single(batch, **fit_params)  # type: ignore[misc]
        run = parallel_run()
        if run is not None:
            run.average_gradients(self)
        return result

    def evaluation_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _past_mixin(self, "evaluation_step")(*args, **kwargs)

    def get_iterator(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _past_mixin(self, "get_iterator")(*args, **kwargs)

    def save_params(self: Any, *args: Any, **kwargs: Any) -> None:
        _past_mixin(self, "save_params")(*args, **kwargs)

    def load_params(self: Any, *args: Any, **kwargs: Any) -> None:
        _past_mixin(self, "load_params")(*args, **kwargs)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        return (_new, (class_of(self),), *reduced[2:])  # a checkpoint's net is of its own class


def _new(own: Any) -> Any:
    return own.__new__(own)


def _past_mixin(net: Any, method: str) -> Any:
    """Return a method of a net that takes part, without what ``AccelerateMixin`` adds to it."""
    own = class_of(net)
    is_of_mixin = getattr(own, method) is getattr(_mixin(net), method)
    return getattr(super(_mixin(net) if is_of_mixin else _TakingPart, net), method)


@cache
def _taking_part(own: type) -> type:
    return type(own.__name__, (_TakingPart, own), {"__module__": own.__module__})


def class_of(net: Any) -> type:
    """Return the class that a net has outside of a run."""
    return type(net).__mro__[2] if isinstance(net, _TakingPart) else type(net)


class _ChangedNet:
    """A net of a run, and the way back.

    A class takes the place of its own, since skorch counts what is put on the net itself among
    its parameters.

    Parameters
    ----------
    net : NeuralNet
        An initialised net with ``AccelerateMixin``.
    """

    def __init__(self, net: NeuralNet) -> None:
        self.net = weakref.ref(net)  # a teacher with the original weights has to go when it can
        self.device = net.device
        net.device = device_of(net)
        net.__class__ = _taking_part(class_of(net))
        for layer in _layers(net, nn.SyncBatchNorm):
            if type(layer) is nn.SyncBatchNorm:
                layer.__class__ = _GlobalBatchNorm

    def restore(self) -> None:
        """Undo it."""
        net = self.net()
        if net is None:
            return
        net.device = self.device
        net.__class__ = class_of(net)
        for layer in _layers(net, _GlobalBatchNorm):
            layer.__class__ = nn.SyncBatchNorm


_run: ContextVar[ParallelRun | None] = ContextVar("grmu_sk_parallel_run", default=None)


@contextmanager
def all_processes(net: Any) -> Iterator[None]:
    """Let the processes of a net's accelerator work together inside the block.

    If one fails, all raise; the others a :class:`DistributedError` that says what happened where.
    A net without an accelerator works alone, and so does a block inside another.

    Parameters
    ----------
    net : NeuralNet or object
        What is going to be trained.
    """
    accelerator = accelerator_of(net)
    if accelerator is None or _run.get() is not None:
        yield
        return
    _check_accelerator(accelerator)
    run = ParallelRun(Processes(accelerator))
    token = _run.set(run)
    try:
        yield
        run.processes.meet("end the run")
    except BaseException as error:
        run.processes.report(error)
        raise
    finally:
        _run.reset(token)
        run.release()


def parallel_run() -> ParallelRun | None:
    """Return the run in which several processes take part here, if there is one."""
    run = _run.get()
    return None if run is None or run.processes.count == 1 else run


def run_of(net: Any) -> ParallelRun | None:
    """Return the run that a net takes part in; one without an accelerator works alone."""
    return None if accelerator_of(net) is None else parallel_run()


def current_share() -> Share | None:
    """Return what share of a batch is in its forward pass, if the batch is split."""
    run = parallel_run()
    return None if run is None or run.share is None or not run.share.is_split else run.share


def from_main_process(net: Any, value: Any) -> Any:
    """Return the main process's value; of a net that works alone, the value itself.

    Parameters
    ----------
    net : NeuralNet or object
        What is trained.
    value : object
        Picklable.

    Returns
    -------
    object
        The same in all processes.
    """
    run = run_of(net)
    return value if run is None else run.processes.from_main(value)


def meet(net: Any, doing: str) -> None:
    """Wait for the other processes of a run, and raise if one failed or does something else."""
    run = run_of(net)
    if run is not None:
        run.processes.meet(doing)


def is_main_process(net: Any) -> bool:
    """Tell whether this process is the one that prints and writes files."""
    accelerator = accelerator_of(net)
    return accelerator is None or bool(accelerator.is_main_process)


def n_processes(net: Any) -> int:
    """Return how many processes train a net together."""
    accelerator = accelerator_of(net)
    return 1 if accelerator is None else int(accelerator.num_processes)


def device_of(net: Any) -> Any:
    """Return the device on which a net's weights are to be, as skorch names it."""
    accelerator = accelerator_of(net)
    if net.device is not None or accelerator is None or not accelerator.device_placement:
        return net.device
    device = accelerator.device
    return "cpu" if device.type == "cpu" else device  # torch.load does not know a "cpu:0"


def take_over_weights(*holders: NeuralNet | nn.Module) -> None:
    """Put the main process's weights and buffers in place of those that others have in a run."""
    _take_over(holders, lambda part: (*part.parameters(), *part.buffers()))


def take_over_statistics(net: NeuralNet) -> None:
    """Put the main process's buffers in place of those that others have in a run.

    Weights are the same anyway; statistics of normalisation layers are those of each one's rows.
    """
    _take_over([net], lambda part: tuple(part.buffers()))


def _take_over(holders: Iterable[Any], tensors: Callable[[nn.Module], tuple[Any, ...]]) -> None:
    run = parallel_run()
    if run is None:
        return
    together = (held for held in holders if isinstance(held, nn.Module) or accelerator_of(held))
    parts = (part for holder in together for part in _parts(holder))
    found = (tensor for part in parts for tensor in tensors(part))
    run.processes.take_over([tensor for tensor in found if not nn.parameter.is_lazy(tensor)])


# nets -------------------------------------------------------------------------------------------


def accelerator_of(net: Any) -> Any:
    """Return the accelerator of a net with skorch's ``AccelerateMixin``, or None."""
    return None if _mixin(net) is None else net.accelerator


def _mixin(net: Any) -> type | None:
    for base in type(net).__mro__:
        if base.__module__ == "skorch.hf" and base.__name__ == "AccelerateMixin":
            return base
    return None


def is_of_mixin(net: Any, method: str) -> bool:
    """Tell whether a net has ``AccelerateMixin``'s version of a method."""
    mixin = _mixin(net)
    return mixin is not None and getattr(class_of(net), method) is getattr(mixin, method)


def initialized(net: NeuralNet) -> NeuralNet:
    """Initialise a net, and one with an accelerator so that it can take part in a run.

    ``AccelerateMixin`` would wrap the module, and the accelerator would hold on to it: to weights
    that know of forgotten rows, for as long as the process lives.

    Parameters
    ----------
    net : NeuralNet
        Not initialised.

    Returns
    -------
    NeuralNet
        The same.
    """
    accelerator = accelerator_of(net)
    if accelerator is None:
        return net.initialize()
    net._wrapped_with_accelerator = True  # with which the mixin leaves it alone
    try:
        net.initialize()
    finally:
        net._wrapped_with_accelerator = False
    if accelerator.device_placement:
        for module in _parts(net):
            module.to(accelerator.device)
    run = _run.get()
    if run is not None:
        run.adopt(net)
    return net


def _parts(net: NeuralNet | nn.Module) -> list[nn.Module]:
    if isinstance(net, nn.Module):
        return [net]
    parts = (getattr(net, name + "_") for name in (*net._modules, *net._criteria))
    return [part for part in parts if isinstance(part, nn.Module)]


@contextmanager
def training_together(net: NeuralNet, describe: Callable[[], str]) -> Iterator[None]:
    """Begin and end training with the same weights in all processes of a run.

    Parameters
    ----------
    net : NeuralNet
        What is trained.
    describe : callable
        Returns a text that says what it is trained on; it must be the same in all processes.
    """
    with _scaling_optimizers(net):
        run = run_of(net)
        if run is None:
            yield
            return
        run.processes.meet(describe())
        take_over_weights(net)
        yield
        take_over_weights(net)


@contextmanager
def _scaling_optimizers(net: NeuralNet) -> Iterator[None]:
    """Undo, before a step, the scaling of the loss that half precision needs."""
    accelerator = accelerator_of(net)
    if accelerator is None or accelerator.scaler is None:
        yield
        return
    own = {name + "_": getattr(net, name + "_") for name in net._optimizers}
    held = list(accelerator._optimizers)
    vars(net).update({name: accelerator.prepare_optimizer(step) for name, step in own.items()})
    try:
        yield
    finally:
        vars(net).update(own)
        accelerator._optimizers[:] = held


def _check_accelerator(accelerator: Any) -> None:
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind not in SUPPORTED:
        raise ValueError(
            f"accelerate was started with distributed type {kind}, which splits or holds the "
            "weights in its own way. Only data-parallel training is supported: start it with "
            "--multi_gpu, or --cpu for several processes on CPUs, or with torchrun."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            "The accelerator accumulates gradients over "
            f"{accelerator.gradient_accumulation_steps} batches. Losses here are those of whole "
            "batches and cannot be put together from parts: use "
            "gradient_accumulation_steps=1, and more processes for larger batches."
        )


# normalisation over the global batch --------------------------------------------------------------


def _layers(net: NeuralNet, kind: type[nn.Module]) -> list[nn.Module]:
    layers = (layer for part in _parts(net) for layer in part.modules())
    return [layer for layer in layers if isinstance(layer, kind)]


class _GlobalBatchNorm(nn.SyncBatchNorm):
    """A ``SyncBatchNorm`` that knows which inputs are a share of a batch.

    Of others all processes have the same rows, and normalise by themselves; torch's own layer would
    count these several times. It also works on GPUs only.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = current_share()
        if share is None or not self.training:
            return _BatchNorm.forward(self, x)
        return super().forward(x) if x.device.type != "cpu" else _global_batch_norm(self, x, share)


def _global_batch_norm(layer: nn.SyncBatchNorm, x: torch.Tensor, share: Share) -> torch.Tensor:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    n_values = share.n_rows * (x.numel() // (x.shape[0] * x.shape[1]))
    mean = _Total.apply(x.sum(axes), share.processes) / n_values
    deviation = x - mean.view(shape)
    variance = _Total.apply(deviation.square().sum(axes), share.processes) / n_values
    _update_statistics(layer, mean.detach(), variance.detach() * n_values / (n_values - 1))
    normalised = deviation * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.weight is not None:
        normalised = normalised * layer.weight.view(shape)
    return normalised if layer.bias is None else normalised + layer.bias.view(shape)


def _update_statistics(layer: nn.SyncBatchNorm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    if layer.running_mean is None or layer.running_var is None:
        return
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    rate = layer.momentum
    if rate is None:
        rate = 1 / layer.num_batches_tracked.item()
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), rate)
    layer.running_var.lerp_(variance.to(layer.running_var.dtype), rate)


# randomness ---------------------------------------------------------------------------------------


def _random_states(device: torch.device) -> Any:
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), on_gpu  # noqa: NPY002


def _set_random_states(states: Any, device: torch.device) -> None:
    python, numpy, on_cpu, on_gpu = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(on_cpu)
    if on_gpu is not None:
        torch.cuda.set_rng_state(on_gpu, device)


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
