"""The site of the documentation: `make docs` builds it, with warnings as errors.

Its source is the repository: the pages of this folder, the README, the changelog and the executed notebooks, so that a
relative link means the same here and on GitHub. The lists of links in `index.md` files are the navigation.
"""

import posixpath
import re
import sys
from importlib import import_module
from inspect import isclass, isroutine
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from flax import linen as nn
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

project = "attnlab"
author = "the authors of attnlab"
extensions = ["docstrings", "myst_nb", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "docs/**/*.md", "notebooks/*.ipynb"]
exclude_patterns = [".*", "build", "dist", "runs", "tests", "attnlab", "experiments", "docs/results", "*.egg-info"]

html_theme = "furo"
html_title = "attnlab"
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path: list[str] = []
highlight_language = "none"
pygments_style = "friendly"

nb_execution_mode = "off"
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"exclude-members": "replace"}  # of flax.struct.dataclass
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
add_module_names = False
default_role = "py:obj"
toc_object_entries_show_parents = "hide"


def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    """Add to an index page a table of contents for each of its lists of links, under the heading of the list.

    On GitHub the page shows the lists alone, without directives.
    """
    if posixpath.basename(page) != "index":
        return
    for part in re.split(r"^## ", source[0], flags=re.MULTILINE):
        heading = part.partition("\n")[0]
        links = re.findall(r"^(?:- |\| )\[([^\]]+)\]\(([^)#:]+)\.(?:md|ipynb)\)", part, re.MULTILINE)
        caption = f":caption: {heading}\n" if page == root_doc else ""
        entries = "\n".join(f"{title} <{target}>" for title, target in links)
        if links:
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n{caption}\n{entries}\n```\n"


def add_reference(_: Sphinx, _page: str, source: list[str]) -> None:
    """Replace each `<!-- api: MODULE NAME NAME -->` of a page by the documentation of these names.

    Without names it is that of the module and of all its public functions and classes; of a package that has none, the
    Flax modules of each of its files.
    """
    source[0] = re.sub(r"<!-- api: ([\w. ]+) -->", lambda match: reference(*match[1].split()), source[0])


def reference(name: str, *members: str) -> str:
    """Write the directives that document a module."""
    module = import_module(name)
    named = members or public_names(module)
    if not named and hasattr(module, "__path__"):
        files = [f"{name}.{file.name}" for file in iter_modules(module.__path__)]
        layers = {file: flax_modules(import_module(file)) for file in files}
        return "\n".join(f"## `{file}`\n\n{reference(file, *names)}" for file, names in layers.items() if names)
    directives = [] if members else [f".. automodule:: {name}"]
    for member in named:
        if isclass(getattr(module, member)):
            directives.append(f".. autoclass:: {name}.{member}\n   :members:")
        else:
            directives.append(f".. autofunction:: {name}.{member}")
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```\n"


def public_names(module: ModuleType) -> list[str]:
    """List the functions and classes of a module in the order of its source; of a package, its functions first."""
    package = hasattr(module, "__path__")
    public = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isroutine(value) or isclass(value))
        and (value.__module__ == module.__name__ or (package and value.__module__.startswith(f"{module.__name__}.")))
    ]
    return sorted(public, key=lambda name: isclass(getattr(module, name))) if package else public


def flax_modules(module: ModuleType) -> list[str]:
    """List the public Flax modules of a file in the order of its source."""
    public = {name: getattr(module, name) for name in public_names(module)}
    return [name for name, value in public.items() if isclass(value) and issubclass(value, nn.Module)]


def add_home(app: Sphinx, error: Exception | None) -> None:
    """Write an index.html at the root of the site, which leads to its first page."""
    if error is None and app.builder.name == "html":
        page = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect what this file adds to Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("source-read", add_reference)
    app.connect("build-finished", add_home)
