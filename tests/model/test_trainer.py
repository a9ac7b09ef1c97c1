import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.config import ModelConfig
from model.trainer import TrainConfig, train
from model.transformer import Transformer

TRAINEE = Path(__file__).with_name("trainee.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trainee():
    spec = importlib.util.spec_from_file_location("trainee", TRAINEE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def steps(out: Path) -> list[dict]:
    """The lines of steps, without what depends on the clock."""
    return [
        {k: v for k, v in line.items() if k != "tokens_per_second"}
        for line in lines(out)
        if "eval" not in line
    ]


def weights(out: Path) -> bytes:
    return (out / "final" / "model.safetensors").read_bytes()


def test_a_run_learns_and_records_every_step(trainee, tmp_path):
    result = train(
        trainee.MODEL,
        trainee.config(40, checkpoint_every=0),
        trainee.batches,
        {"held out": trainee.held_out},
        tmp_path,
        source_names=["even", "odd"],
    )
    record = steps(tmp_path)
    assert [line["step"] for line in record] == list(range(1, 41))
    assert record[0]["loss"] == pytest.approx(math.log(64), rel=0.05)
    assert record[-1]["loss"] < 0.5 * record[0]["loss"]
    assert record[-1]["mtp_loss"] < 0.7 * record[0]["mtp_loss"]
    assert record[-1]["sequences"] == 160
    assert record[-1]["tokens"] == 40 * (3 * 32 + 16)
    assert set(record[0]["source_loss"]) == {"even", "odd"}
    for line in record:
        assert [round(sum(load), 3) for load in line["expert_load"]] == [1.0, 1.0]
    evaluations = [line for line in lines(tmp_path) if "eval" in line]
    assert [line["step"] for line in evaluations] == list(range(5, 41, 5))
    assert evaluations[-1]["eval"] == result["evaluation"]
    assert result["evaluation"]["held out"]["tokens"] == 3 * 32 + 15
    assert result["status"] == "complete"
    assert any((tmp_path / "tensorboard").iterdir())


def test_final_weights_are_float32_under_the_training_names(trainee, tmp_path):
    train(trainee.MODEL, trainee.config(3), trainee.batches, {}, tmp_path)
    state = load_file(tmp_path / "final" / "model.safetensors")
    raw = json.loads((tmp_path / "final" / "config.json").read_text())
    model = Transformer(ModelConfig.from_hugging_face(raw))
    model.load_state_dict(state)
    assert {t.dtype for t in state.values()} == {torch.float32}
    assert state["model.layers.1.mlp.gate.e_score_correction_bias"].abs().max() > 0


def test_micro_batches_change_nothing_but_rounding(trainee, tmp_path):
    for size in (1, 4):
        changed = trainee.config(3, micro_batch_size=size)
        train(trainee.MODEL, changed, trainee.batches, {}, tmp_path / str(size))
    one, four = (steps(tmp_path / str(size)) for size in (1, 4))
    for a, b in zip(one, four, strict=True):
        for key in ("loss", "mtp_loss", "balance_loss", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=1e-4)
        assert a["expert_load"] == b["expert_load"]


def test_the_source_losses_average_to_the_loss(trainee, tmp_path):
    names = ["even", "odd"]
    train(trainee.MODEL, trainee.config(1), trainee.batches, {}, tmp_path, source_names=names)
    (line,) = steps(tmp_path)
    batch = next(trainee.batches(0))
    counted = batch["labels"] != -100
    counts = [(counted & (batch["source_ids"] == i)).sum().item() for i in (0, 1)]
    mean = sum(line["source_loss"][n] * c for n, c in zip(names, counts, strict=True)) / sum(counts)
    assert mean == pytest.approx(line["loss"], rel=1e-5)


def test_continuing_a_finished_run_changes_nothing(trainee, tmp_path):
    first = train(trainee.MODEL, trainee.config(3), trainee.batches, {}, tmp_path)
    before = weights(tmp_path), (tmp_path / "metrics.jsonl").read_text()
    second = train(trainee.MODEL, trainee.config(3), trainee.batches, {}, tmp_path)
    assert first == second
    assert before == (weights(tmp_path), (tmp_path / "metrics.jsonl").read_text())


def start(out: Path, count: int) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TRAINEE), str(out), str(count)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def wait_for_lines(process: subprocess.Popen, out: Path, count: int) -> None:
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bytes(trainee, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    names = {"source_names": ["even", "odd"]}
    evaluation = {"held out": trainee.held_out}
    train(trainee.MODEL, trainee.config(30), trainee.batches, evaluation, whole, **names)
    # The delay moves the kill into the writing of a line, of a checkpoint, or the middle of a step.
    for count, delay in ((1, 0.0), (11, 0.006), (24, 0.015)):
        process = start(killed, 30)
        wait_for_lines(process, killed, count)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(killed, 30)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert weights(killed) == weights(whole)
    assert steps(killed) == steps(whole)
    assert [x for x in lines(killed) if "eval" in x] == [x for x in lines(whole) if "eval" in x]


def test_a_terminated_run_saves_and_returns_and_then_continues(trainee, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(trainee.MODEL, trainee.config(8), trainee.batches, {}, whole)

    def terminate(line):
        if line["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    settings = trainee.config(8, checkpoint_every=0)
    handler = signal.getsignal(signal.SIGTERM)
    result = train(trainee.MODEL, settings, trainee.batches, {}, stopped, progress=terminate)
    assert (result["status"], result["step"]) == ("interrupted", 3)
    assert not (stopped / "final").exists()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert train(trainee.MODEL, settings, trainee.batches, {}, stopped)["status"] == "complete"
    assert weights(stopped) == weights(whole)


def test_a_run_may_live_in_a_thread(trainee, tmp_path):
    results = []

    def body():
        results.append(train(trainee.MODEL, trainee.config(1), trainee.batches, {}, tmp_path))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert results[0]["status"] == "complete"


def test_a_cut_line_of_the_record_is_dropped_on_resume(trainee, tmp_path):
    whole = tmp_path / "whole"
    train(trainee.MODEL, trainee.config(3), trainee.batches, {}, whole)
    before = steps(whole)
    with (whole / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n{"step": 3, "lo')
    train(trainee.MODEL, trainee.config(3), trainee.batches, {}, whole)
    assert steps(whole) == before


def test_a_run_resumes_from_the_older_checkpoint_when_the_newer_is_damaged(trainee, tmp_path):
    train(trainee.MODEL, trainee.config(6), trainee.batches, {}, tmp_path)
    expected = weights(tmp_path), steps(tmp_path)
    newest = max((tmp_path / "checkpoints").iterdir())
    (newest / "model-00002-of-00003.safetensors").write_bytes(b"")
    seen = []
    train(trainee.MODEL, trainee.config(6), trainee.batches, {}, tmp_path, progress=seen.append)
    assert [line["step"] for line in seen] == [6]
    assert (weights(tmp_path), steps(tmp_path)) == expected


@pytest.mark.parametrize("settings", [{"seed": 5}, {"learning_rate": 1e-3}, {"steps": 9}])
def test_a_run_does_not_continue_under_other_settings(trainee, tmp_path, settings):
    train(trainee.MODEL, trainee.config(2), trainee.batches, {}, tmp_path)
    changed = {"steps": 2} | settings
    with pytest.raises(ValueError, match=f"training.{next(iter(settings))}"):
        train(trainee.MODEL, trainee.config(**changed), trainee.batches, {}, tmp_path)


def poisoned(trainee, bad_steps):
    """A model whose embedding of token 63 is beyond float32, and batches that use it."""

    def supply(consumed):
        for i, batch in enumerate(trainee.batches(consumed), consumed // 4 + 1):
            batch["input_ids"] = batch["input_ids"].clamp_max(62)
            batch["labels"] = batch["labels"].clamp_max(62)
            if i in bad_steps:
                batch["input_ids"][0, 3] = 63
            yield batch

    return supply


@pytest.fixture
def broken_embedding(monkeypatch):
    from model import trainer

    original = trainer.initialize

    def initialize(model, seed, embedding_scale):
        original(model, seed, embedding_scale)
        model.model["embed_tokens"].weight.data[63] = math.inf

    monkeypatch.setattr(trainer, "initialize", initialize)


@pytest.mark.usefixtures("broken_embedding")
def test_a_step_that_is_not_finite_is_skipped_and_recorded(trainee, tmp_path):
    supply = poisoned(trainee, {2, 4})
    train(trainee.MODEL, trainee.config(6, weight_decay=0.0), supply, {}, tmp_path)
    record = steps(tmp_path)
    assert [line["step"] for line in record if "skipped" in line] == [2, 4]
    assert record[1]["loss"] is None
    assert record[5]["loss"] < record[0]["loss"]
    state = load_file(tmp_path / "final" / "model.safetensors")
    assert all(
        torch.isfinite(t).all() for n, t in state.items() if n != "model.embed_tokens.weight"
    )


@pytest.mark.usefixtures("broken_embedding")
def test_five_steps_in_a_row_that_are_not_finite_end_the_run(trainee, tmp_path):
    supply = poisoned(trainee, {2, 4, 5, 6, 7, 8})
    with pytest.raises(ArithmeticError, match="step 8"):
        train(trainee.MODEL, trainee.config(20, weight_decay=0.0), supply, {}, tmp_path)


def test_batches_that_end_early_are_named(trainee, tmp_path):
    def two(consumed):
        supply = trainee.batches(consumed)
        yield next(supply)
        yield next(supply)

    with pytest.raises(ValueError, match="after 2 of 5 steps"):
        train(trainee.MODEL, trainee.config(5), two, {}, tmp_path)


def test_a_batch_that_is_too_large_is_refused(trainee, tmp_path):
    changed = trainee.config(5, batch_size=2)
    with pytest.raises(ValueError, match="batch of 4 sequences, expected batch_size 2"):
        train(trainee.MODEL, changed, trainee.batches, {}, tmp_path)


def test_a_last_batch_that_is_smaller_is_trained_on(trainee, tmp_path):
    def supply(consumed):
        yield next(trainee.batches(0))
        yield next(trainee.batches(4, size=3))

    result = train(trainee.MODEL, trainee.config(2), supply, {}, tmp_path)
    assert (result["status"], result["sequences"]) == ("complete", 7)


def test_fp8_is_one_switch_and_trains_nearly_as_well(trainee, tmp_path):
    for precision in ("fp32", "fp8"):
        changed = trainee.config(8, precision=precision, eval_every=0)
        train(trainee.MODEL, changed, trainee.batches, {}, tmp_path / precision)
    high, low = (steps(tmp_path / p)[-1]["loss"] for p in ("fp32", "fp8"))
    assert high != low
    assert low == pytest.approx(high, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"micro_batch_size": 3}, "micro_batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup_steps": 11}, "warmup_steps"),
        ({"precision": "bf16"}, "precision"),
        ({"decay_fraction": 2.0}, "decay_fraction"),
        ({"threads": 0}, "threads"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes, field):
    settings = {"steps": 10, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3}
    with pytest.raises(ValueError, match=field):
        TrainConfig(**settings | changes)
