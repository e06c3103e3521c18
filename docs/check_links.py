"""Check a built site: every local link leads somewhere, and no page loads anything from elsewhere.

Usage: python docs/check_links.py docs/_build/html
"""

import html
import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINK = re.compile(r"<(\w+)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"")


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
        for tag, link in LINK.findall(page.read_text("utf-8")):
            if problem := problem_with(page, tag, link):
                yield f"{page.name}: {link} {problem}"


if __name__ == "__main__":
    found = list(problems(sys.argv[1]))
    sys.exit("\n".join(found) or 0)
