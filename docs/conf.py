"""How the documentation is built; see ``make docs``."""

import sys
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path

import matplotlib

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
matplotlib.use("Agg")

project = "grmu_sk"
author = "The grmu_sk developers"
copyright = author
release = version = installed_version("grmu_sk")

extensions = [
    "generated_pages",  # in _ext
    "mathml",  # in _ext
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "results/**"]
templates_path = ["_templates"]

# a name of this package that cannot be found is an error; other projects' pages are not looked up,
# so that the site builds without a network
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!grmu_sk\.).*")]

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence"]

plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 160)]
plot_rcparams = {"font.size": 10, "figure.dpi": 100}
plot_apply_rcparams = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "backreferences_dir": "_generated/backreferences",
    "doc_module": ("grmu_sk",),
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "write_computation_times": False,
    "min_reported_time": 10**6,
    "show_signature": False,
    "download_all_examples": False,
    "within_subsection_order": "generated_pages.QuickstartFirst",
    "reset_modules": ("matplotlib",),
}

html_theme = "pydata_sphinx_theme"
html_title = "grmu_sk"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"index": [], "_generated/bibliography": [], "gallery/index": []}
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "default",
    "pygments_dark_style": "github-dark",
}
html_show_sphinx = False
html_copy_source = False

# the figures and examples are held to the same rule as the tests
warnings.filterwarnings("error", module=r"grmu_sk(\..*)?$")
