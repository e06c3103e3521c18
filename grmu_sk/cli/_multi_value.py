"""Options that take several values: ``--ratios 0.1 0.5 0.9``."""

from __future__ import annotations

import click


class MultiValueCommand(click.Command):
    """A command whose options with ``multiple=True`` take all values up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the name of such an option before each of its values."""
        names = {
            name
            for parameter in self.params
            if isinstance(parameter, click.Option) and parameter.multiple
            for name in parameter.opts
        }
        repeated: list[str] = []
        current: str | None = None
        n_values = 0
        for position, argument in enumerate(args):
            if argument == "--":
                repeated += args[position:]
                break
            if argument.startswith("-"):
                current = argument if argument in names else None
                n_values = 0
            elif current is not None:
                n_values += 1
                if n_values > 1:
                    repeated.append(current)
            repeated.append(argument)
        return super().parse_args(ctx, repeated)
