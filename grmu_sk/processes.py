"""Processes that train one net together, and what they tell each other."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["DistributedError", "Processes", "process_count"]


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


class Processes:
    """The processes of one ``Accelerator``, and the exchanges between them.

    An exchange that one process never enters would keep the others waiting. So each begins with a
    roll call, in which a process that failed says so instead, and in which processes that are
    about to do different things find out. It is two integers over the network, in main memory, and
    does not wait for the device.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
        Says how many processes there are and which one this is.

    Attributes
    ----------
    rank : int
        Which one this is, from 0.
    count : int
        How many there are.
    """

    def __init__(self, accelerator: Any) -> None:
        self.count = process_count(accelerator)
        self.rank: int = accelerator.process_index if self.count > 1 else 0
        self._control = _control_group(accelerator) if self.count > 1 else None
        self._is_broken = False

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def meet(self, doing: str) -> None:
        """Wait for the others, and raise if one failed or is doing something else.

        Parameters
        ----------
        doing : str
            The same text in all processes, or their ways have parted.

        Raises
        ------
        DistributedError
            In all processes.
        """
        self._roll_call(doing)

    def report(self, error: BaseException) -> None:
        """Let the others know, at their next exchange, that this process cannot go on."""
        if self._is_broken:
            return
        with suppress(DistributedError):  # which is how the others learn of it
            self._roll_call("", failure=f"{type(error).__name__}: {error}")

    def from_main(self, value: Any) -> Any:
        """Return the main process's value; it must be picklable."""
        self._roll_call("take over a value")
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._control)
        return values[0]

    def take_over(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put the main process's values into these tensors, in place."""
        tensors = list(tensors)
        self._roll_call(f"take over {[_kind(tensor) for tensor in tensors]}")
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, src=0)
            if not self.is_main:
                tensor.detach().copy_(values)

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its sum over the processes, which is the same bits in all of them."""
        self._roll_call(f"add up {_kind(tensor)}")
        dist.all_reduce(tensor)

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors of all processes, which have the same shape, by rank."""
        self._roll_call(f"gather {_kind(tensor)}")
        gathered = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(gathered, tensor)
        return gathered

    def _roll_call(self, doing: str, failure: str = "") -> None:
        vote = torch.tensor([bool(failure), zlib.crc32(doing.encode())])
        votes = [torch.empty_like(vote) for _ in range(self.count)]
        try:
            dist.all_gather(votes, vote, group=self._control)
            if not failure and all(torch.equal(vote, other) for other in votes):
                return
            answers: list[Any] = [None] * self.count
            dist.all_gather_object(answers, (failure, doing), group=self._control)
        except RuntimeError as error:
            self._is_broken = True
            raise DistributedError(
                f"Process {self.rank} of {self.count} has lost the others: one of them ended, or "
                "did not answer in time. Look for the first error in the output of all processes."
            ) from error
        self._is_broken = True
        raise DistributedError(_what_happened(answers))


def _what_happened(answers: list[tuple[str, str]]) -> str:
    failed = [f"process {rank}: {failure}" for rank, (failure, _) in enumerate(answers) if failure]
    if failed:
        return f"Nothing was changed, since it failed in {'; '.join(failed)}"
    doings = "; ".join(f"process {rank} was to {doing}" for rank, (_, doing) in enumerate(answers))
    return (
        f"The processes are not doing the same: {doings}. Every process has to be given the same "
        "rows, labels, groups and parameters, random_state included, in the same order of calls."
    )


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
