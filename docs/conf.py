"""Configuration of the documentation site: `make docs` builds it, without a network."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent

project = "Memory Gateway"
copyright = "the authors of Memory Gateway"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "requirements.*", "reference/data"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Memory Gateway"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}


def _write_llms(app, exception):
    """Copy llms.txt into the site; its links lead to the Markdown sources of the pages there."""
    if exception is not None or app.builder.format != "html":
        return
    text = (HERE.parent / "llms.txt").read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/([\w/-]+)\.md\)", r"](_sources/\1.md.txt)", text)
    for link in re.findall(r"\]\((_sources/[^)]+)\)", text):
        if not (Path(app.outdir) / link).is_file():
            sys.exit(f"llms.txt links to {link}, which is not in the site")
    (Path(app.outdir) / "llms.txt").write_text(text, encoding="utf-8")


def _drop_empty_folder(app, docname, source):
    """Sphinx warns of a pattern in a table of contents that matches no page."""
    if docname == "index" and not any((HERE / "develop").glob("*.md")):
        source[0] = source[0].replace("develop/*\n", "")


def setup(app):
    app.connect("source-read", _drop_empty_folder)
    app.connect("build-finished", _write_llms)
