"""The pictures of the report, as HTML fragments that share one copy of Plotly's script.

Those of a comparison of tokenizers are in `tok_page.py`.
"""

from collections import defaultdict

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from pipelines.files import fingerprint

COLOURS = ["#3a6ea5", "#d98032", "#4f9d69", "#b5485d", "#8067b7", "#8c6d5a", "#c774b2", "#7f8c8d"]
MOST_LANGUAGES = 60


def plotly_javascript() -> str:
    """Plotly's script, to be put into the page once: no picture loads anything from elsewhere."""
    return get_plotlyjs()


def figure_html(figure: go.Figure, height: int = 380) -> str:
    """A figure as a fragment that needs the page's copy of Plotly's script."""
    figure.update_layout(
        height=height, template="plotly_white", colorway=COLOURS, margin={"t": 64, "b": 40},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )  # fmt: skip
    # Plotly would draw a random name for the element; the same picture has the same bytes here.
    name = f"picture-{fingerprint(figure.to_json())}"
    config = {"displaylogo": False}
    return figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=name)


def project_files(told: dict) -> str:
    """Files of projects: those that count by language, and those set aside by reason."""
    languages, aside = told["languages"], {f"aside: {k}": n for k, n in told["aside"].items()}
    names = [*reversed(aside), *reversed(languages)]
    figure = go.Figure(
        [
            go.Bar(name=name, orientation="h", y=list(counts), x=list(counts.values()))
            for name, counts in (("count", languages), ("set aside", aside))
            if counts
        ]
    )
    figure.update_layout(
        barmode="stack", xaxis_title="files",
        yaxis={"categoryorder": "array", "categoryarray": names},
    )  # fmt: skip
    return figure_html(figure, 160 + 22 * len(names))


def dropped(tally: list[dict]) -> str:
    """Documents dropped by step and reason, coloured by domain; kept ones in the title."""
    kept = sum(row["documents"] for row in tally if not row["step"])
    read = sum(row["documents"] for row in tally)
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    total: dict[str, int] = defaultdict(int)
    for row in tally:
        if row["step"]:
            reason = row["reason"] if ":" in row["reason"] else f"{row['step']}:{row['reason']}"
            counts[row["domain"]][reason] += row["documents"]
            total[reason] += row["documents"]
    reasons = sorted(total, key=lambda reason: total[reason])
    figure = go.Figure(
        [
            go.Bar(name=domain, orientation="h", y=reasons, x=[by_reason[r] for r in reasons])
            for domain, by_reason in sorted(counts.items())
        ]
    )
    figure.update_layout(
        barmode="stack", title=f"{kept:,} of {read:,} documents kept", xaxis_title="documents"
    )
    return figure_html(figure, 160 + 28 * len(reasons))


def domains(tally: list[dict]) -> str:
    """Megabytes read and kept by domain."""
    before: dict[str, float] = defaultdict(float)
    after: dict[str, float] = defaultdict(float)
    for row in tally:
        before[row["domain"]] += row["bytes"] / 1e6
        if not row["step"]:
            after[row["domain"]] += row["bytes"] / 1e6
    names = sorted(before)
    figure = go.Figure(
        [
            go.Bar(name="read", x=names, y=[before[n] for n in names]),
            go.Bar(name="kept", x=names, y=[after[n] for n in names]),
        ]
    )
    figure.update_layout(yaxis_title="MB of text")
    return figure_html(figure, 320)


def languages(tally: list[dict]) -> str:
    """Kilobytes read and kept by natural language, largest first, on a logarithmic scale."""
    before: dict[str, float] = defaultdict(float)
    after: dict[str, float] = defaultdict(float)
    for row in tally:
        if row["domain"] != "code":
            name = row["language"] or "unknown"
            before[name] += row["bytes"] / 1e3
            if not row["step"]:
                after[name] += row["bytes"] / 1e3
    names = sorted(before, key=lambda name: -before[name])[:MOST_LANGUAGES]
    figure = go.Figure(
        [
            go.Bar(name="read", x=names, y=[before[n] for n in names]),
            go.Bar(name="kept", x=names, y=[after[n] for n in names]),
        ]
    )
    title = f"{len(before)} languages" + (
        f", the {MOST_LANGUAGES} largest" if len(before) > MOST_LANGUAGES else ""
    )
    figure.update_layout(title=title, yaxis_title="kB of text", yaxis_type="log")
    return figure_html(figure)


def bytes_per_token(rows: list[dict]) -> str:
    """Bytes per token by language and by domain."""
    rows = [row for row in rows if row["tokens_sum"] > 0]
    rows.sort(key=lambda row: -row["bytes_sum"] / row["tokens_sum"])
    shown = sorted(rows, key=lambda row: -row["bytes_sum"])[: MOST_LANGUAGES * 2]
    figure = go.Figure()
    for domain in sorted({row["domain"] for row in shown}):
        mine = [row for row in rows if row["domain"] == domain and row in shown]
        figure.add_bar(
            name=domain,
            x=[f"{row['language'] or 'unknown'}" for row in mine],
            y=[row["bytes_sum"] / row["tokens_sum"] for row in mine],
            hovertext=[f"{row['bytes_count']:,} documents" for row in mine],
        )
    figure.update_layout(yaxis_title="bytes per token", xaxis={"categoryorder": "total descending"})
    return figure_html(figure, 420)


def mixture(plan: dict) -> str:
    """Tokens wanted and planned by domain, for each phase."""
    figure = go.Figure()
    for phase in plan["phases"]:
        names = sorted(phase["domains"])
        for kind in ("wanted", "planned"):
            figure.add_bar(
                name=f"{phase['name']} {kind}",
                x=names,
                y=[phase["domains"][name][kind] for name in names],
            )
    figure.update_layout(yaxis_title="tokens")
    return figure_html(figure, 320)


def loss(steps: list[dict], evaluations: list[dict]) -> str:
    """Training loss, MTP loss, and validation loss by domain, over tokens."""
    tokens = {line["step"]: line["tokens"] for line in steps}
    figure = go.Figure()
    x = [line["tokens"] for line in steps]
    figure.add_scatter(name="training", x=x, y=[line["loss"] for line in steps], opacity=0.6)
    figure.add_scatter(
        name="multi-token prediction", x=x, y=[line["mtp_loss"] for line in steps], opacity=0.4
    )
    for domain in sorted({domain for line in evaluations for domain in line["eval"]}):
        lines = [line for line in evaluations if domain in line["eval"]]
        figure.add_scatter(
            name=f"validation: {domain}",
            x=[tokens[line["step"]] for line in lines],
            y=[line["eval"][domain]["loss"] for line in lines],
            mode="lines+markers",
        )
    figure.update_layout(xaxis_title="tokens", yaxis_title="loss (nats per token)")
    return figure_html(figure, 440)


def rates(steps: list[dict]) -> str:
    """Gradient norm and learning rate over steps."""
    x = [line["step"] for line in steps]
    figure = go.Figure()
    figure.add_scatter(name="gradient norm", x=x, y=[line["grad_norm"] for line in steps])
    figure.add_scatter(name="learning rate", x=x, y=[line["lr"] for line in steps], yaxis="y2")
    figure.update_layout(
        xaxis_title="step",
        yaxis={"title": "gradient norm", "type": "log"},
        yaxis2={"title": "learning rate", "overlaying": "y", "side": "right"},
    )
    return figure_html(figure, 320)


def expert_load(steps: list[dict]) -> str:
    """Each expert's share of its layer's tokens, over the run: even is 1 / experts."""
    if not steps or not steps[0]["expert_load"]:
        return ""
    window = max(len(steps) // 60, 1)
    means, x = [], []
    for start in range(0, len(steps), window):
        chunk = steps[start : start + window]
        x.append(chunk[-1]["step"])
        means.append(
            [
                [sum(line["expert_load"][layer][e] for line in chunk) / len(chunk)
                 for e in range(len(chunk[0]["expert_load"][layer]))]
                for layer in range(len(chunk[0]["expert_load"]))
            ]
        )  # fmt: skip
    rows, names = [], []
    for layer in range(len(means[0])):
        for expert in range(len(means[0][layer])):
            names.append(f"layer {layer} expert {expert}")
            rows.append([mean[layer][expert] * len(means[0][layer]) for mean in means])
    figure = go.Figure(
        go.Heatmap(z=rows, x=x, y=names, zmid=1, colorscale="RdBu_r", colorbar_title="× even")
    )
    figure.update_layout(title="Expert load, 1 = an even share", xaxis_title="step")
    return figure_html(figure, 200 + 9 * len(rows))
