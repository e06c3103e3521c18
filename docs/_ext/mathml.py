"""Formulas as MathML, which browsers draw themselves: no script, no font and no network."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def _markup(node, *, as_block):
    # the one command of the docstrings that docutils does not know
    tex = node.astext().replace(r"\dots", r"\ldots")
    return tex2mathml(tex, as_block=as_block)


def visit_inline(translator, node):
    """Write a formula into a line of text."""
    translator.body.append(_markup(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """Write a formula on a line of its own."""
    translator.body.append('<div class="math-block">')
    translator.body.append(_markup(node, as_block=True))
    translator.body.append("</div>")
    raise nodes.SkipNode


def setup(app):
    """Make this the way formulas are written."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None)
    )
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
