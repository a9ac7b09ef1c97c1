import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.config import ModelConfig
from model.trainer import EvaluationSet, train
from model.transformer import Transformer

TRAINEE = Path(__file__).with_name("trainee.py")
ROOT = Path(__file__).parents[2]

# Everything at once that a step may depend on: what is saved must be enough to go on from.
EVERYTHING = {
    "moments": "bfloat16",
    "average": 0.9,
    "average_every": 2,
    "batch_size": 8,
    "first_batch_size": 2,
    "batch_ramp": 0.5,
    "late_mtp_weight": 0.05,
    "bias_update_until": 0.7,
    "decay": 0.5,
    "tails": [{"amount": 0.1, "ratio": 0.02}],
}


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def steps(out: Path) -> list[dict]:
    """The lines of steps, without what depends on the clock."""
    return [
        {k: v for k, v in line.items() if k not in ("tokens_per_second", "mfu")}
        for line in lines(out)
        if "eval" not in line
    ]


def weights(out: Path, folder: str = "final") -> bytes:
    return (out / folder / "model.safetensors").read_bytes()


def test_a_run_learns_and_records_every_step(trainee, tmp_path):
    result = train(
        trainee.MODEL,
        trainee.config(checkpoint_every=0),
        trainee.steps(40),
        trainee.HELD_OUT,
        tmp_path,
        source_names=trainee.NAMES,
        peak=1e9,
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
    assert (result["status"], result["step"], result["steps"]) == ("complete", 40, 40)
    assert all(line["mfu"] > 0 for line in lines(tmp_path) if "eval" not in line)
    assert any((tmp_path / "tensorboard").iterdir())


def test_the_share_of_the_peak_is_operations_a_second(trainee, tmp_path):
    from model.flops import training_operations

    train(trainee.MODEL, trainee.config(), trainee.steps(1), {}, tmp_path, peak=1e9)
    (line,) = lines(tmp_path)
    a_token = training_operations(trainee.MODEL, 32)
    assert line["mfu"] * 1e9 == pytest.approx(line["tokens_per_second"] * a_token)


def test_operations_are_six_for_each_weight_that_a_token_meets_plus_attention(trainee):
    from model.flops import training_operations

    config = trainee.MODEL
    without = ModelConfig(**{**vars(config), "num_nextn_predict_layers": 0})
    norms = 2 * 2 * 32 + 2 * 16 + 32  # two layers' and the last; they are no products
    weights = without.parameter_count().active - norms
    heads = 2 * (8 + 8) + 2 * 8  # products of a query with a key, and of its weight with a value
    for length in (32, 512):
        attention = 2 * heads * (length + 1) / 2
        assert training_operations(without, length) == 6 * (weights + attention)


def test_final_weights_are_float32_under_the_training_names(trainee, tmp_path):
    train(trainee.MODEL, trainee.config(), trainee.steps(3), {}, tmp_path)
    state = load_file(tmp_path / "final" / "model.safetensors")
    raw = json.loads((tmp_path / "final" / "config.json").read_text())
    model = Transformer(ModelConfig.from_hugging_face(raw))
    model.load_state_dict(state)
    assert {t.dtype for t in state.values()} == {torch.float32}
    assert state["model.layers.1.mlp.gate.e_score_correction_bias"].abs().max() > 0


def test_micro_batches_change_nothing_but_rounding(trainee, tmp_path):
    for size in (1, 2, 4):
        changed = trainee.config(micro_batch_size=size, learning_rate=1e-3)
        train(trainee.MODEL, changed, trainee.steps(3), {}, tmp_path / str(size))
    whole = steps(tmp_path / "4")
    for size in "12":
        for a, b in zip(steps(tmp_path / size), whole, strict=True):
            for key in ("loss", "mtp_loss", "balance_loss", "grad_norm"):
                assert a[key] == pytest.approx(b[key], rel=1e-5)
            assert a["expert_load"] == b["expert_load"]
        parts, all_at_once = (
            load_file(tmp_path / n / "final" / "model.safetensors") for n in (size, "4")
        )
        for name, tensor in all_at_once.items():
            torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-5)


def test_the_source_losses_average_to_the_loss(trainee, tmp_path):
    names = trainee.NAMES
    train(trainee.MODEL, trainee.config(), trainee.steps(1), {}, tmp_path, source_names=names)
    (line,) = steps(tmp_path)
    batch = trainee.sequences(0, 4)
    counted = batch["labels"] != -100
    counts = [(counted & (batch["source_ids"] == i)).sum().item() for i in (0, 1)]
    mean = sum(line["source_loss"][n] * c for n, c in zip(names, counts, strict=True)) / sum(counts)
    assert mean == pytest.approx(line["loss"], rel=1e-5)


def test_a_source_without_a_name_is_refused(trainee, tmp_path):
    with pytest.raises(ValueError, match="source id 1, expected below 1"):
        train(trainee.MODEL, trainee.config(), trainee.steps(1), {}, tmp_path, source_names=["a"])


def test_phases_of_other_lengths_come_in_batches_of_as_many_tokens(trainee, tmp_path):
    supply = trainee.Phases((10, 32), (3, 64), (5, 16))
    result = train(trainee.MODEL, trainee.config(), supply, {}, tmp_path)
    ends = [line["sequences"] for line in steps(tmp_path)]
    assert ends == [4, 8, 10, 12, 13, 18]
    assert (result["status"], result["sequences"]) == ("complete", 18)


def test_a_batch_grows(trainee, tmp_path):
    settings = trainee.config(batch_size=8, first_batch_size=2, batch_ramp=0.6)
    train(trainee.MODEL, settings, trainee.steps(15), {}, tmp_path)
    ends = [0, *(line["sequences"] for line in steps(tmp_path))]
    sizes = [b - a for a, b in pairwise(ends)]
    assert sizes[0] == 2 and sizes[-2] == 8 and sizes[:-1] == sorted(sizes[:-1])
    assert ends[-1] == 60


def test_a_batch_that_is_not_what_the_phase_says_is_refused(trainee, tmp_path):
    class Short(trainee.Phases):
        def batch(self, first, size):
            return super().batch(first, size - 1)

    with pytest.raises(ValueError, match=r"sequence 0 has shape \(3, 32\), expected \(4, 32\)"):
        train(trainee.MODEL, trainee.config(), Short((8, 32)), {}, tmp_path)


def test_a_run_may_begin_from_weights_that_another_has_made(trainee, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(trainee.MODEL, trainee.config(), trainee.steps(20), {}, first)
    start = first / "final"
    train(trainee.MODEL, trainee.config(), trainee.steps(5), {}, second, start=start)
    assert steps(second)[0]["loss"] < 0.7 * steps(first)[0]["loss"]
    # It goes on by itself, but not when the weights that it began from are others.
    train(trainee.MODEL, trainee.config(), trainee.steps(5), {}, second, start=start)
    with pytest.raises(ValueError, match=r"run\.start was"):
        train(trainee.MODEL, trainee.config(), trainee.steps(5), {}, second)
    other = ModelConfig(**{**vars(trainee.MODEL), "vocab_size": 128})
    with pytest.raises(ValueError, match=r"2 tensors differ .* lm_head.weight has the shape \(64"):
        train(other, trainee.config(), trainee.steps(5), {}, tmp_path / "third", start=start)


def test_continuing_a_finished_run_changes_nothing(trainee, tmp_path):
    settings = trainee.config(average=0.9)
    first = train(trainee.MODEL, settings, trainee.steps(3), trainee.HELD_OUT, tmp_path)
    before = weights(tmp_path), (tmp_path / "metrics.jsonl").read_text()
    second = train(trainee.MODEL, settings, trainee.steps(3), trainee.HELD_OUT, tmp_path)
    assert first == second
    assert before == (weights(tmp_path), (tmp_path / "metrics.jsonl").read_text())


class Stop(Exception):
    """Raised in the middle of a run."""


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_restart_after_any_number_of_steps_is_an_unbroken_run(trainee, tmp_path, settings):
    settings = trainee.config(**settings | {"checkpoint_every": 3})
    supply, whole = trainee.Phases((30, 32), (6, 64)), tmp_path / "whole"
    torch.manual_seed(1)
    train(trainee.MODEL, settings, supply, trainee.HELD_OUT, whole, source_names=trainee.NAMES)
    count = len(steps(whole))
    broken = tmp_path / "broken"
    for last in (1, 4, 5, count - 1, None):

        def stop(line, last=last):
            if line["step"] == last and "eval" not in line:
                raise Stop

        torch.manual_seed(last or 0)  # the run draws nothing from here
        arguments = (trainee.MODEL, settings, supply, trainee.HELD_OUT, broken)
        if last is None:
            train(*arguments, source_names=trainee.NAMES)
        else:
            with pytest.raises(Stop):
                train(*arguments, source_names=trainee.NAMES, progress=stop)
    assert steps(broken) == steps(whole)
    assert [x for x in lines(broken) if "eval" in x] == [x for x in lines(whole) if "eval" in x]
    for folder in ("final", "average")[: 1 + bool(settings.average)]:
        assert weights(broken, folder) == weights(whole, folder)
    newest = [max((out / "checkpoints").iterdir()) for out in (whole, broken)]
    for path in newest[0].glob("*.safetensors"):
        expected, found = load_file(path), load_file(newest[1] / path.name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def start(out: Path, count: int, settings: dict | None = None) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TRAINEE), str(out), str(count), json.dumps(settings or {})]
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=subprocess.PIPE, text=True)


def wait_for_lines(process: subprocess.Popen, out: Path, count: int) -> None:
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bytes(trainee, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings, names = trainee.config(average=0.9), trainee.NAMES
    arguments = (trainee.MODEL, settings, trainee.steps(30), trainee.HELD_OUT, whole)
    train(*arguments, source_names=names)
    # The delay moves the kill into the writing of a line, of a checkpoint, or the middle of a step.
    for count, delay in ((1, 0.0), (11, 0.006), (24, 0.015)):
        process = start(killed, 30, {"average": 0.9})
        wait_for_lines(process, killed, count)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(killed, 30, {"average": 0.9})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    for folder in ("final", "average"):
        assert weights(killed, folder) == weights(whole, folder)
    assert steps(killed) == steps(whole)
    assert [x for x in lines(killed) if "eval" in x] == [x for x in lines(whole) if "eval" in x]


def test_a_terminated_run_saves_and_returns_and_then_continues(trainee, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(trainee.MODEL, trainee.config(), trainee.steps(8), {}, whole)

    def terminate(line):
        if line["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    arguments = (trainee.MODEL, trainee.config(checkpoint_every=0), trainee.steps(8), {}, stopped)
    handler = signal.getsignal(signal.SIGTERM)
    result = train(*arguments, progress=terminate)
    assert (result["status"], result["step"]) == ("interrupted", 3)
    assert not (stopped / "final").exists()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert train(*arguments)["status"] == "complete"
    assert weights(stopped) == weights(whole)


def test_a_run_may_live_in_a_thread(trainee, tmp_path):
    results = []

    def body():
        results.append(train(trainee.MODEL, trainee.config(), trainee.steps(1), {}, tmp_path))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert results[0]["status"] == "complete"


def test_a_cut_line_of_the_record_is_dropped_on_resume(trainee, tmp_path):
    train(trainee.MODEL, trainee.config(), trainee.steps(3), {}, tmp_path)
    before = steps(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n{"step": 3, "lo')
    train(trainee.MODEL, trainee.config(), trainee.steps(3), {}, tmp_path)
    assert steps(tmp_path) == before


def test_a_run_resumes_from_the_older_checkpoint_when_the_newer_is_damaged(trainee, tmp_path):
    train(trainee.MODEL, trainee.config(), trainee.steps(6), {}, tmp_path)
    expected = weights(tmp_path), steps(tmp_path)
    newest = max((tmp_path / "checkpoints").iterdir())
    (newest / "model-00002-of-00003.safetensors").write_bytes(b"")
    seen = []
    train(trainee.MODEL, trainee.config(), trainee.steps(6), {}, tmp_path, progress=seen.append)
    assert [line["step"] for line in seen] == [6]
    assert (weights(tmp_path), steps(tmp_path)) == expected


@pytest.mark.parametrize(
    ("settings", "count", "key"),
    [
        ({"seed": 5}, 2, "training.seed"),
        ({"learning_rate": 1e-3}, 2, "training.learning_rate"),
        ({"moments": "bfloat16"}, 2, "training.moments"),
        ({"average": 0.5}, 2, "training.average"),
        ({}, 9, "run.sequences"),
    ],
)
def test_a_run_does_not_continue_under_other_settings(trainee, tmp_path, settings, count, key):
    train(trainee.MODEL, trainee.config(), trainee.steps(2), {}, tmp_path)
    with pytest.raises(ValueError, match=key):
        train(trainee.MODEL, trainee.config(**settings), trainee.steps(count), {}, tmp_path)


def test_the_average_of_the_weights_is_written_and_measured(trainee, tmp_path):
    taken = []

    def take(line):
        if "eval" not in line:
            taken.append(line["step"])

    evaluation = {"held out": EvaluationSet(lambda: [trainee.sequences(100_000, 4)])}
    settings = trainee.config(average=0.5, average_every=2, eval_every=2)
    arguments = (trainee.MODEL, settings, trainee.steps(6), evaluation, tmp_path)
    result = train(*arguments, progress=take)
    own, average = (load_file(tmp_path / n / "model.safetensors") for n in ("final", "average"))
    assert own.keys() == average.keys()
    assert not torch.equal(own["lm_head.weight"], average["lm_head.weight"])
    model = Transformer(trainee.MODEL)
    losses = []
    for state in (own, average):
        model.load_state_dict(state)
        batch = trainee.sequences(100_000, 4)
        found = model.losses(batch["input_ids"], batch["labels"], batch["document_ids"] >= 0)
        losses.append(found.main.item() / found.main_tokens)
    assert abs(losses[0] - losses[1]) > 1e-4
    for name, loss in zip(("evaluation", "average_evaluation"), losses, strict=True):
        assert result[name]["held out"]["loss"] == pytest.approx(loss, rel=1e-6)
    assert lines(tmp_path)[-1]["average_eval"] == result["average_evaluation"]
    assert result["average"] == str(tmp_path / "average")


def test_moments_in_bfloat16_train_nearly_as_well_in_half_the_bytes(trainee, tmp_path):
    for moments in ("float32", "bfloat16"):
        settings = trainee.config(moments=moments)
        train(trainee.MODEL, settings, trainee.steps(12), {}, tmp_path / moments)
    high, low = (steps(tmp_path / m)[-1]["loss"] for m in ("float32", "bfloat16"))
    assert high != low
    assert low == pytest.approx(high, rel=0.05)
    sizes = [
        (max((tmp_path / m / "checkpoints").iterdir()) / "model-00002-of-00003.safetensors")
        .stat()
        .st_size
        for m in ("float32", "bfloat16")
    ]
    assert sizes[1] < 0.6 * sizes[0]


def test_fp8_is_one_switch_and_trains_nearly_as_well(trainee, tmp_path):
    for precision in ("fp32", "fp8"):
        changed = trainee.config(precision=precision, eval_every=0)
        train(trainee.MODEL, changed, trainee.steps(8), {}, tmp_path / precision)
    high, low = (steps(tmp_path / p)[-1]["loss"] for p in ("fp32", "fp8"))
    assert high != low
    assert low == pytest.approx(high, rel=0.1)


def test_the_device_may_change_between_two_parts_of_a_run_but_must_be_there(trainee, tmp_path):
    with pytest.raises(ValueError, match="device is gpu"):
        trainee.config(device="gpu")
    for device in ("cpu", "auto"):  # the second goes on with what the first has made
        changed = trainee.config(device=device, checkpoint_every=1, eval_every=0)
        assert train(trainee.MODEL, changed, trainee.steps(3), {}, tmp_path)["step"] == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(trainee, tmp_path):
    changed = trainee.config(device="cuda")
    with pytest.raises(ValueError, match="torch sees no GPU here; expected auto or cpu"):
        train(trainee.MODEL, changed, trainee.steps(1), {}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_a_gpu_trains_as_the_cpu_does_and_continues(trainee, tmp_path, precision):
    settings = {"precision": precision, "moments": "bfloat16", "average": 0.9}
    for device in ("cpu", "cuda"):
        changed = trainee.config(device=device, checkpoint_every=2, **settings)
        train(trainee.MODEL, changed, trainee.steps(6), {}, tmp_path / device)
    ours, theirs = (steps(tmp_path / device) for device in ("cuda", "cpu"))
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.02)
    # The rest of a run that the CPU began.
    changed = trainee.config(device="cuda", **settings)
    assert train(trainee.MODEL, changed, trainee.steps(6), {}, tmp_path / "cpu")["step"] == 6
