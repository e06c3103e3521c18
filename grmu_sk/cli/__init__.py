"""The command ``grmu``."""

from __future__ import annotations

import re
import signal
import sys
import warnings
from concurrent.futures import BrokenExecutor
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

import click

#: Commands, and the module of each; modules are light, and what is slow is imported by what runs.
_COMMANDS = {
    **dict.fromkeys(("audit", "gate", "preflight", "report"), "audit"),
    **dict.fromkeys(("bench", "figure", "table"), "bench"),
    "compare": "compare",
    "demo": "compare",
    "requests": "requests",
}
EXIT_INTERRUPTED = 130
#: What is a message; torch raises a RuntimeError for inputs of another shape, or lack of memory.
FAILURES = (OSError, ValueError, TypeError, FloatingPointError, ImportError, RuntimeError)


class _Printable:
    """A stream on which names of groups, files and people cannot control the terminal."""

    def __init__(self, stream: Any, allowed: str) -> None:
        self.stream = stream
        self.refused = re.compile(
            rf"[^{allowed}\x20-\x7e\xa0-\U0010ffff]|[\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
        )

    def write(self, text: str) -> int:
        return self.stream.write(self.refused.sub(lambda found: ascii(found[0])[1:-1], text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _say_warning(message: Any, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


class _Commands(click.Group):
    """The commands, loaded one by one; a failure is a message and exit code 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        out: Any = _Printable(sys.stdout, r"\n\t")
        errors: Any = _Printable(sys.stderr, r"\n\t\r")  # progress bars begin their line anew
        # a service's or batch system's end: as Ctrl-C, so that no worker process is left behind
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with redirect_stdout(out), redirect_stderr(errors), warnings.catch_warnings():
            warnings.showwarning = _say_warning
            return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return getattr(import_module(f"{__name__}.{_COMMANDS[cmd_name]}"), cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):  # which are RuntimeErrors, too
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted. The same command goes on from what is kept.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenExecutor as error:
            raise click.ClickException(f"{error} (If memory ran out: a smaller --jobs.)") from error
        except FAILURES as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="grmu_sk")
def main() -> None:
    """Group-robust machine unlearning.

    Exit codes: 0 done, 1 failure, 2 bad usage, 3 refused by the gate, 130 interrupted.
    """
