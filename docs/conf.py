"""Sphinx's settings; docs/build.py gathers the sources and runs it. Nothing is fetched, not even by a reader."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mstkit.version import __version__  # noqa: E402

project = 'mstkit'
author = 'The authors of mstkit'
project_copyright = 'the authors of mstkit, Apache-2.0'
version = release = __version__
language = 'en'

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    'docs.site_builder.references',
]
source_suffix = {'.rst': 'restructuredtext', '.md': 'myst-nb', '.ipynb': 'myst-nb'}
nitpicky = True

# The pages are read in the repository too, so they are written in GitHub's Markdown and nothing else means anything.
myst_heading_anchors = 6
myst_disable_syntax = ['myst_line_comment', 'myst_role', 'myst_target', 'myst_block_break', 'substitution']
viewcode_follow_imported_members = False
nb_execution_mode = 'off'  # a test runs the notebooks

napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = 'bysource'
autodoc_inherit_docstrings = False  # what torch says about forward() of any module says nothing about ours
autodoc_typehints_format = 'short'
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = 'furo'
html_title = f'mstkit {release}'
html_static_path = ['static']
html_css_files = ['site.css']
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r'^(\$|>>>|\.\.\.) '
copybutton_prompt_is_regexp = True
