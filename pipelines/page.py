"""A page of HTML in one file, with Plotly's script in it: it loads nothing from elsewhere."""

import html

from pipelines.charts import plotly_javascript

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem;
       color: #1c2733; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5dde5; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .8rem; border-bottom: 1px solid #e5eaf0; text-align: right; }
td:first-child, th:first-child { text-align: left; }
pre { background: #f4f6f8; padding: .8rem; overflow-x: auto; white-space: pre-wrap; }
.dim { color: #6b7a89; }
"""


def table(header: list[str], rows: list[list]) -> str:
    """An HTML table; everything in it is escaped."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def page(title: str, sections: list[str]) -> str:
    """The page; sections are HTML fragments, the title is escaped."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{plotly_javascript()}</script>"
        f"<h1>{html.escape(title)}</h1>"
        '<p class="dim">made by gristmill</p>' + "\n".join(sections) + "</html>"
    )
