"""The ledger of deletion requests: records them, and carries them out in spite of crashes.

The history in the file is the ledger, and everything else is read from it. A run records "started"
before anything is done, "computed" with the new model's hash before that replaces the old one, and
"done" after that. If a run has no end, the model tells: with the computed hash the work is done,
and otherwise nothing has happened yet.
"""

from __future__ import annotations

import copy
import os
import socket
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..base import BaseUnlearner
from ..checkpoint import UnlearningCheckpoint
from ..distributed import refuse_several_processes
from ..files import sweep
from ..fingerprints import describe, digest, weights
from ..pipelines import inputs_of_unlearner, unlearner_of
from ..rows import Rows
from ..sample_ids import id_texts, naming
from ..validation import unchanged_on_error
from .ledger_file import LedgerBusyError, LedgerEntry, LedgerError, LedgerFile, lease, read_key_file

STATES = ("received", "running", "done", "failed")
Checkpoint = UnlearningCheckpoint | str | os.PathLike[str] | None
#: What a request shows of the run that took it on.
OF_RUN = ("run", "method", "parameters", "model_before", "host", "pid")


@dataclass(frozen=True)
class DeletionRequest:
    """A request and how far it got.

    Attributes
    ----------
    number : int
        1 for the ledger's first.
    state : {"received", "running", "done", "failed"}
        "running" may also be what a process left behind that was killed; the next run settles it.
    reason : str
        As it was given.
    n_ids : int
        How many ids it names, those of earlier requests included.
    received : str
        When, UTC in ISO 8601.
    run : int or None
        Number of the last run that took it on. Runs take on all that is waiting.
    method : str or None
        What that run unlearned with.
    model_before, model_after : str or None
        :func:`~grmu_sk.audit.model_hash` of the model before and after.
    started, finished : str or None
        When that run began and ended.
    host, pid : str and int, or None
        Where it runs or ran.
    error : str or None
        Why it failed.
    parameters : dict or None
        Those of ``method``.
    """

    number: int
    state: str
    reason: str
    n_ids: int
    received: str
    run: int | None = None
    method: str | None = None
    model_before: str | None = None
    model_after: str | None = None
    started: str | None = None
    finished: str | None = None
    host: str | None = None
    pid: int | None = None
    error: str | None = None
    parameters: dict[str, Any] | None = None


@dataclass
class _Run:
    """What became of a run so far."""

    requests: list[int]
    model_after: str | None = None
    end: str | None = None


class _State:
    """What the entries of a history come to."""

    def __init__(self) -> None:
        self.last: LedgerEntry | None = None
        self.requests: dict[int, DeletionRequest] = {}
        self.ids: dict[int, list[str]] = {}
        self.named: dict[str, list[int]] = {}
        self.runs: dict[int, _Run] = {}

    def read(self, entry: LedgerEntry) -> None:
        """Take in the next entry; one that does not fit raises, and the ledger is damaged."""
        told = entry.details
        match entry.event:
            case "created":
                pass
            case "received":
                number, ids = told["request"], told["ids"]
                self._expect(number, self.requests)
                self.ids[number] = ids
                self.requests[number] = DeletionRequest(
                    number, "received", told["reason"], len(ids), entry.time
                )
                for text in ids:
                    self.named.setdefault(text, []).append(number)
            case "asked again":
                self._change(told["requests"], state="received", error=None)
            case "refused":
                self._change([told["request"]], state="failed", error=told["error"])
            case "started":
                self._expect(told["run"], self.runs)
                self.runs[told["run"]] = _Run(told["requests"])
                shown = {name: told[name] for name in OF_RUN} | {"started": entry.time}
                begun = {"state": "running", "model_after": None, "finished": None}
                self._change(told["requests"], **begun, **shown)
            case "computed" | "done" | "failed" | "abandoned" as event:
                run = self.runs[told["run"]]
                if run.end is not None:
                    raise KeyError(f"a run that has ended is {event}")
                run.model_after = told.get("model_after", run.model_after)
                self._change(run.requests, model_after=run.model_after)
                if event != "computed":
                    run.end = event
                    ended = {"finished": entry.time, "error": told.get("error")}
                    state = "received" if event == "abandoned" else event
                    self._change(run.requests, state=state, **ended)
            case _:
                raise KeyError(entry.event)
        self.last = entry

    @staticmethod
    def _expect(number: Any, known: dict[int, Any]) -> None:
        if number != len(known) + 1:
            raise KeyError(f"number {number} in place of {len(known) + 1}")

    def _change(self, numbers: Iterable[int], **changes: Any) -> None:
        for number in numbers:
            self.requests[number] = replace(self.requests[number], **changes)

    def numbers(self, state: str) -> list[int]:
        """Return the requests in a state, oldest first."""
        return [number for number, found in self.requests.items() if found.state == state]

    def ids_of(self, state: str) -> set[str]:
        """Return all that requests in a state name."""
        return {text for number in self.numbers(state) for text in self.ids[number]}


class DeletionLedger:
    """Deletion requests for one model, in a file that survives crashes.

    A request names training rows by stable ids: those given to ``fit`` as ``sample_id``, or row
    numbers. It is stored before anything else is done, and every step is a transaction of SQLite.
    Whenever the process is killed, the request is afterwards waiting, and is carried out by the
    next run from the start, with what came meanwhile; or it is done. No server is needed.

    Requests are idempotent (naming an id again adds nothing) and cumulative: a run forgets what
    waits, and again what earlier requests named if the model it is given still has it, because it
    was restored from an old copy, say.

    Parameters
    ----------
    path : str or path-like
        The file. ``<path>.lease`` beside it, and beside a model's file, is locked while requests
        are carried out.
    key : bytes, default=None
        Secret of at least 16 bytes. The ledger then holds HMAC-SHA256 of each id and never an id.
        Whether it does is settled when the ledger is made.
    key_file : str or path-like, default=None
        A file that holds the key and that only its owner can read, see
        :func:`~grmu_sk.audit.create_key_file`.
    create : bool, default=True
        Whether to make the ledger if there is none.
    timeout : float, default=30
        Seconds to wait while other processes write into it.

    Attributes
    ----------
    path : Path
        The file.
    is_hashed : bool
        Whether it holds keyed hashes in place of ids.

    Raises
    ------
    LedgerError
        If the key is missing, wrong, too short, or can be read by others; if there is no ledger
        and none may be made.
    OSError
        If ``key_file`` cannot be read.
    LedgerBusyError
        If another process has locked the file for longer than ``timeout``.
    LedgerDamagedError
        If the file is damaged, was edited, or is no ledger; see :meth:`verify`.
    LedgerWriteError
        If the disk is full or the folder is read-only.

    See Also
    --------
    grmu_sk.MIUUnlearner : Its ``unlearn``, like that of every method, takes ids.

    Notes
    -----
    One ledger belongs to one model and its descendants. The history is a chain: each entry holds
    a hash of itself and of the entry before, so that an entry that is edited, removed or put in
    is found by :meth:`verify`. Someone who rewrites all later entries too is found by an earlier
    :attr:`head` kept elsewhere or, in a ledger with a key, by the key.

    Reasons and the method's parameters are stored as given: do not write names into them. A model
    that was given ids keeps those of the rows that remain, in files too. Those who do not want
    that give ``fit`` the hashes, ``sample_id=ledger.tokens(ids)``. With a key, ids of forgotten
    rows are dropped from the model.

    SQLite's locks are those of the file system; on network file systems they may not work.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.audit import DeletionLedger
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
    >>> ids = [f"customer {row}" for row in range(100)]
    >>> unlearner = FineTuneUnlearner(random_state=0).fit(X, y, a, sample_id=ids)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = DeletionLedger(Path(folder) / "requests.ledger")
    ...     ledger.process(unlearner, ["customer 7"], reason="by letter")
    ...     [(request.number, request.state, request.reason) for request in ledger.requests()]
    [(1, 'done', 'by letter')]
    >>> unlearner.forget_idx_.tolist()
    [7]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: bytes | None = None,
        key_file: str | os.PathLike[str] | None = None,
        create: bool = True,
        timeout: float = 30.0,
    ) -> None:
        if key is not None and key_file is not None:
            raise LedgerError("Pass key or key_file, not both.")
        if key_file is not None:
            key = read_key_file(key_file)
        self.path = Path(os.path.realpath(path))
        self._file = LedgerFile(self.path, key, create=create, timeout=timeout)
        self.is_hashed = self._file.is_hashed
        self._state = _State()
        self._lock = threading.Lock()  # of the state, which threads may share
        self.verify()

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Read what is new; what the block appends is read by the next one, once it is durable."""
        with self._lock, self._file.transaction(write=write) as connection:
            for entry in self._file.entries(connection, self._state.last):
                self._state.read(entry)
            yield connection

    # what was asked for ------------------------------------------------------------------------

    def add(self, ids: Any, *, reason: str = "") -> int | None:
        """Write down a request. When this returns, it is on the disk.

        Parameters
        ----------
        ids : iterable of int, str or UUID
            Ids as ``fit`` was given them; 7 and "7" are the same.
        reason : str, default=""
            Why, or on whose authority. Stored as it is.

        Returns
        -------
        int or None
            Number of the new request, which is done when all that it names is forgotten; None if
            requests that have not failed name all of the ids already.

        Raises
        ------
        TypeError
            If an id is of another type, a float for example.
        ValueError
            If there are no ids, or one is empty.
        LedgerError
            If the ledger has a key and was opened without; or as in the constructor.
        """
        tokens = list(dict.fromkeys(self.tokens(ids)))
        if not tokens:
            raise ValueError("ids is empty: a request names at least one row.")
        with self._transaction(write=True) as connection:
            state = self._state
            holding = state.requests.keys() - set(state.numbers("failed"))
            if all(holding & set(state.named.get(token, ())) for token in tokens):
                return None
            number = len(state.requests) + 1
            # those of earlier requests as well: these may fail, or be carried out later
            self._file.append(connection, "received", request=number, reason=reason, ids=tokens)
        return number

    def tokens(self, ids: Any) -> list[str]:
        """Return ids as this ledger stores them: as text, or as keyed hashes.

        Parameters
        ----------
        ids : iterable of int, str or UUID
            Ids.

        Returns
        -------
        list of str
            One for each, in the same order. Hashes of this ledger come back as they are.

        Raises
        ------
        TypeError, ValueError
            If something is no id.
        LedgerError
            If the ledger has a key and was opened without.
        """
        texts = id_texts(ids)
        if not self.is_hashed:
            return texts
        if self._file.key is None:
            raise LedgerError(f"{self.path} holds keyed hashes of ids: open it with its key.")
        return [self._file.key.token(text) for text in texts]

    def requests_of(self, ids: Any) -> list[int | None]:
        """Return the number of the first request that names each id, and has not failed if any.

        Parameters
        ----------
        ids : iterable of int, str or UUID
            Ids.

        Returns
        -------
        list of int or None
            A request's number for each id, None for an id that was not named.
        """
        tokens = self.tokens(ids)
        with self._transaction():
            failed = set(self._state.numbers("failed"))
            named = [self._state.named.get(token, []) for token in tokens]
        return [min(numbers, key=lambda n: (n in failed, n), default=None) for numbers in named]

    def requests(self, state: str | None = None) -> list[DeletionRequest]:
        """Return the requests, oldest first.

        Parameters
        ----------
        state : {"received", "running", "done", "failed"}, default=None
            Only those in this state.

        Returns
        -------
        list of DeletionRequest
            The requests.

        """
        with self._transaction():
            found = list(self._state.requests.values())
        return [request for request in found if state in (None, request.state)]

    def counts(self) -> dict[str, int]:
        """Return the number of requests in each state.

        Returns
        -------
        dict
            "received", "running", "done" and "failed".
        """
        found = [request.state for request in self.requests()]
        return {state: found.count(state) for state in STATES}

    # is it what was written? -------------------------------------------------------------------

    @property
    def head(self) -> str:
        """Hash of the last entry of the history; kept elsewhere it proves all that is before."""
        return self.history()[-1].hash

    def history(self) -> list[LedgerEntry]:
        """Return all that has happened, oldest first.

        Returns
        -------
        list of LedgerEntry
            The entries.
        """
        with self._file.transaction() as connection:
            return list(self._file.entries(connection))

    def verify(self, head: str | None = None) -> None:
        """Raise unless the ledger holds what was written into it, all of it, in that order.

        Done whenever a ledger is opened, and before requests are carried out. The whole file is
        read.

        Parameters
        ----------
        head : str, default=None
            A :attr:`head` of earlier, kept elsewhere. Then the entries up to it are proved to be
            those of that time, even against someone who could rewrite the whole file.

        Raises
        ------
        LedgerDamagedError
            If the file is damaged; if an entry was changed, removed, put in, or made without the
            key; if entries do not fit together; if no entry has the hash ``head``.
        """
        state, hashes = _State(), set()
        with self._lock, self._file.transaction() as connection:
            self._file.check_integrity(connection)
            for entry in self._file.entries(connection):
                state.read(entry)
                hashes.add(entry.hash)
            seen = None if self._state.last is None else self._state.last.hash
            for known in {head, seen} - {None} - hashes:
                raise self._file.damaged(f"no entry has the hash {known} of an earlier last one")
            self._state = state

    def returned_rows(self, unlearner: Any) -> Rows:
        """Return rows that requests marked as done have named and the model was not made without.

        There are some if an old copy of the model was put back, or a new model was fitted to all
        rows. :meth:`run` forgets them again.

        Parameters
        ----------
        unlearner : BaseUnlearner or Pipeline
            Fitted.

        Returns
        -------
        ndarray
            Row numbers of ``fit``, ascending; empty if all is well.
        """
        unlearner = unlearner_of(unlearner)
        return self._returned(unlearner, self._rows_by_token(unlearner))

    def _rows_by_token(self, unlearner: BaseUnlearner) -> dict[str, int]:
        """Return the row of each stored id, of forgotten rows as well if the model knows them."""
        index = unlearner._sample_ids.index()
        return dict(zip(self.tokens(index), index.values(), strict=True))

    def _returned(self, unlearner: BaseUnlearner, rows: dict[str, int]) -> Rows:
        with self._transaction():
            done = self._state.ids_of("done")
        return _still_there(unlearner, rows, done)

    # carrying out ------------------------------------------------------------------------------

    def run(
        self,
        unlearner: Any,
        *,
        retry_failed: bool = False,
        checkpoint: Checkpoint = None,
        **data: Any,
    ) -> list[int]:
        """Let an unlearner in memory forget what the requests name.

        A request is marked as done when the object has forgotten. If the process ends before the
        object is saved, the copy on the disk has not: run it again with that copy, which then
        forgets, or use :meth:`run_file`, which marks a request as done once the file is written.

        Parameters
        ----------
        unlearner : BaseUnlearner or Pipeline
            Fitted. If the unlearning fails, it and the requests' ids are as before.
        retry_failed : bool, default=False
            Whether those that failed wait, too.
        checkpoint : UnlearningCheckpoint or path-like, default=None
            A file in which the state of training is kept from time to time, as for ``unlearn``: a
            run that was killed goes on in the middle and not from the start. It is deleted when
            the requests are done. One that does not fit is deleted with a warning, and the run
            starts from the beginning.
        **data : dict
            What ``unlearn`` is to be given besides the rows: X, y, groups, sample_weight if the
            unlearner does not hold the training data.

        Returns
        -------
        list of int
            Numbers of the requests that are done now and were not before.

        Raises
        ------
        LedgerBusyError
            If another process is carrying out this ledger's requests.
        LedgerError
            As in the constructor.
        ValueError, FloatingPointError, OSError
            What ``unlearn`` raises; the requests are marked as failed.
        """
        fitted = unlearner_of(unlearner)
        if data.get("X") is not None:
            data["X"] = inputs_of_unlearner(unlearner, data["X"])
        kept = _for_requests(checkpoint, ledger=self.path)
        turn = _Turn(self, data, kept, retry_failed)
        with lease(self.path):
            return turn.take(lambda: fitted)

    def run_file(
        self,
        path: str | os.PathLike[str],
        estimator: Any = None,
        *,
        data: Mapping[str, Any] | Callable[[BaseUnlearner], Mapping[str, Any]],
        trusted: Iterable[str] = (),
        retry_failed: bool = False,
        checkpoint: Checkpoint = None,
    ) -> list[int]:
        """Let a saved unlearner forget what the requests name, and replace its file.

        The file is replaced in one step and the requests are marked as done after that. A process
        killed in between has recorded the hash of the new model, by which the next run sees that
        the work is done.

        Parameters
        ----------
        path : str or path-like
            A file written by ``save``.
        estimator : skorch net or None, default=None
            The unfitted net, as for ``load``.
        data : mapping or callable
            X, y, groups, sample_weight as given to ``fit``, which the file does not hold; or a
            function that returns them and is called with the unlearner if there is work.
        trusted : iterable of str, default=()
            Types of a classifier, as for ``load``.
        retry_failed, checkpoint
            As in :meth:`run`. The checkpoint is deleted when the model's file has been replaced.

        Returns
        -------
        list of int
            Numbers of the requests that are done now and were not before.

        Raises
        ------
        PersistenceError
            If the file cannot be loaded.
        LedgerBusyError
            If another process is carrying out this ledger's requests, or those of another ledger
            with the same file of a model.
        LedgerError
            As in the constructor.
        ValueError, FloatingPointError, OSError
            What ``unlearn`` and ``save`` raise; the requests are marked as failed, and the file is
            as it was.
        """
        from ..persistence import load, save

        def load_swept() -> BaseUnlearner:
            sweep(model)  # a save that was killed has left a model that knows the rows
            return load(model, estimator, trusted=trusted)

        model = Path(os.path.realpath(path))
        kept = _for_requests(checkpoint, ledger=self.path, model=model)
        turn = _Turn(self, data, kept, retry_failed, partial(save, path=path))
        # two ledgers that load one model would each save it with the other's rows
        with lease(self.path), lease(model):
            return turn.take(load_swept)

    def process(
        self,
        unlearner: Any,
        ids: Any = None,
        *,
        reason: str = "",
        checkpoint: Checkpoint = None,
        **data: Any,
    ) -> None:
        """Write down a request and carry out all that wait.

        Parameters
        ----------
        unlearner : BaseUnlearner or Pipeline
            Fitted.
        ids : iterable of int, str or UUID, default=None
            Whom the request names; None to carry out what waits.
        reason : str, default=""
            Of the request.
        checkpoint : UnlearningCheckpoint or path-like, default=None
            As in :meth:`run`.
        **data : dict
            As in :meth:`run`.

        Raises
        ------
        LedgerError
            As in :meth:`run`, and if the request, or the one that had named an id, failed: when an
            id is no row's, for example.
        """
        refuse_several_processes(unlearner_of(unlearner)._model, "requests of a ledger")
        texts = [] if ids is None else id_texts(ids)
        if texts:
            self.add(texts, reason=reason)
        self.run(unlearner, checkpoint=checkpoint, **data)
        mine = set(self.requests_of(texts))
        for request in self.requests("failed"):
            if request.number in mine:
                raise LedgerError(f"Request {request.number} failed: {request.error}")

    def _start(self, requests: list[int], **details: Any) -> int:
        about_me = {"requests": requests, "host": socket.gethostname(), "pid": os.getpid()}
        with self._transaction(write=True) as connection:
            run = len(self._state.runs) + 1
            self._file.append(connection, "started", run=run, **about_me, **details)
        return run

    def _record(self, event: str, **details: Any) -> None:
        """Write an entry, about a run if nobody has ended it: who takes one over does so first."""
        with self._transaction(write=True) as connection:
            run = details.get("run")
            if run is not None and self._state.runs[run].end is not None:
                raise LedgerBusyError(f"Run {run} has been taken over by another process.")
            self._file.append(connection, event, **details)


@dataclass
class _Turn:
    """One process's turn at the requests; the caller holds the lease.

    Attributes
    ----------
    ledger : DeletionLedger
        Where the requests are.
    data : mapping or callable
        What ``unlearn`` needs besides rows, or what returns it for the unlearner.
    checkpoint : UnlearningCheckpoint or None
        Where the state of training is kept from time to time.
    retry_failed : bool
        Whether those that failed wait, too.
    save : callable, default=None
        Puts the unlearner in place of the old one, in one step. None if the object itself is what
        is in service.
    """

    ledger: DeletionLedger
    data: Any
    checkpoint: UnlearningCheckpoint | None
    retry_failed: bool
    save: Callable[[BaseUnlearner], None] | None = None

    def take(self, load: Callable[[], BaseUnlearner]) -> list[int]:
        """Carry out all that waits, and return the requests that are done now."""
        ledger = self.ledger
        ledger.verify()
        self.unlearner = unlearner = load()  # what was read before may have been replaced
        refuse_several_processes(unlearner._model, "requests of a ledger")
        self.rows = ledger._rows_by_token(unlearner)  # hashing takes its time
        done = self._settle_unfinished()
        failed = [request.number for request in ledger.requests("failed")]
        if self.retry_failed and failed:
            ledger._record("asked again", requests=failed)
        if feasible := self._feasible():
            self._forget(feasible)
            done += feasible
        if len(ledger._returned(unlearner, self.rows)):
            self._forget([])
        self._discard_checkpoint()  # of a run that was settled, or that nobody will take up
        return sorted(done)

    def _settle_unfinished(self) -> list[int]:
        """Decide what became of runs whose process has ended without a word."""
        done: list[int] = []
        with self.ledger._transaction():
            runs = {number: run for number, run in self.ledger._state.runs.items() if not run.end}
        for number, run in runs.items():
            if run.model_after != model_hash(self.unlearner):
                self.ledger._record("abandoned", run=number)
            else:
                self.ledger._record("done", run=number, model_after=run.model_after)
                done += run.requests
        return done

    def _feasible(self) -> list[int]:
        """Return what waits if every id is a row's; mark the other requests as failed."""
        with self.ledger._transaction():
            state = self.ledger._state
            # what an earlier request has forgotten the model may not know any more
            known = self.rows.keys() | state.ids_of("done")
            unknown = {
                number: [text for text in state.ids[number] if text not in known]
                for number in state.numbers("received")
            }
        for number in filter(unknown.get, unknown):
            why = self.unlearner._sample_ids.why_unknown()
            error = f"{naming(unknown[number])}: {why}"
            self.ledger._record("refused", request=number, error=error)
            warnings.warn(f"Request {number} failed: {error}", UserWarning, stacklevel=2)
        return [number for number in unknown if not unknown[number]]

    def _forget(self, numbers: list[int]) -> None:
        """Let the model forget what these requests name, and rows that have returned."""
        ledger, unlearner = self.ledger, self.unlearner
        returned = ledger._returned(unlearner, self.rows)
        with ledger._transaction():
            asked = {token for number in numbers for token in ledger._state.ids[number]}
        rows = np.union1d(_still_there(unlearner, self.rows, asked), returned)
        parameters = {**unlearner.get_params(deep=False), "random_state": unlearner.seed_}
        del parameters["estimator"]
        run = ledger._start(
            numbers,
            method=type(unlearner).__name__,
            parameters=describe(parameters),
            versions={name: version(name) for name in ("grmu_sk", "torch")},
            reforgotten=returned.tolist(),
            model_before=model_hash(unlearner),
        )
        try:
            with unchanged_on_error(unlearner):
                after = self._unlearned(rows)
                ledger._record("computed" if self.save else "done", run=run, model_after=after)
                if self.save:
                    self.save(unlearner)
        except Exception as error:
            with suppress(LedgerError):  # then the next run finds it without an end
                ledger._record("failed", run=run, error=f"{type(error).__name__}: {error}")
            raise
        if self.save:
            ledger._record("done", run=run, model_after=after)
        self._discard_checkpoint()

    def _unlearned(self, rows: Rows) -> str:
        """Forget the rows and return the hash of the new model."""
        unlearner = self.unlearner
        if len(rows):
            data = self.data(unlearner) if callable(self.data) else self.data
            unlearner.unlearn(rows, checkpoint=self.checkpoint, **data)
        ids = unlearner._given_ids
        if ids and self.ledger.is_hashed:  # what the ledger does not know the model need not tell
            unlearner._given_ids = ids.without(unlearner.forget_idx_)
        return model_hash(unlearner)

    def _discard_checkpoint(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint._discard()


def _still_there(unlearner: BaseUnlearner, rows: dict[str, int], tokens: Iterable[str]) -> Rows:
    """Return the rows of these ids that the model has not forgotten."""
    named = np.array([rows[token] for token in tokens if token in rows], dtype=np.int64)
    return np.setdiff1d(named, unlearner.forget_idx_)


def _for_requests(
    checkpoint: Checkpoint,
    **others: str | os.PathLike[str],
) -> UnlearningCheckpoint | None:
    """Return a checkpoint as requests need it: there until they are done, and never in their way.

    What waits may have changed since a run was killed; its checkpoint is then of no use. As it is
    deleted in the end, it must not be one of the other files.
    """
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, UnlearningCheckpoint):
        checkpoint = UnlearningCheckpoint(checkpoint)
    kept = copy.copy(checkpoint)
    kept.keep = kept.restart = True
    for name, path in others.items():
        if Path(os.path.realpath(path)) == kept.path:
            raise ValueError(f"checkpoint is the file of the {name}, and would be deleted.")
    return kept


def model_hash(unlearner: Any) -> str:
    """Return SHA-256 of what a fitted unlearner has learned and of which rows it has forgotten.

    Models with the same hash predict the same and have forgotten the same rows. Unlike the hash
    of a file, it does not depend on how long the training took or on versions of packages.

    Parameters
    ----------
    unlearner : BaseUnlearner or Pipeline
        Fitted; of a pipeline its last step counts.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    TypeError
        If it holds no unlearner.
    NotFittedError
        If the unlearner is not fitted.

    Examples
    --------
    >>> from grmu_sk import NoOpUnlearner
    >>> from grmu_sk.audit import model_hash
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
    >>> one, other = (NoOpUnlearner(random_state=0).fit(X, y, a) for _ in range(2))
    >>> model_hash(one) == model_hash(other), model_hash(one) == model_hash(other.unlearn([3]))
    (True, False)
    """
    unlearner = unlearner_of(unlearner)
    known = {
        "class": type(unlearner).__name__.encode(),
        "forgotten": np.asarray(unlearner.forget_idx_, dtype="<i8").tobytes(),
    }
    return digest([*known.items(), *weights(unlearner._model)])
