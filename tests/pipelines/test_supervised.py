"""The stage `supervised`: conversations, packed whole, hidden from each other, answers learnt."""

import gzip
import json
import shutil
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from pipelines.recipe import Recipe
from pipelines.recipe_training import SupervisedSection

pytestmark = pytest.mark.slow


def conversation(i: int) -> list[dict]:
    turns = [
        {"role": "user", "content": f"What is {i} and one?"},
        {"role": "assistant", "content": f"It is {i + 1}."},
    ]
    if i % 3 == 0:
        turns.insert(0, {"role": "system", "content": "Be short."})
    if i % 4 == 0:
        turns += [
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes, sure."},
        ]
    return turns


def write_chats(directory) -> None:
    """120 good conversations in two files, and five that cannot be used."""
    (directory / "chats").mkdir()
    rows = [{"messages": conversation(i), "language": "eng_Latn"} for i in range(60)]
    pq.write_table(pa.Table.from_pylist(rows), directory / "chats" / "a.parquet")
    lines = [json.dumps({"messages": conversation(i)}) for i in range(60, 120)]
    lines += [
        json.dumps({"messages": [{"role": "user", "content": "Anyone?"}]}),
        json.dumps({"messages": [{"role": "tool", "content": "x"}]}),
        json.dumps({"text": "no messages"}),
        "{not json",
        json.dumps({"messages": [*conversation(1), {"role": "user", "content": "why " * 200}]}),
    ]
    with gzip.open(directory / "chats" / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


SUPERVISED = {
    "sources": [{"path": "chats", "name": "sums"}],
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-4,
    "batch_size": 4,
    "micro_batch_size": 2,
    "validation": {"fraction": 0.1, "sequences": 16},
}


@pytest.fixture(scope="module")
def trained(finished, line, tmp_path_factory):
    """Make runs whose stages up to training are done, with conversations in their recipe."""
    root = tmp_path_factory.mktemp("supervised")

    def make(name: str):
        run = type(finished)(root / name)
        write_chats(run.directory)
        run.write(supervised=SUPERVISED)
        for stage in line[: line.index("train") + 1]:
            shutil.copytree(finished.out / stage, run.out / stage)
        return run

    return make


@pytest.fixture(scope="module")
def tuned(trained):
    run = trained("whole")
    run("supervised", "tiny.yaml")
    return run


@pytest.fixture(scope="module")
def training(tuned):
    from pipelines.stages.supervised import prepare

    content = yaml.safe_load((tuned.directory / "tiny.yaml").read_text())
    return prepare(Recipe.model_validate(content | {"out": str(tuned.out)}))


def test_every_conversation_is_there_once_an_epoch_or_held_out(training):
    loader = training.loader
    ends = [loader.phase_end(0), len(loader)]
    held = {
        (p["shard"], p["document"])
        for own in training.held_out.values()
        for n in range(len(own))
        for p in own.pieces(n)
    }
    epochs = []
    for first, end in zip([0, *ends], ends, strict=False):
        pieces = [p for n in range(first, end) for p in loader.pieces(n)]
        assert all(p["start"] == 0 for p in pieces)
        epochs.append(sorted((p["shard"], p["document"]) for p in pieces))
    assert epochs[0] == epochs[1] and len(set(epochs[0])) == len(epochs[0])
    assert held and not held & set(epochs[0])
    assert len(epochs[0]) + len(held) == 120


def test_answers_alone_are_learnt_and_each_sample_is_apart(training, tuned):
    from tok import Encoder

    encoder = Encoder.load(tuned.out / "tokenizer")
    told = tuned.manifest("supervised")["metrics"]["conversations"]
    learnt, answers = 0, set()
    for batch in training.loader.batches(8):
        assert (batch["sample_ids"] == batch["document_ids"]).all()
        for row in range(len(batch["labels"])):
            labels, samples = batch["labels"][row], batch["sample_ids"][row]
            learnt += int((labels >= 0).sum())
            for number in range(int(samples.max()) + 1):
                own = labels[samples == number]
                text = encoder.decode([t for t in own.tolist() if t > 2])
                answers.add(text)
                # The last place of a sample has no label: the next token is another's.
                assert own[-1] == -100 and (own >= 0).any()
    held = sum(
        int((batch["labels"] >= 0).sum())
        for own in training.held_out.values()
        for batch in own.batches(8)
    )
    assert learnt + 2 * held == 2 * told["answers"]
    assert answers <= {
        "".join(m["content"] for m in conversation(i) if m["role"] == "assistant")
        for i in range(120)
    }


def test_what_cannot_be_used_is_counted_and_named(tuned):
    told = tuned.manifest("supervised")["metrics"]["conversations"]
    assert told["kept"] == 120
    assert told["left_out"] == {"no answer": 1, "no conversation": 3, "too long": 1}
    assert any("b.jsonl.gz, line 61: no message of an assistant" in p for p in told["problems"])


def test_the_rate_falls_along_a_cosine_from_the_trained_weights(tuned, training):
    lines = (tuned.out / "supervised" / "metrics.jsonl").read_text().splitlines()
    rates = [line["lr"] for line in map(json.loads, lines) if "lr" in line]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-4) and 8e-4 < rates[0] < 1e-3
    assert training.start == tuned.out / "train" / "final"
    assert training.loader.length(0) == 64
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert losses[-1] < losses[0]


def test_a_killed_stage_goes_on_to_the_same_bytes(tuned, trained):
    run = trained("killed")
    process = run.start("supervised", "tiny.yaml")
    deadline = time.monotonic() + 200
    while not list(run.out.glob("supervised/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run.out / "supervised" / "manifest.json").exists()
    run("supervised", "tiny.yaml")
    assert run.bytes("supervised") == tuned.bytes("supervised")


def test_the_export_is_of_the_tuned_weights_and_the_report_tells_of_them(tuned):
    from safetensors.torch import load_file

    tuned("run", "tiny.yaml")
    name = "model.embed_tokens.weight"
    weights = [
        load_file(tuned.out / folder / "model.safetensors")[name]
        for folder in ("export/checkpoint", "supervised/final", "train/final")
    ]
    assert (weights[0] == weights[1]).all() and (weights[0] != weights[2]).any()
    page = (tuned.out / "report" / "report.html").read_text("utf-8")
    assert "<h2>Conversations</h2>" in page and "left out: too long" in page


def test_a_file_without_conversations_is_named(trained):
    run = trained("wrong")
    table = pa.table({"chat": ["x"], "text": ["y"]})
    pq.write_table(table, run.directory / "chats" / "a.parquet")
    _, err = run("supervised", "tiny.yaml", code=1)
    assert "a.parquet: no column 'messages'" in err and "chat, text" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final_learning_rate": 1.0}, "is above learning_rate"),
        ({"batch_size": 3}, "does not divide"),
        ({"sources": []}, "at least 1 item"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValidationError) as caught:
        SupervisedSection.model_validate(SUPERVISED | changes)
    assert message in str(caught.value)
