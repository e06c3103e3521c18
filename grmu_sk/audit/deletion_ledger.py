"""The ledger of deletion requests."""

from __future__ import annotations

import copy
import json
import os
import secrets
import socket
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..base import BaseUnlearner
from ..checkpoint import UnlearningCheckpoint
from ..rows import Rows
from ..sample_ids import id_texts, naming
from ..utils._files import sweep
from ..utils.arguments import check_types
from ._errors import LedgerBusyError, LedgerError
from ._lease import lease
from ._ledger_key import read_key_file
from ._ledger_state import ids_digest
from ._ledger_store import LedgerStore
from ._request_runner import RequestRunner
from .deletion_request import DeletionRequest
from .ledger_entry import LedgerEntry

__all__ = ["DeletionLedger"]

STATES = ("received", "running", "done", "failed")


class DeletionLedger:
    """Deletion requests for one model, in a file that survives what kills the process.

    A request names training rows by stable ids: those given to ``fit`` as ``sample_id``, or row
    numbers. It is written down before anything is done about it, and every step is a transaction
    of SQLite. Whenever the process is killed, the request is afterwards waiting, and is carried
    out from the start by the next run with the same result; or it is done. There is no server.

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
    grmu_sk.MIUUnlearner : Its ``unlearn``, like that of every method, takes ids and a ledger.

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
    ...     _ = unlearner.unlearn(ids=["customer 7"], ledger=ledger, reason="by letter")
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
        check_types(DeletionLedger.__init__, locals())
        if key is not None and key_file is not None:
            raise LedgerError("Pass key or key_file, not both.")
        if key_file is not None:
            key = read_key_file(key_file)
        self.path = Path(os.path.realpath(path))
        self._store = LedgerStore(self.path, timeout)
        if create and not self.path.exists():
            self._store.create(key)
        self.is_hashed = self._store.open(key)
        self.verify()

    # what was asked for ------------------------------------------------------------------------

    def add(self, ids: Any, *, reason: str = "") -> int | None:
        """Write down a request. When this returns, it is on the disk.

        Parameters
        ----------
        ids : iterable of int, str, UUID or tuple
            Ids as ``fit`` was given them; 7 and "7" are the same.
        reason : str, default=""
            Why, or on whose authority. Stored as it is.

        Returns
        -------
        int or None
            Number of the new request, which is done when all that it names is forgotten; None if
            requests that have not failed name all of the ids already. One that had failed waits
            again if everything it names is asked for again.

        Raises
        ------
        TypeError
            If an id is of another type, a float for example.
        ValueError
            If there are no ids, or one is empty.
        LedgerError
            If the ledger has a key and was opened without; or as in the constructor.
        """
        check_types(DeletionLedger.add, locals())
        if not isinstance(reason, str):
            raise TypeError(f"reason must be text, got a {type(reason).__name__}.")
        tokens = list(dict.fromkeys(self.tokens(ids)))
        if not tokens:
            raise ValueError("ids is empty: a request names at least one row.")
        with self._store.transaction(write=True) as connection:
            asked = set(tokens)
            repeated = [n for n in _failed(connection) if asked >= set(_tokens_of(connection, n))]
            self._wait_again(connection, repeated)
            failed, known = _failed(connection), _requests_of(connection, tokens)
            if len(known) == len(tokens) and failed.isdisjoint(known.values()):
                return None
            (number,) = connection.execute(
                "SELECT coalesce(max(number), 0) + 1 FROM requests"
            ).fetchone()
            # those of earlier requests as well: these may fail, or be carried out later
            connection.executemany(
                "INSERT INTO items VALUES (?, ?)", [(token, number) for token in tokens]
            )
            self._store.append(
                connection,
                "received",
                request=number,
                reason=reason,
                n_ids=len(tokens),
                ids_sha256=ids_digest(tokens),
            )
        return number

    def tokens(self, ids: Any) -> list[str]:
        """Return ids as this ledger stores them: as text, or as keyed hashes.

        Parameters
        ----------
        ids : iterable of int, str, UUID or tuple
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
        key = self._store.key
        if key is None:
            raise LedgerError(
                f"{self.path} holds keyed hashes of ids: open it with its key or key_file."
            )
        return [key.token(text) for text in texts]

    def requests_of(self, ids: Any) -> list[int | None]:
        """Return the number of the first request that names each id, and has not failed if any.

        Parameters
        ----------
        ids : iterable of int, str, UUID or tuple
            Ids.

        Returns
        -------
        list of int or None
            A request's number for each id, None for an id that was not named.
        """
        tokens = self.tokens(ids)
        with self._store.transaction() as connection:
            known = _requests_of(connection, tokens)
        return [known.get(token) for token in tokens]

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

        Raises
        ------
        ValueError
            If there is no such state.
        """
        check_types(DeletionLedger.requests, locals())
        if state not in (None, *STATES):
            raise ValueError(f"state must be one of {STATES}, got {state!r}.")
        with self._store.transaction() as connection:
            rows = connection.execute(
                "SELECT requests.number, requests.state, reason, n_ids, received, run, method,"
                " model_before, model_after, started, finished, host, pid, requests.error,"
                " parameters"
                " FROM requests LEFT JOIN runs ON run = runs.number ORDER BY requests.number"
            ).fetchall()
        found = [_request(row) for row in rows]
        return [request for request in found if state in (None, request.state)]

    def counts(self) -> dict[str, int]:
        """Return the number of requests in each state.

        Returns
        -------
        dict
            "received", "running", "done" and "failed".
        """
        found = Counter(request.state for request in self.requests())
        return {state: found[state] for state in STATES}

    # is it what was written? -------------------------------------------------------------------

    @property
    def head(self) -> str:
        """Hash of the last entry of the history; kept elsewhere it proves all that is before."""
        with self._store.transaction() as connection:
            return connection.execute("SELECT hash FROM head").fetchone()[0]

    def history(self) -> list[LedgerEntry]:
        """Return all that has happened, oldest first.

        Returns
        -------
        list of LedgerEntry
            The entries.
        """
        with self._store.transaction() as connection:
            return list(self._store.entries(connection))

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
            key; if the requests do not follow from the history; if no entry has the hash ``head``.
        """
        check_types(DeletionLedger.verify, locals())
        self._store.verify(head)

    def returned_rows(self, unlearner: BaseUnlearner) -> Rows:
        """Return rows that requests marked as done have named and the model was not made without.

        There are some if an old copy of the model was put back, or a new model was fitted to all
        rows. :meth:`run` forgets them again.

        Parameters
        ----------
        unlearner : BaseUnlearner
            Fitted.

        Returns
        -------
        ndarray
            Row numbers of ``fit``, ascending; empty if all is well.
        """
        check_types(DeletionLedger.returned_rows, locals())
        check_is_fitted(unlearner)
        return self._returned(unlearner, self._rows_by_token(unlearner))

    # carrying out ------------------------------------------------------------------------------

    def run(
        self,
        unlearner: BaseUnlearner,
        *,
        requests: list[int] | None = None,
        retry_failed: bool = False,
        unknown: str = "raise",
        checkpoint: UnlearningCheckpoint | str | os.PathLike[str] | None = None,
        **data: Any,
    ) -> list[int]:
        """Let an unlearner in memory forget what the requests name.

        A request is marked as done when the object has forgotten. If the process ends before the
        object is saved, the copy on the disk has not: run it again with that copy, which then
        forgets, or use :meth:`run_file`, which marks a request as done once the file is written.

        Parameters
        ----------
        unlearner : BaseUnlearner
            Fitted. If the unlearning fails, it and the requests' ids are as before.
        requests : list of int, default=None
            Which to carry out; None means all that wait.
        retry_failed : bool, default=False
            Whether those that failed wait, too.
        unknown : {"raise", "ignore"}, default="raise"
            What to do about a request with an id that no row has: it fails, with a warning, and
            the others go on; or the id is passed over.
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
        check_types(DeletionLedger.run, locals())
        if not isinstance(unlearner, BaseUnlearner):
            raise TypeError(f"unlearner must be an unlearner, got a {type(unlearner).__name__}.")
        kept = _for_requests(checkpoint, ledger=self.path)
        runner = RequestRunner(self, lambda: unlearner, None, lambda _: data, kept)
        return self._carry_out(runner, requests, retry_failed, unknown)

    def run_file(
        self,
        path: str | os.PathLike[str],
        estimator: Any = None,
        *,
        data: Mapping[str, Any] | Callable[[BaseUnlearner], Mapping[str, Any]],
        requests: list[int] | None = None,
        retry_failed: bool = False,
        unknown: str = "raise",
        checkpoint: UnlearningCheckpoint | str | os.PathLike[str] | None = None,
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
        requests, retry_failed, unknown, checkpoint
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
        TypeError
            If ``data`` is neither a mapping nor a function that returns one.
        ValueError, FloatingPointError, OSError
            What ``unlearn`` and ``save`` raise; the requests are marked as failed, and the file is
            as it was.
        """
        check_types(DeletionLedger.run_file, locals())
        from ..persistence import load, save

        def load_swept() -> BaseUnlearner:
            sweep(model)  # a save that was killed has left a model that knows the rows
            return load(model, estimator)

        model = Path(os.path.realpath(path))
        runner = RequestRunner(
            self,
            load_swept,
            lambda unlearner: save(unlearner, path),
            data if callable(data) else lambda _: data,
            _for_requests(checkpoint, ledger=self.path, model=path),
        )
        # two ledgers that load one model would each save it with the other's rows
        beside = lease(model, lambda: "a run of another ledger")
        return self._carry_out(runner, requests, retry_failed, unknown, beside)

    def process(
        self,
        unlearner: BaseUnlearner,
        ids: Any = None,
        *,
        reason: str = "",
        checkpoint: UnlearningCheckpoint | str | os.PathLike[str] | None = None,
        **data: Any,
    ) -> None:
        """Write down a request and carry out all that wait; what ``unlearn(ledger=...)`` does.

        Parameters
        ----------
        unlearner : BaseUnlearner
            Fitted.
        ids : iterable of int, str, UUID or tuple, default=None
            Whom the request names; None to carry out what waits.
        reason : str, default=""
            Of the request.
        checkpoint : UnlearningCheckpoint or path-like, default=None
            As in :meth:`run`.
        **data : dict
            As in :meth:`run`.

        Raises
        ------
        ValueError
            If an id is neither in the ledger nor a row's; nothing is written down then. If the
            request, or the one that had named an id, failed.
        LedgerError
            As in :meth:`run`.
        """
        check_types(DeletionLedger.process, locals())
        checkpoint = _for_requests(checkpoint, ledger=self.path)
        texts = [] if ids is None else id_texts(ids)
        if texts:
            self._refuse_unknown(unlearner, texts)
            self.add(texts, reason=reason)
        self.run(unlearner, checkpoint=checkpoint, **data)
        mine = set(self.requests_of(texts))
        for request in self.requests("failed"):
            if request.number in mine:
                raise LedgerError(f"Request {request.number} failed: {request.error}")

    def _refuse_unknown(self, unlearner: BaseUnlearner, texts: list[str]) -> None:
        rows = unlearner._sample_ids.index()
        requests = self.requests_of(texts)
        unknown = [
            text
            for text, token, request in zip(texts, self.tokens(texts), requests, strict=True)
            if request is None and text not in rows and token not in rows
        ]
        if unknown:
            raise ValueError(f"{naming(unknown)}: {unlearner._sample_ids.why_unknown()}")

    def _carry_out(
        self,
        runner: RequestRunner,
        requests: list[int] | None,
        retry_failed: bool,
        unknown: str,
        beside: AbstractContextManager[None] | None = None,
    ) -> list[int]:
        if unknown not in ("raise", "ignore"):
            raise ValueError(f"unknown must be 'raise' or 'ignore', got {unknown!r}.")
        with lease(self.path, self._owners), beside or nullcontext():
            self.verify()
            return runner.run(requests, retry_failed, unknown == "ignore")

    def _owners(self) -> str:
        owners = sorted({f"process {r.pid} on {r.host}" for r in self.requests("running")})
        return ", ".join(owners) or "another process"

    # for the runner ----------------------------------------------------------------------------

    def _rows_by_token(self, unlearner: BaseUnlearner) -> dict[str, int]:
        """Return the row of each stored id, of forgotten rows as well if the model knows them."""
        index = unlearner._sample_ids.index()
        return dict(zip(self.tokens(index), index.values(), strict=True))

    def _returned(self, unlearner: BaseUnlearner, rows: dict[str, int]) -> Rows:
        done = [rows[token] for token in self._tokens_of_state("done") if token in rows]
        return np.setdiff1d(np.array(done, dtype=np.int64), unlearner.forget_idx_)

    def _tokens_of_state(self, state: str) -> list[str]:
        with self._store.transaction() as connection:
            return [
                token
                for (token,) in connection.execute(
                    "SELECT id FROM items JOIN requests ON request = number WHERE state = ?",
                    (state,),
                )
            ]

    def _tokens_by_request(self, numbers: list[int]) -> dict[int, list[str]]:
        with self._store.transaction() as connection:
            return {number: _tokens_of(connection, number) for number in numbers}

    def _unfinished_runs(self) -> list[tuple[int, str | None]]:
        """Return runs that nobody has ended, with the hash of the model they computed."""
        with self._store.transaction() as connection:
            return connection.execute(
                "SELECT number, model_after FROM runs WHERE state = 'running' ORDER BY number"
            ).fetchall()

    def _waiting(self) -> list[list[int]]:
        """Return what waits: first the requests of each run that was cut short, then the rest."""
        with self._store.transaction() as connection:
            rows = connection.execute(
                "SELECT requests.number, runs.number, runs.state FROM requests"
                " LEFT JOIN runs ON run = runs.number"
                " WHERE requests.state = 'received' ORDER BY runs.number, requests.number"
            ).fetchall()
        batches: dict[int | None, list[int]] = {}
        for number, run, state in rows:
            batches.setdefault(run if state == "abandoned" else None, []).append(number)
        rest = batches.pop(None, None)
        return [*batches.values(), *([rest] if rest else [])]

    def _retry_failed(self, numbers: list[int] | None) -> None:
        with self._store.transaction(write=True) as connection:
            failed = _failed(connection)
            self._wait_again(connection, failed if numbers is None else failed & set(numbers))

    def _wait_again(self, connection: sqlite3.Connection, failed: Collection[int]) -> None:
        if failed:
            self._store.append(connection, "asked again", requests=sorted(failed))

    def _refuse(self, number: int, error: str) -> None:
        with self._store.transaction(write=True) as connection:
            self._store.append(connection, "refused", request=number, error=error)
        warnings.warn(f"Request {number} failed: {error}", UserWarning, stacklevel=2)

    def _start(self, numbers: list[int], **details: Any) -> tuple[int, str]:
        token = secrets.token_hex(16)
        with self._store.transaction(write=True) as connection:
            (run,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM runs").fetchone()
            self._store.append(
                connection,
                "started",
                run=run,
                requests=numbers,
                token=token,
                host=socket.gethostname(),
                pid=os.getpid(),
                **details,
            )
        return run, token

    def _record(self, run: int, token: str | None, event: str, **details: Any) -> None:
        """Write what became of a run; with a token, only if it is still ours."""
        with self._store.transaction(write=True) as connection:
            held = connection.execute(
                "SELECT token FROM runs WHERE number = ? AND state = 'running'", (run,)
            ).fetchone()
            if held is None or token not in (None, held[0]):
                raise LedgerBusyError(
                    f"{self.path}: run {run} has been taken over by another process"
                )
            self._store.append(connection, event, run=run, **details)


def _for_requests(
    checkpoint: UnlearningCheckpoint | str | os.PathLike[str] | None,
    **others: str | os.PathLike[str],
) -> UnlearningCheckpoint | None:
    """Return a checkpoint as requests need it: there until they are done, and never in their way.

    What waits may have changed since a run was killed; its checkpoint is then of no use. As it is
    deleted in the end, it must not be one of the other files.
    """
    if checkpoint is None:
        return None
    kept = checkpoint
    if not isinstance(kept, UnlearningCheckpoint):
        kept = UnlearningCheckpoint(kept)
    for name, path in others.items():
        if Path(os.path.realpath(path)) == kept.path:
            raise ValueError(
                f"checkpoint is the file of the {name}, {path}, and would be deleted when the "
                "requests are done: give it a name of its own."
            )
    kept = copy.copy(kept)
    kept.keep, kept.unusable = True, "restart"
    return kept


def _request(columns: tuple[Any, ...]) -> DeletionRequest:
    names = [field.name for field in fields(DeletionRequest)]
    values: dict[str, Any] = dict(zip(names, columns, strict=True))
    if values["parameters"] is not None:
        values["parameters"] = json.loads(values["parameters"])
    return DeletionRequest(**values)


def _failed(connection: sqlite3.Connection) -> set[int]:
    found = connection.execute("SELECT number FROM requests WHERE state = 'failed'")
    return {number for (number,) in found}


def _tokens_of(connection: sqlite3.Connection, number: int) -> list[str]:
    found = connection.execute("SELECT id FROM items WHERE request = ?", (number,))
    return [token for (token,) in found]


def _requests_of(connection: sqlite3.Connection, tokens: list[str]) -> dict[str, int]:
    query = (
        "SELECT number FROM items JOIN requests ON request = number WHERE id = ?"
        " ORDER BY state = 'failed', number"
    )
    found = {}
    for token in tokens:
        row = connection.execute(query, (token,)).fetchone()
        if row is not None:
            found[token] = row[0]
    return found
