"""A table of text as plain text, Markdown and LaTeX."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

FORMATS = ("text", "markdown", "latex")
COMMAND = "grmu "  # a note that begins so is for the shell
NOTE_WIDTH = 100
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "\N{MINUS SIGN}": r"$-$",
}
_MARKDOWN = {character: f"\\{character}" for character in "\\|*_`<>[]#"}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Parameters
    ----------
    cells : sequence of str
        Its text.
    bold : frozenset of int, default=frozenset()
        Places of the cells that are the best.
    is_quoted : bool, default=False
        Whether it quotes printed numbers, which is set in italics where that is possible.
    """

    cells: Sequence[str]
    bold: frozenset[int] = frozenset()
    is_quoted: bool = False


@dataclass(frozen=True)
class TextTable:
    """Text in rows and columns.

    Parameters
    ----------
    caption : str
        Title.
    header : sequence of str
        Column names.
    blocks : sequence of (str, list of Row)
        Rows between two rules, with a title that may be empty.
    notes : sequence of str, default=()
        What stands below, one paragraph each. A command ``grmu ...`` stays on one line.
    n_left : int, default=1
        How many columns are words, aligned to the left.
    """

    caption: str
    header: Sequence[str]
    blocks: Sequence[tuple[str, list[Row]]]
    notes: Sequence[str] = field(default=())
    n_left: int = 1

    def render(self, kind: str = "text") -> str:
        """Write the table.

        Parameters
        ----------
        kind : {"text", "markdown", "latex"}, default="text"
            How.

        Returns
        -------
        str
            The table with its caption and notes, without a line break at the end.

        Raises
        ------
        ValueError
            If the format is unknown.
        """
        writers = {"text": self._text, "markdown": self._markdown, "latex": self._latex}
        if kind not in writers:
            raise ValueError(f"Unknown format {kind!r}; there are: {', '.join(writers)}.")
        return writers[kind]()

    def _text(self) -> str:
        blocks = [(title, [_starred(row) for row in rows]) for title, rows in self.blocks]
        lines = [list(self.header), *(cells for _, rows in blocks for cells in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        text = [self.caption, "", self._aligned(self.header, widths)]
        for title, rows in blocks:
            text += [rule, *([title] if title else [])]
            text += [self._aligned(cells, widths) for cells in rows]
        return "\n".join([*text, rule, *map(_wrapped, self.notes)])

    def _aligned(self, cells: Sequence[str], widths: list[int]) -> str:
        padded = [
            cell.ljust(width) if place < self.n_left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    def _markdown(self) -> str:
        sides = [":---" if n < self.n_left else "---:" for n in range(len(self.header))]
        text = [f"**{_escaped(self.caption, _MARKDOWN)}**", ""]
        text += [_piped([_escaped(name, _MARKDOWN) for name in self.header]), _piped(sides)]
        for title, rows in self.blocks:
            if title:
                heading = [f"**{_escaped(title, _MARKDOWN)}**", *[""] * (len(self.header) - 1)]
                text.append(_piped(heading))
            text += [_piped(_marked(row, _MARKDOWN, "**{}**", "*{}*")) for row in rows]
        notes = [
            f"- `{note}`" if note.startswith(COMMAND) else f"- {_escaped(note, _MARKDOWN)}"
            for note in self.notes
        ]
        return "\n".join([*text, *([""] if notes else []), *notes])

    def _latex(self) -> str:
        columns = "l" * self.n_left + "r" * (len(self.header) - self.n_left)
        text = [
            "% needs \\usepackage{booktabs,graphicx}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_escaped(self.caption, _LATEX)}}}",
            "\\resizebox{\\linewidth}{!}{%",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _ampersands([_escaped(name, _LATEX) for name in self.header]),
        ]
        for title, rows in self.blocks:
            text.append("\\midrule")
            if title:
                words = _escaped(title, _LATEX)
                span = f"\\multicolumn{{{len(self.header)}}}{{l}}{{\\textbf{{{words}}}}}"
                text.append(f"{span} \\\\")
            text += [
                _ampersands(_marked(row, _LATEX, "\\textbf{{{}}}", "\\textit{{{}}}"))
                for row in rows
            ]
        text += ["\\bottomrule", "\\end{tabular}}"]
        for note in self.notes:
            words = _escaped(note, _LATEX)
            if note.startswith(COMMAND):
                # two hyphens would become a dash
                words = f"\\texttt{{{words.replace('--', '-{}-')}}}"
            text.append(f"\\par\\smallskip\\footnotesize {words}")
        return "\n".join([*text, "\\end{table}"])


def _wrapped(note: str) -> str:
    if note.startswith(COMMAND):
        return f"  {note}"
    return textwrap.fill(note, NOTE_WIDTH, break_long_words=False, break_on_hyphens=False)


def _starred(row: Row) -> list[str]:
    return [f"*{cell}" if place in row.bold else cell for place, cell in enumerate(row.cells)]


def _marked(row: Row, escapes: dict[str, str], bold: str, quoted: str) -> list[str]:
    cells = []
    for place, cell in enumerate(row.cells):
        text = _escaped(cell.strip(), escapes)
        if place in row.bold:
            text = bold.format(text)
        elif row.is_quoted and text:
            text = quoted.format(text)
        cells.append(text)
    return cells


def _escaped(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ampersands(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
