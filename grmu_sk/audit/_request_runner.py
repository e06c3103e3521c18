"""Carries out what waits in a ledger, so that it can be killed at any point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import BaseUnlearner
from ..checkpoint import UnlearningCheckpoint
from ..distributed import refuse_several_processes
from ..rows import Rows
from ..sample_ids import naming
from ..utils._atomic import unchanged_on_error
from ..utils.arguments import about
from ._errors import LedgerError
from .model_hash import model_hash

if TYPE_CHECKING:
    from .deletion_ledger import DeletionLedger

__all__ = ["RequestRunner"]

DATA_NAMES = ("X", "y", "groups", "sample_weight")


class RequestRunner:
    """One process's turn at the requests; the caller holds the lease.

    In a run "started" is recorded before anything is done, "computed" with the new model's hash
    before it replaces the old one, and "done" after that. Who finds a run without an end
    therefore knows: if the model at hand has the computed hash the work is done, and otherwise
    nothing has happened yet.

    Parameters
    ----------
    ledger : DeletionLedger
        Where the requests are.
    load : callable
        Returns the unlearner. Called after the lease was taken: a model that was read before may
        have been replaced meanwhile.
    save : callable or None
        Puts the unlearner in place of the old one, in one step. None if the object itself is what
        is in service.
    data : callable
        Given the unlearner, returns what ``unlearn`` needs besides rows.
    checkpoint : UnlearningCheckpoint or None, default=None
        Where the state of training is kept from time to time, so that a run that was killed goes
        on in the middle.
    """

    def __init__(
        self,
        ledger: DeletionLedger,
        load: Callable[[], BaseUnlearner],
        save: Callable[[BaseUnlearner], None] | None,
        data: Callable[[BaseUnlearner], Mapping[str, Any]],
        checkpoint: UnlearningCheckpoint | None = None,
    ) -> None:
        self.ledger = ledger
        self.load = load
        self.save = save
        self.data = data
        self.checkpoint = checkpoint

    def run(self, numbers: list[int] | None, retry_failed: bool, ignore_unknown: bool) -> list[int]:
        """Carry out all that waits, and return the requests that are done now."""
        self.unlearner = self.load()
        refuse_several_processes(self.unlearner.net_, "requests of a ledger")
        self.rows = self.ledger._rows_by_token(self.unlearner)  # hashing takes its time
        done = self._settle_unfinished()
        if retry_failed:
            self.ledger._retry_failed(numbers)
        waiting = _chosen(self.ledger._waiting(), numbers)
        for batch in waiting:
            feasible = [number for number in batch if self._is_feasible(number, ignore_unknown)]
            if feasible:
                self._forget(feasible)
                done += feasible
        if len(self.ledger._returned(self.unlearner, self.rows)):
            self._forget([])
        self._delete_checkpoint()  # of a run that was settled, or of one that nobody will take up
        return sorted(done)

    def _settle_unfinished(self) -> list[int]:
        """Decide what became of runs whose process has ended without a word."""
        done: list[int] = []
        runs = self.ledger._unfinished_runs()
        current = model_hash(self.unlearner) if runs else None
        for run, computed in runs:
            if computed != current:
                self.ledger._record(run, None, "abandoned")
                continue
            done += [r.number for r in self.ledger.requests("running") if r.run == run]
            self.ledger._record(run, None, "done", model_after=computed)
        return done

    def _is_feasible(self, number: int, ignore_unknown: bool) -> bool:
        """Tell whether every id of a request is a row's; mark it as failed otherwise."""
        tokens = self.ledger._tokens_by_request([number])[number]
        # what an earlier request has forgotten the model may not know any more
        known = self.rows.keys() | self.ledger._tokens_of_state("done")
        unknown = [token for token in tokens if token not in known]
        if not unknown or ignore_unknown:
            return True
        why = self.unlearner._sample_ids.why_unknown()
        self.ledger._refuse(number, f"{naming(unknown)}: {why}")
        return False

    def _forget(self, numbers: list[int]) -> None:
        """Let the model forget what these requests name, and rows that have returned."""
        ledger, unlearner = self.ledger, self.unlearner
        returned = ledger._returned(unlearner, self.rows)
        rows = np.union1d(self._rows_of(numbers), returned)
        run, token = ledger._start(
            numbers,
            method=type(unlearner).__name__,
            parameters=_described_parameters(unlearner),
            versions={name: version(name) for name in ("grmu_sk", "torch")},
            reforgotten=returned.tolist(),
            model_before=model_hash(unlearner),
        )
        try:
            with unchanged_on_error(unlearner):
                after = self._unlearned(rows)
                if self.save is None:
                    ledger._record(run, token, "done", model_after=after)
                else:
                    ledger._record(run, token, "computed", model_after=after)
                    self.save(unlearner)
        except Exception as error:
            with suppress(LedgerError):  # then the next run finds it without an end
                ledger._record(run, token, "failed", error=f"{type(error).__name__}: {error}")
            raise
        if self.save is not None:
            ledger._record(run, token, "done", model_after=after)
        self._delete_checkpoint()

    def _rows_of(self, numbers: list[int]) -> Rows:
        asked = self.ledger._tokens_by_request(numbers).values()
        rows = [self.rows[token] for tokens in asked for token in tokens if token in self.rows]
        return np.setdiff1d(np.array(rows, dtype=np.int64), self.unlearner.forget_idx_)

    def _unlearned(self, rows: Rows) -> str:
        """Forget the rows and return the hash of the new model."""
        unlearner = self.unlearner
        if len(rows):
            unlearner.unlearn(rows, checkpoint=self.checkpoint, **self._given_data())
        if self.ledger.is_hashed:  # what the ledger does not know the model need not tell
            unlearner._sample_ids = unlearner._sample_ids.without(unlearner.forget_idx_)
        return model_hash(unlearner)

    def _given_data(self) -> Mapping[str, Any]:
        with about("data"):
            given = self.data(self.unlearner)
        if not isinstance(given, Mapping):
            raise TypeError(
                "data must be a mapping with X, y, groups and sample_weight, or a function that "
                f"returns one, got a {type(given).__name__}."
            )
        if unknown := [key for key in given if key not in DATA_NAMES]:
            raise TypeError(f"data has entries of no use: {unknown}. There are {DATA_NAMES}.")
        return given

    def _delete_checkpoint(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint._discard()


def _chosen(waiting: list[list[int]], numbers: list[int] | None) -> list[list[int]]:
    if numbers is None:
        return waiting
    unknown = sorted(set(numbers) - {number for batch in waiting for number in batch})
    if unknown:
        raise ValueError(
            f"The request(s) {unknown} do not wait: they are done, failed (use retry_failed), or "
            "there are none with these numbers."
        )
    return [[number for number in batch if number in numbers] for batch in waiting]


def _described_parameters(unlearner: BaseUnlearner) -> dict[str, Any]:
    """Return the parameters as JSON; what is none is described."""
    parameters = unlearner.get_params(deep=False)
    del parameters["estimator"]
    parameters["random_state"] = unlearner.seed_
    return {name: _described(value) for name, value in parameters.items()}


def _described(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_described(part) for part in value]
    return repr(value)
