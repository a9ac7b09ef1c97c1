"""The page of `gristmill tok compare --html`: its tables, and pictures by language and by kind."""

import html

import plotly.graph_objects as go

from pipelines.charts import figure_html
from pipelines.page import page, table
from pipelines.tok_compare import MEASURES, SUMMARY, describe_text, formatted, ordered

_EXPLAINED = {
    "bytes_per_token": "Bytes per token: higher is shorter.",
    "premium": "Premium: what a language pays over the reference; 1 is the same.",
    "fertility": "Tokens per word.",
    "renyi_efficiency": "Rényi efficiency: 1 would be all tokens equally frequent.",
}


def comparison_page(result: dict) -> str:
    """The whole page; result: from `pipelines.tok_compare.compare`."""
    tokenizers = result["tokenizers"]
    rows = []
    for key, heading, form, _ in SUMMARY:
        values = [(t["all"] | t)[key] for t in tokenizers.values()]
        if any(value is not None for value in values):
            name = heading.format(reference=result["text"]["reference"])
            rows.append([name, *(formatted(value, form) for value in values)])
    sections = [
        *(f'<p class="dim">{html.escape(line)}</p>' for line in describe_text(result["text"])),
        "<p>" + html.escape(", ".join(result["text"]["paths"])) + "</p>",
        table(["", *tokenizers], rows),
    ]
    for column in next(iter(tokenizers.values()))["by"]:
        sections.append(f"<h2>By {html.escape(column)}</h2>")
        for key, words in _EXPLAINED.items():
            if picture := _picture(result, column, key):
                sections += [f"<p>{html.escape(words)}</p>", picture]
        sections += ["<details><summary>All numbers</summary>", _all(result, column), "</details>"]
    return page("Tokenizers compared", sections)


def _picture(result: dict, column: str, key: str) -> str:
    """One measure over the values of a column, a line or bars a tokenizer; "" if undefined."""
    values = ordered(result, column)
    figure = go.Figure()
    for name, tokenizer in result["tokenizers"].items():
        kinds = tokenizer["by"][column]
        y = [kinds[value].get(key) for value in values]
        if all(number is None for number in y):
            return ""
        hover = [
            f"{kinds[v]['documents']:,} documents, {kinds[v]['tokens']:,} tokens" for v in values
        ]
        # A name like 001 would be taken for a number.
        if len(values) > 25:
            figure.add_scatter(
                name=name, x=values, y=y, mode="markers", hovertext=hover, marker={"size": 6}
            )
        else:
            figure.add_bar(name=name, x=values, y=y, hovertext=hover)
    heading = next(heading for k, heading, _, _ in MEASURES if k == key)
    figure.update_layout(
        yaxis={"title": heading, "rangemode": "tozero"}, xaxis={"type": "category"}, showlegend=True
    )
    return figure_html(figure)


def _all(result: dict, column: str) -> str:
    measures = [m for m in MEASURES if m[0] != "premium" or column == "language"]
    rows = []
    for value in ordered(result, column):
        for name, tokenizer in result["tokenizers"].items():
            kind = tokenizer["by"][column][value]
            numbers = [formatted(kind.get(key), form) for key, _, form, _ in measures]
            star = "*" if kind["words_are_letters"] else ""
            rows.append([value + star, name, f"{kind['documents']:,}", *numbers])
    return table([column, "tokenizer", "documents", *(m[1] for m in measures)], rows)
