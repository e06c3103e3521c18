"""Images that everybody can read: alternative texts, and room to scroll on a narrow screen."""

import re
import tomllib
from functools import cache
from html import escape
from pathlib import Path

IMAGE = re.compile(r"<img\b[^>]*>")


@cache
def alternative_texts(folder):
    """Return the texts of figures that code draws, by the name of the file."""
    return tomllib.loads((Path(folder) / "alternative_texts.toml").read_text("utf-8"))


def improve(app, page, template, context, doctree):
    """Give each image of a page its text, and a place of its own."""

    def improved(found):
        tag = found[0]
        name = Path(re.search(r'\bsrc="([^"]*)"', tag)[1]).stem
        if name.endswith("_thumb"):  # its title stands below
            return tag
        if text := alternative_texts(app.srcdir).get(name):
            tag = re.sub(r'\balt="[^"]*"', lambda _: f'alt="{escape(text)}"', tag)
        return f'<span class="figure-scroll">{tag}</span>'

    if "body" in context:
        context["body"] = IMAGE.sub(improved, context["body"])


def setup(app):
    """Take part in the writing of each page."""
    app.connect("html-page-context", improve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
