"""The site's settings: Sphinx reads the pages that sources.py writes (`make docs`)."""

from nri_inject.version import VERSION

project = "nri-inject"
author = "The nri-inject authors"
project_copyright = author
version = release = VERSION

extensions = ["myst_parser", "accessible"]
root_doc = "index"
smartquotes = False  # a quote in a command is typed as it stands

# Links lead to headings by the names that a repository host gives them.
myst_heading_anchors = 4
highlight_language = "none"
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"nri-inject {VERSION}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = html_domain_indices = False  # the search finds the names
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"sidebar_hide_name": False}
