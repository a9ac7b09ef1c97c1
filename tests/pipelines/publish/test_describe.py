"""The card and Croissant: what the Hub and machines read is there and is true."""

import json
import re

import pytest
import yaml

from pipelines.publish.card import hub_license
from pipelines.publish.manifest import read_manifest


def head(made) -> dict:
    text = (made.root / "README.md").read_text("utf-8")
    return yaml.safe_load(text.split("---\n")[1])


def test_the_header_has_what_the_hub_knows(phases):
    header = head(phases)
    assert header["license"] == ["apache-2.0", "gpl-3.0", "mit", "other", "unknown"]
    # The Hub takes nothing but lower case there.
    assert header["language"] == ["de", "en", "sr", "zh"]
    assert header["language_bcp47"] == ["de", "en", "sr-Latn", "zh-Hant"]
    assert header["size_categories"] == ["n<1K"]
    configs = {entry["config_name"]: entry for entry in header["configs"]}
    assert list(configs) == ["text", "tokenized", "packed", "packed-phase-0", "packed-phase-1"]
    assert [name for name, entry in configs.items() if entry.get("default")] == ["text"]
    paths = [data["path"] for entry in configs.values() for data in entry["data_files"]]
    named = [p for path in paths for p in ([path] if isinstance(path, str) else path)]
    assert all(list(phases.root.glob(pattern)) for pattern in named)
    reached = {path for pattern in named for path in phases.root.glob(pattern)}
    assert reached == set(phases.root.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("spdx", "hub"),
    [
        ("MIT", "mit"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("LGPL-2.1+", "lgpl-2.1"),
        ("CC-BY-SA-4.0", "cc-by-sa-4.0"),
        ("ODbL-1.0", "odbl"),
        ("PSF-2.0", "other"),
        ("MIT OR Apache-2.0", "other"),
        ("", "unknown"),
        ("NOASSERTION", "unknown"),
    ],
)
def test_a_licence_has_the_hubs_name_where_one_fits(spdx, hub):
    assert hub_license(spdx) == hub


def test_the_card_tells_the_mixture_the_licences_the_losses_and_the_recipe(phases):
    text = (phases.root / "README.md").read_text("utf-8")
    for row in (
        "| length | too \\| short | 7 |",
        "| phase-1 | 128 |",
        "LicenseRef-own \\| terms of use",
        f"| text | train | {phases.splits['text']['train']} |",
    ):
        assert row in text, row
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S).group(1))
    assert shown["publish"]["name"] == "made dataset" and shown["sources"][0]["name"] == "here"
    columns = 0
    for line in text.splitlines():  # a cell's content must not open another
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not bars or columns in (0, bars), line
        columns = bars


def test_croissant_is_valid_and_its_records_are_the_rows(phases):
    mlcroissant = pytest.importorskip("mlcroissant")
    path = phases.root / "croissant.json"
    dataset = mlcroissant.Dataset(jsonld=str(path))
    assert not dataset.metadata.ctx.issues.errors
    content = json.loads(path.read_text("utf-8"))
    sums = {
        file["path"]: (file["sha256"], f"{file['bytes']} B")
        for file in read_manifest(phases.root)["files"]
        if file["path"].endswith(".parquet")
    }
    objects = [entry for entry in content["distribution"] if entry["@type"] == "cr:FileObject"]
    assert {o["contentUrl"]: (o["sha256"], o["contentSize"]) for o in objects} == sums
    sets = {record.id for record in dataset.metadata.record_sets}
    assert sets == {f"{c}-{s}" for c, splits in phases.splits.items() for s in splits}
    for config, split in (("text", "train"), ("packed", "train"), ("packed-phase-1", "train")):
        records = list(dataset.records(f"{config}-{split}"))
        assert len(records) == phases.splits[config][split]
    rows = {row["sequence_index"]: row for row in phases.rows("packed/phase-1")}
    for record in records:
        record = {name.rpartition("/")[2]: value for name, value in record.items()}
        row = rows.pop(record["sequence_index"])
        assert list(record["input_ids"]) == row["input_ids"]
    assert not rows
