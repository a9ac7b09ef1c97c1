"""The whole line: what it leaves behind is what other libraries read."""

import json
import re
import shutil
from pydoc_data.topics import topics

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer

pytestmark = pytest.mark.slow


def test_a_second_run_does_nothing_and_a_dry_run_says_so(finished, line):
    before = {name: (finished.out / name / "manifest.json").stat().st_mtime_ns for name in line}
    out, _ = finished("run", "tiny.yaml")
    assert out.count("done before") == len(line)
    out, _ = finished("run", "tiny.yaml", "--dry-run")
    assert out.count("nothing: done") == len(line)
    after = {name: (finished.out / name / "manifest.json").stat().st_mtime_ns for name in line}
    assert after == before


def test_the_end_names_what_was_made_and_the_report(finished):
    out, _ = finished("run", "tiny.yaml")
    for name in ("tokenizer", "train", "export", "publish"):
        assert str(finished.out.relative_to(finished.directory) / name) in out
    report = re.search(r"Report: (\S+)", out).group(1)
    assert report == str(finished.out / "report" / "report.html")


def test_rejected_rows_and_problems_are_kept_with_their_reasons(finished):
    metrics = finished.manifest("curate")["metrics"]
    (problem,) = [p for p in metrics["problems"] if "prose.jsonl.gz" in p["file"]]
    assert str(len(topics) + 2) in problem["where"]
    rejected = [
        row
        for path in sorted((finished.out / "curate" / "rejected").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    reasons = {(row["step"], row["reason"]) for row in rejected}
    assert ("documents", "documents:exact") in reasons and ("length", "length:min_chars") in reasons
    assert any(row["uri"] == "topic/try-again" for row in rejected)
    documents = [
        pq.read_table(path)
        for path in sorted((finished.out / "curate" / "documents").glob("*.parquet"))
    ]
    tally = metrics["tally"]
    assert sum(r["documents"] for r in tally if r["step"]) == len(rejected)
    assert sum(r["documents"] for r in tally if not r["step"]) == sum(map(len, documents))


def test_every_token_is_a_document_and_every_document_its_tokens(finished):
    from packing import Shard

    documents = sorted((finished.out / "curate" / "documents").glob("*.parquet"))
    encoder_file = finished.out / "tokenizer" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(encoder_file))
    checked = 0
    for k, path in enumerate(documents):
        shard = Shard.open(finished.out / "encode" / f"shard-{k:05d}")
        table = pq.read_table(finished.out / "encode" / f"shard-{k:05d}.documents.parquet")
        for i, row in enumerate(pq.read_table(path).to_pylist()):
            assert table["id"][i].as_py() == row["id"]
            if table["atomic"][i].as_py() is None:
                tokens = shard.document(i).tolist()
                assert tokens[-1] == 1
                assert tokenizer.decode(tokens[:-1], skip_special_tokens=False) == row["text"]
                checked += 1
    assert checked > 50


def test_the_mixture_is_met_within_a_percent_or_a_sequence(finished):
    (phase,) = finished.manifest("plan")["metrics"]["plan"]["phases"]
    for domain in phase["domains"].values():
        slack = max(0.01 * domain["wanted"], phase["length"])
        assert abs(domain["planned"] - domain["wanted"]) <= slack


def test_training_learns_and_is_recorded(finished):
    lines = [
        json.loads(line)
        for line in (finished.out / "train" / "metrics.jsonl").read_text().splitlines()
    ]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert steps[-1]["loss"] < 0.85 * steps[0]["loss"]
    for key in ("mtp_loss", "tokens_per_second", "grad_norm", "expert_load"):
        assert key in steps[0]
    assert list((finished.out / "train" / "tensorboard").iterdir())
    validation = json.loads((finished.out / "train" / "validation.json").read_text())
    assert set(validation) == {"web", "code"}
    assert all(v["ratio"] == v["loss"] / v["unigram_entropy"] for v in validation.values())


def test_losses_by_language_add_up_to_those_by_domain(finished):
    metrics = finished.manifest("train")["metrics"]
    assert {"python"} <= set(metrics["validation"]["code"]["languages"])
    for entry in metrics["validation"].values():
        parts = entry["languages"].values()
        assert sum(part["tokens"] for part in parts) == entry["tokens"]
        total = sum(part["tokens"] * part["loss"] for part in parts)
        assert total / entry["tokens"] == pytest.approx(entry["loss"], rel=1e-9)
    everything = metrics["languages"].values()
    assert sum(part["tokens"] for part in everything) == sum(
        entry["tokens"] for entry in metrics["validation"].values()
    )
    page = (finished.out / "report" / "report.html").read_text("utf-8")
    assert all(f"<td>{language}</td>" in page for language in metrics["languages"])


def test_transformers_loads_the_checkpoint_and_its_tokenizer(finished):
    transformers = pytest.importorskip("transformers")
    folder = finished.out / "export" / "checkpoint"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "DeepseekV3ForCausalLM"
    from model.convert import import_checkpoint
    from model.transformer import Transformer

    config, state = import_checkpoint(folder)
    ours = Transformer(config)
    ours.load_state_dict(state)
    ids = torch.randint(0, 600, (2, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden, _ = ours.eval()(ids)
        logits = ours.lm_head(hidden)
        theirs = model(ids).logits
    assert (logits - theirs).abs().max() < 1e-4 * theirs.std()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("def f(x):")["input_ids"]) == "def f(x):"


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_what_was_published(finished, streaming, tmp_path):
    import datasets

    folder = str(finished.out / "publish" / "dataset")
    tally = finished.manifest("curate")["metrics"]["tally"]
    kept = sum(row["documents"] for row in tally if not row["step"])
    rows = {}
    for config in (None, "text", "tokenized"):
        loaded = datasets.load_dataset(
            folder, *([config] if config else []), streaming=streaming, cache_dir=str(tmp_path)
        )
        assert set(loaded) == {"train", "validation"}
        rows[config] = [row for split in loaded.values() for row in split]
        assert len(rows[config]) == kept
    assert {row["id"] for row in rows["text"]} == {row["id"] for row in rows["tokenized"]}
    assert rows[None] == rows["text"]
    tokens = sum(len(row["input_ids"]) for row in rows["tokenized"])
    assert tokens == finished.manifest("encode")["metrics"]["tokens"]


def test_the_validation_split_is_what_training_never_saw(finished):
    from packing.loader import Loader

    published = finished.out / "publish" / "dataset" / "data" / "text"
    held_out = set(pq.read_table(published / "validation-00000-of-00001.parquet")["id"].to_pylist())
    loader = Loader.open(finished.out / "plan", finished.out / "encode", ["phase-0"], 2)
    tables = [
        pq.read_table(path)["id"].to_pylist()
        for path in sorted((finished.out / "encode").glob("*.documents.parquet"))
    ]
    seen = {
        tables[piece["shard"]][piece["document"]]
        for position in range(len(loader))
        for piece in loader.pieces(position)
    }
    assert held_out and seen and not held_out & seen


def test_the_report_is_one_file_that_loads_nothing(finished):
    page = (finished.out / "report" / "report.html").read_text("utf-8")
    for heading in (
        "Curation",
        "languages",
        "bytes per token",
        "packing",
        "Training",
        "Expert load",
    ):
        assert heading in page
    assert "Plotly.newPlot" in page
    outside = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[\"']?(?!data:)[^\"'> ]+", page)
    assert not outside


def test_generate_says_the_same_with_and_without_speculation(finished):
    arguments = ("generate", str(finished.out), "The `if` statement", "--float64")
    plain, _ = finished(*arguments)
    fast, note = finished(*arguments, "--speculative")
    assert plain == fast and plain.startswith("The `if` statement")
    assert "drafted tokens accepted" in note


def test_a_changed_recipe_runs_again_and_the_old_result_comes_back_with_it(finished, make_run):
    run = make_run("changed")
    run("curate", "tiny.yaml")
    assert run.bytes("curate") == finished.bytes("curate")
    steps = [{"length": {"min_chars": 2000}}]
    run.write(curate={"steps": steps, "split_bytes": 200_000})
    out, _ = run("run", "tiny.yaml", "--dry-run")
    assert "run again" in out
    run("curate", "tiny.yaml")
    assert run.bytes("curate") != finished.bytes("curate")
    run.write()
    out, _ = run("curate", "tiny.yaml")
    assert "done before" in out and run.bytes("curate") == finished.bytes("curate")


def test_a_run_is_mixed_and_packed_anew_without_encoding_again(finished, line, make_run):
    run = make_run("anew")
    for before in line[: line.index("export")]:
        shutil.copytree(finished.out / before, run.out / before)
    encoded = {path: path.stat().st_mtime_ns for path in (run.out / "encode").rglob("*")}
    phase = {"length": 256, "tokens": 12_000, "mixture": {"web": 0.5, "code": 0.5}}
    run.write(plan={"phases": [phase], "validation": {"fraction": 0.1, "sequences": 8}})
    run("plan", "tiny.yaml")
    run("train", "tiny.yaml")
    assert {path: path.stat().st_mtime_ns for path in encoded} == encoded
    (made,) = json.loads((run.out / "plan" / "plan.json").read_text())["phases"]
    assert made["length"] == 256 and made["fill"] > 0.97
    for domain in made["domains"].values():
        assert abs(domain["planned"] - 6_000) <= 256


def test_neither_workers_nor_the_time_of_day_change_the_bytes(finished, make_run):
    run = make_run("one-worker")
    run.write(workers=1)
    for stage in ("curate", "tokenizer", "encode", "plan"):
        run(stage, "tiny.yaml")
        assert run.bytes(stage) == finished.bytes(stage)


def test_a_lost_output_is_made_again(finished, make_run):
    run = make_run("lost")
    run("curate", "tiny.yaml")
    before = run.bytes("curate")
    (run.out / "curate" / "documents" / "00000.parquet").unlink()
    run("curate", "tiny.yaml")
    assert run.bytes("curate") == before


def test_a_stage_before_its_turn_says_what_to_run(make_run):
    _, err = make_run("early")("train", "tiny.yaml", code=1)
    assert "train needs tokenizer" in err and "gristmill tokenizer" in err and "\n" not in err[:-1]


def test_a_ratio_that_cannot_be_met_stops_the_plan_with_the_numbers(finished, make_run):
    run = make_run("greedy")
    plan = {"phases": [{"length": 64, "tokens": 10**9, "mixture": {"code": 1.0}}]}
    run.write(plan=plan)
    _, err = run("run", "tiny.yaml", code=1)
    assert "'code'" in err and "'stdlib'" in err and "1,000,000,000" in err
    assert "Traceback" not in err and not (run.out / "plan" / "manifest.json").exists()


def test_arrays_of_the_loader_are_within_the_vocabulary(finished):
    from packing.loader import Loader

    loader = Loader.open(finished.out / "plan", finished.out / "encode", ["phase-0"], 2)
    largest = max(int(batch["input_ids"].max()) for batch in loader.batches(32))
    size = finished.manifest("tokenizer")["metrics"]["vocab_size"]
    assert largest < size
    assert (
        np.ceil(size / 128) * 128
        == json.loads((finished.out / "export" / "checkpoint" / "config.json").read_text())[
            "vocab_size"
        ]
    )
