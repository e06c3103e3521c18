"""Break the arguments of every public entry point, and count what happens. See ``--help``."""

import argparse
import contextlib
import signal
import sys
import time
import traceback
from pathlib import Path

import audit_targets  # noqa: F401  (registers its targets)
import file_targets  # noqa: F401
import leakage_targets  # noqa: F401
from broken_values import broken
from contract import BrokenContract, Tally, outcome_of
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from targets import TARGETS, folder

#: A run of the test suite is the same each time; ``make chaos`` draws more.
QUICK = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def broken_calls(target):
    """Draw a call of the target in which no, one or two arguments are broken."""
    names = [name for name in target.make().kwargs if name not in target.fixed]

    @st.composite
    def calls(draw):
        call = target.make()
        n_broken = draw(st.sampled_from([1, 1, 1, 2, 2, 0]))
        chosen = draw(st.permutations(names))[:n_broken] if names else []
        for name in chosen:
            call.kwargs[name] = draw(broken(call.kwargs[name], costly=name in target.costly))
        return call, chosen

    return calls()


def fuzz(target, max_examples, tally, failures=None, run_seed=None):
    """Try so many inputs on a target.

    With ``failures``, a list, what breaks the contract is added to it and the run goes on.
    """
    profile = settings(QUICK, max_examples=max_examples, derandomize=run_seed is None)

    @profile
    @given(broken_calls(target))
    def run(drawn):
        call, chosen = drawn
        shown = {name: repr(call.kwargs[name])[:200] for name in chosen}
        try:
            tally.add(target.name, outcome_of(call))
        except Exception as error:
            message = f"{target.name} with {shown}: {error}"
            if failures is None:
                raise BrokenContract(message) from error
            failures.append((target.name, message, error))

    if run_seed is not None:
        run = seed(run_seed)(run)
    scratch = folder() / "scratch"  # where files land whose names are made up
    scratch.mkdir(exist_ok=True)
    with contextlib.chdir(scratch):
        run()


class _TooLong(BaseException):
    """Not an Exception, so that nobody takes it for one of theirs."""


def _stop_after(seconds):
    def stop(*_):
        raise _TooLong

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _distinct(failures, with_traceback):
    """Return a message for each kind of failure: the same place in the code counts once."""
    found = {}
    for name, message, error in failures:
        cause = error and (error.__cause__ or error)
        frames = traceback.extract_tb(cause.__traceback__) if cause else []
        ours = [frame for frame in frames if "/grmu_sk/" in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        if with_traceback and cause:
            message += "\n" + "".join(traceback.format_exception(cause)[-5:])
        found.setdefault((name, where, type(cause)), f"{where} {message}")
    return found.values()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=4000, help="how many at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose names contain this")
    parser.add_argument("--traceback", action="store_true")
    options = parser.parse_args()
    chosen = [target for name, target in TARGETS.items() if options.only in name]
    weights = [1 / 3 if target.slow else 1 for target in chosen]
    tally, failures = Tally(), []
    print("accepted, refused, seconds, target")
    for target, weight in zip(chosen, weights, strict=True):
        began = time.monotonic()
        _stop_after(600)
        n_inputs = max(5, round(weight * options.inputs / sum(weights)) + 1)
        try:
            fuzz(target, n_inputs, tally, failures, options.seed)
        except _TooLong:
            failures.append((target.name, f"{target.name} took more than 600 s", None))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        name, seconds = target.name, time.monotonic() - began
        counts = f"{tally.accepted[name]:6} {tally.refused[name]:6}"
        print(f"{counts} {seconds:7.1f} s  {name}", flush=True)
    print(f"{tally.accepted.total()} accepted, {tally.refused.total()} refused, of which")
    for error, count in tally.errors.most_common():
        print(f"{count:8}  {error}")
    for lines in _distinct(failures, options.traceback):
        print("BROKEN", lines)
    print(f"{tally.total + len(failures)} inputs, {len(chosen)} targets, {len(failures)} broken")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
