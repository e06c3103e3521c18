"""Check a built site: links lead somewhere, nothing comes from elsewhere, images are put in words.

Usage: python docs/check_links.py docs/_build/html
"""

import html
import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

SHORTEST_TEXT = 40  # a title is none
IMAGE = re.compile(r"<img\b[^>]*>")
LINK = re.compile(r"<(\w+)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"")


def wordless(text):
    """Yield the images of a page that are not put into words; a thumbnail stands at its title."""
    for tag in IMAGE.findall(text):
        found = re.search(r"\balt=\"([^\"]*)\"", tag)
        if (
            "_thumb" not in tag
            and "_static/" not in tag
            and len(found[1] if found else "") < SHORTEST_TEXT
        ):
            yield tag


@cache
def anchors(page):
    """Return the ids of a page."""
    return set(re.findall(r"\bid=\"([^\"]+)\"", page.read_text("utf-8")))


def problem_with(page, tag, link):
    """Say what is wrong with a link of a page, or return None."""
    parts = urlsplit(html.unescape(link))
    if parts.scheme in ("http", "https"):
        return None if tag == "a" else "is loaded from another site"
    if parts.scheme:
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return "leads nowhere"
    if parts.fragment and target.suffix == ".html" and parts.fragment not in anchors(target):
        return "leads to a place that is not on its page"
    return None


def problems(site):
    """Yield what is wrong with each link of a site."""
    for page in sorted(Path(site).resolve().rglob("*.html")):
        if "_static" in page.parts:
            continue
        text = page.read_text("utf-8")
        for tag in wordless(text):
            yield f"{page.name}: {tag} has no text: say in alternative_texts.toml what it shows"
        for tag, link in LINK.findall(text):
            if problem := problem_with(page, tag, link):
                yield f"{page.name}: {link} {problem}"


if __name__ == "__main__":
    found = list(problems(sys.argv[1]))
    sys.exit("\n".join(found) or 0)
