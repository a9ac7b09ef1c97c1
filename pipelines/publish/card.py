"""The dataset card: README.md with the header that the Hub reads, and what a person wants to know.

The header's `license` is a list of the Hub's own identifiers, one for each SPDX identifier that it
knows, and `other` for what it does not; each document's own licence is in the data. `language` has
ISO 639 codes in lower case, which is all that the Hub accepts there; where the script matters
(`sr-Latn`), `language_bcp47` has the whole tags.
"""

from collections import Counter

import yaml

from curation.languages import bcp47

# Upper bounds of the hub's size categories, in rows.
_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"), (10**12, "100B<n<1T"),
)  # fmt: skip
# The Hub's identifiers of licences; most are SPDX's in lower case.
_HUB_NAMES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0
epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0
ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unlicense wtfpl zlib
"""
_HUB = frozenset(_HUB_NAMES.split())
_OTHER_NAMES = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}
UNKNOWN = "unknown"  # the Hub's word for a document that says nothing of its licence


def hub_license(spdx: str) -> str:
    """The Hub's identifier for an SPDX identifier; `other` where it has none, or for expressions.

    An empty string, for documents of no known licence, is `unknown`.
    """
    name = spdx.strip().lower()
    if not name or name in ("unknown", "noassertion"):
        return UNKNOWN
    name = name.removesuffix("-only").removesuffix("-or-later").removesuffix("+")
    name = _OTHER_NAMES.get(name, name)
    return name if name in _HUB else "other"


def header(
    name: str,
    languages: set[str],
    licences: set[str],
    rows: int,
    views: dict[str, dict[str, list[str]]],
) -> dict:
    """The card's YAML header.

    languages: canonical codes (`deu_Latn`); licences: as documents have them; rows: documents;
    views: globs by configuration and split.
    """
    tags = sorted({bcp47(code) for code in languages})
    content: dict = {"pretty_name": name}
    known = sorted({hub_license(licence) for licence in licences} or {UNKNOWN})
    content["license"] = known[0] if len(known) == 1 else known
    if "other" in known:
        content["license_name"] = "per-document"
        content["license_link"] = "README.md"
    if tags:
        content["language"] = sorted({tag.split("-")[0] for tag in tags})
    if any("-" in tag for tag in tags):
        content["language_bcp47"] = tags
    size = next((label for bound, label in _SIZES if rows < bound), "n>1T")
    content |= {
        "size_categories": [size],
        "task_categories": ["text-generation"],
        "tags": ["gristmill", "pretraining", "croissant"],
        "configs": [
            {
                "config_name": config,
                "data_files": [
                    {"split": split, "path": globs[0] if len(globs) == 1 else globs}
                    for split, globs in splits.items()
                ],
            }
            | ({"default": True} if config == "text" else {})
            for config, splits in views.items()
        ],
    }
    return content


def _table(columns: tuple[str, ...], rows: list[tuple]) -> str:
    """A table; columns whose name begins with # are numbers."""
    lines = [
        "| " + " | ".join(column.removeprefix("#") for column in columns) + " |",
        "|" + "|".join("--:" if column.startswith("#") else "---" for column in columns) + "|",
    ]
    # A name may hold anything but must stay in its cell.
    cells = [[" ".join(str(cell).replace("|", "\\|").split()) for cell in row] for row in rows]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])


def _mixture(plan: dict) -> list[tuple]:
    return [
        (
            phase["name"],
            f"{phase['length']:,}",
            f"{phase['sequences']:,}",
            domain,
            f"{share['share']:.1%}" if "share" in share else "",
            f"{share['planned']:,}",
        )
        for phase in plan["phases"]
        for domain, share in phase["domains"].items()
    ]


def card(
    name: str,
    recipe: dict,
    tally: list[dict],
    plan: dict,
    licences: dict[str, tuple[int, int]],
    splits: dict[str, dict[str, int]],
    views: dict[str, dict[str, list[str]]],
    pad: int,
) -> str:
    """The text of README.md.

    recipe: the whole of it, as JSON; tally: curation's, with rows by domain, language, step and
    reason; plan: the plan's metrics; licences: documents and bytes of text by licence; splits: rows
    by configuration and split.
    """
    kept = [row for row in tally if not row["step"]]
    languages = {row["language"] for row in kept if "_" in row["language"]}
    documents = sum(splits["text"].values())
    by_domain: dict[str, list] = {}
    by_language: dict[str, list] = {}
    for row in kept:
        for groups, key in ((by_domain, row["domain"]), (by_language, row["language"] or "none")):
            group = groups.setdefault(key, [0, 0])
            group[0] += row["documents"]
            group[1] += row["bytes"]
    dropped: Counter = Counter()
    for row in tally:
        if row["step"]:
            dropped[(row["step"], row["reason"])] += row["documents"]
    read = documents + sum(dropped.values())
    lengths = ", ".join(f"{n:,}" for n in sorted({phase["length"] for phase in plan["phases"]}))
    parts = [
        "---",
        yaml.safe_dump(
            header(name, languages, set(licences), documents, views),
            sort_keys=False,
            allow_unicode=True,
        ).strip(),
        "---",
        f"\n# {name}\n",
        f"{documents:,} documents in {len(languages)} natural languages, made by "
        "`gristmill run` from the recipe at the end.\n",
        "```python",
        "from datasets import load_dataset",
        'documents = load_dataset(DIRECTORY, "text", split="train", streaming=True)',
        "```\n",
        _table(
            ("config", "split", "#rows"),
            [(c, s, f"{n:,}") for c, rows in splits.items() for s, n in rows.items()],
        ),
        "\n`text` holds the documents. `tokenized` holds the same documents as token ids, an "
        "end-of-document token after each, holes for fill-in-the-middle included. `packed` holds "
        f"the training sequences in training order, {lengths} tokens long (shorter where the last "
        f"places are padding, token {pad}), and which documents fill each: their ids, where the "
        "piece begins in the document and how long it is, in tokens."
        + (
            " Its rows are all phases, one after another; `packed-phase-0`, … are one phase each."
            if len(plan["phases"]) > 1
            else ""
        )
        + " In `text` and `tokenized` the split `validation` is what training never saw; in "
        "`packed` it is the sequences of it that the model was measured on.\n",
        "`manifest.json` has the checksums of all files: `gristmill verify DIRECTORY`.\n",
        "## Documents\n",
        _table(
            ("domain", "#documents", "#MB"),
            [(key, f"{n:,}", f"{b / 1e6:.1f}") for key, (n, b) in sorted(by_domain.items())],
        ),
        "",
        _table(
            ("language", "BCP 47", "#documents", "#MB"),
            [
                (key, bcp47(key) if "_" in key else "", f"{n:,}", f"{b / 1e6:.1f}")
                for key, (n, b) in sorted(by_language.items(), key=lambda item: -item[1][1])
            ],
        ),
        "\n## Licences\n\nEvery document carries its own in the column `license`.\n",
        _table(
            ("licence", "#documents", "#MB"),
            [
                (key or UNKNOWN, f"{n:,}", f"{b / 1e6:.1f}")
                for key, (n, b) in sorted(licences.items(), key=lambda item: -item[1][1])
            ],
        ),
        "\n## Training mixture\n",
        _table(("phase", "#length", "#sequences", "domain", "#share", "#tokens"), _mixture(plan)),
        "\n## What was left out\n",
        f"{sum(dropped.values()):,} of {read:,} documents, by the step that dropped them.\n",
        _table(
            ("step", "reason", "#documents"),
            [(step, reason, f"{n:,}") for (step, reason), n in dropped.most_common()],
        ),
        "\n## Recipe\n",
        "```yaml",
        yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).strip(),
        "```\n",
    ]
    return "\n".join(parts)
