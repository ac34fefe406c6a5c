"""How the documentation is built: ``sphinx-build -W -n docs OUT``, without network."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]

project = "measlog"
author = "the measlog authors"
copyright = author  # noqa: A001 - the name that Sphinx reads
try:
    release = metadata.version("measlog")
except metadata.PackageNotFoundError:
    release = "unreleased"

extensions = ["myst_parser", "sphinx.ext.autodoc", "measlog_docs"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["notebooks", "schemas", "_build"]
nitpicky = True
# Names of other projects, which a build without network cannot look up. Nothing of measlog's own is listed here.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(attr|attrs|asyncio|click|concurrent|collections|construct|contextlib|cryptography|datetime|enum|hypothesis)(\..*)?",
    ),
    (r"py:.*", r"(dask|duckdb|matplotlib|np|numpy|pa|pandas|pathlib|pd|pkcs11|pl|polars|pyarrow|pyspark|ray)(\..*)?"),
    (r"py:.*", r"(abc|functools|io|ipaddress|os|queue|re|threading|types|typing|uuid)\..*"),
    (r"py:mod", r"hashlib"),
    (r"py:class", r"(bool|bytearray|bytes|dict|float|frozenset|int|list|memoryview|object|set|slice|str|tuple|type)"),
    (r"py:exc", r"(\w+Error|Exception)"),  # the built-in ones; measlog's are found before this is asked
]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 100
python_use_unqualified_type_names = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The built-in ``type`` in an annotation, where several records have a field of that name.
suppress_warnings = ["ref.python"]

smartquotes = False  # two hyphens are two hyphens
html_theme = "furo"
html_title = "measlog"
html_static_path = ["_static"]
html_css_files = ["measlog.css"]
html_copy_source = False
html_show_sphinx = False
