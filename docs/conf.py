"""How the documentation is built; see ``make docs``."""

import logging
import os
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
release = version = installed_version("grmu_sk")
copyright = f"{author}, version {version}"

extensions = [
    "generated_pages",  # in _ext
    "mathml",  # in _ext
    "readable_images",  # in _ext
    "result_pages",  # in _ext
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "results/**"]
templates_path = ["_templates"]

# a name of this package that cannot be found is an error; one of another project is a link if its
# list of names can be read, and plain text without a network
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!grmu_sk\.).*")]

intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "sklearn": ("https://scikit-learn.org/stable", None),
    "skorch": ("https://skorch.readthedocs.io/en/stable", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
    "fairlearn": ("https://fairlearn.org/main", None),
}
intersphinx_timeout = 5
intersphinx_disabled_reftypes = ["std:*"]
# the one message that is no mistake in the pages
logging.getLogger("sphinx.sphinx.ext.intersphinx").addFilter(
    lambda record: "failed to reach any of the inventories" not in str(record.msg)
)

autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence"]
# what is typed, without prompts and answers
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

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
    "thumbnail_size": (560, 400),
    "show_signature": False,
    "download_all_examples": False,
    "within_subsection_order": "generated_pages.QuickstartFirst",
    "reset_modules": ("matplotlib",),
}

html_theme = "pydata_sphinx_theme"
html_title = "grmu_sk"
html_static_path = ["_static"]
html_css_files = ["site.css"]
alone = ("index", "cli", "_generated/bibliography", "gallery/index", "changelog", "contributing")
html_sidebars = {page: [] for page in alone}
html_theme_options = {
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc", "edit-this-page"],
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "default",
    "pygments_dark_style": "github-dark",
}
# for those who publish the site: where pages are edited, with {path} in it, and a list of versions
if edit_url := os.environ.get("DOCS_EDIT_URL"):
    html_theme_options["use_edit_page_button"] = True
    html_context = {
        "edit_page_url_template": edit_url.replace("{path}", "{{ file_name }}"),
        "edit_page_provider_name": "the repository",
        "doc_path": "docs",
    }
if versions_url := os.environ.get("DOCS_VERSIONS_URL"):
    html_theme_options["switcher"] = {"json_url": versions_url, "version_match": version}
    html_theme_options["navbar_start"] = ["navbar-logo", "version-switcher"]
    html_theme_options["check_switcher"] = False  # it is read by the reader's browser
html_show_sphinx = False
html_copy_source = False

# the figures and examples are held to the same rule as the tests
warnings.filterwarnings("error", module=r"grmu_sk(\..*)?$")
