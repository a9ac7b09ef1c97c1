"""What goes wrong in a run: losses that are not finite, full disks, killed processes."""

import json
import math
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import find_checkpoint, find_damage
from model.trainer import train

ROOT = Path(__file__).parents[2]


def steps(out: Path) -> list[dict]:
    record = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line for line in record if "eval" not in line]


@pytest.fixture
def poisoned(trainee, broken_embedding):
    """Sequences of which some (by position) have the token 63, whose embedding is infinite."""

    class Poisoned(trainee.Phases):
        def __init__(self, count, bad):
            super().__init__((count, 32))
            self.bad = bad

        def batch(self, first, size):
            batch = super().batch(first, size)
            for name in ("input_ids", "labels"):
                batch[name] = batch[name].clamp_max(62)
            for row, position in enumerate(batch["sequence_index"].tolist()):
                if position in self.bad:
                    batch["input_ids"][row, 3] = 63
            return batch

    return Poisoned


@pytest.fixture
def broken_embedding(monkeypatch):
    from model import trainer

    original = trainer.initialize

    def initialize(model, seed, embedding_scale):
        original(model, seed, embedding_scale)
        model.model["embed_tokens"].weight.data[63] = math.inf

    monkeypatch.setattr(trainer, "initialize", initialize)


def settings(trainee, **changes):
    return trainee.config(weight_decay=0.0, **changes)


def documents(position: int) -> list[str]:
    return [f"{position}-a", f"{position}-b"]


def test_a_step_that_is_not_finite_is_skipped_and_names_its_documents(trainee, poisoned, tmp_path):
    supply = poisoned(24, {5, 12, 14})  # in steps 2 and 4
    arguments = (trainee.MODEL, settings(trainee), supply, {}, tmp_path)
    result = train(*arguments, name_documents=documents)
    record = steps(tmp_path)
    assert [line["step"] for line in record if "skipped" in line] == [2, 4]
    assert record[1]["loss"] is None
    assert "sequences 4 to 7, the loss of 5)" in record[1]["skipped"]
    assert record[1]["documents"] == {"5": ["5-a", "5-b"]}
    assert list(record[3]["documents"]) == ["12", "14"]
    assert record[5]["loss"] < record[0]["loss"]
    assert result["sequences"] == 24  # skipped steps consume too
    state = load_file(tmp_path / "final" / "model.safetensors")
    assert all(
        torch.isfinite(t).all() for n, t in state.items() if n != "model.embed_tokens.weight"
    )


def test_a_skipped_step_leaves_everything_but_the_counters(trainee, poisoned, tmp_path):
    config = settings(trainee, average=0.9, keep_checkpoints=9)
    states = {}
    for name, bad in (("good", set()), ("bad", {5})):
        out = tmp_path / name
        count = 4 if name == "good" else 8
        # The last step is the second: to one of the runs it does nothing.
        train(trainee.MODEL, config, poisoned(count, bad), {}, out)
        checkpoint = find_checkpoint(out / "checkpoints")
        states[name] = {
            key: tensor
            for file in checkpoint.glob("*.safetensors")
            for key, tensor in load_file(file).items()
        }
    for key, tensor in states["good"].items():
        # The infinite row of the embedding is not a number in an average.
        assert torch.equal(tensor.nan_to_num(), states["bad"][key].nan_to_num()), key


def test_five_steps_in_a_row_end_the_run_with_a_report_and_a_checkpoint_from_before(
    trainee, poisoned, tmp_path
):
    # Step 2 alone, then steps 5 to 9; checkpoints are due at 2, 4, 6, 8.
    supply = poisoned(80, {4, 17, 21, 25, 29, 33})
    config = settings(trainee, checkpoint_every=2, keep_checkpoints=1)
    arguments = (trainee.MODEL, config, supply, {}, tmp_path)
    with pytest.raises(ArithmeticError) as raised:
        train(*arguments, name_documents=documents)
    said = str(raised.value)
    assert "5 steps in a row, 5 to 9" in said and "documents 33-a, 33-b" in said
    assert "checkpoints/step-00000004" in said
    checkpoint = find_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.name == "step-00000004"
    # The same again, from that checkpoint, comes to the same end.
    before = steps(tmp_path)
    with pytest.raises(ArithmeticError) as again:
        train(*arguments, name_documents=documents)
    assert str(again.value) == said
    drop = ("tokens_per_second",)
    for a, b in zip(steps(tmp_path), before, strict=True):
        assert {k: v for k, v in a.items() if k not in drop} == {
            k: v for k, v in b.items() if k not in drop
        }


def test_the_checkpoint_from_before_is_written_when_none_was_due(trainee, poisoned, tmp_path):
    supply = poisoned(80, {13, 17, 21, 25, 29})
    arguments = (trainee.MODEL, settings(trainee, checkpoint_every=0), supply, {}, tmp_path)
    with pytest.raises(ArithmeticError, match="step-00000003"):
        train(*arguments)
    path = find_checkpoint(tmp_path / "checkpoints")
    assert path.name == "step-00000003"
    manifest = json.loads((path / "checkpoint.json").read_text())
    assert manifest["state"]["counters"] == {
        "step": 3, "sequences": 12, "tokens": 3 * 112, "updates": 3, "skipped": 0,
    }  # fmt: skip


@pytest.fixture
def limit_files():
    """Let no file grow beyond a size: to whoever writes one, the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        soft = before[0] if size is None else size
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, before[1]))

    yield limit
    limit(None)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_disk_that_is_full_ends_the_run_and_harms_no_checkpoint(
    trainee, tmp_path, limit_files, share
):
    whole, full = tmp_path / "whole", tmp_path / "full"
    # More is written each time: moments, being alike, are two files of one size, the average the
    # largest. The limit lets none through, or the first ones, or all but the last.
    config = trainee.config(checkpoint_every=2, average=0.9)
    train(trainee.MODEL, config, trainee.steps(4), {}, whole)
    files = find_checkpoint(whole / "checkpoints").glob("*.safetensors")
    sizes = sorted(path.stat().st_size for path in files)
    least, most = 40_000, sizes[-1] - 1
    assert least < sizes[0] <= most
    limit_files(round(least + share * (most - least)))
    with pytest.raises(
        OSError, match=r"step-0000000\d: the checkpoint could not be written .*large"
    ):
        train(trainee.MODEL, config, trainee.steps(4), {}, full)
    assert list((full / "checkpoints").iterdir()) == []  # nor what was begun
    limit_files(None)
    train(trainee.MODEL, config, trainee.steps(4), {}, full)
    for folder in ("final", "average"):
        expected, found = (out / folder / "model.safetensors" for out in (whole, full))
        assert expected.read_bytes() == found.read_bytes()


def test_a_disk_that_fills_up_later_leaves_the_checkpoint_before(trainee, tmp_path, monkeypatch):
    # A device that is really full: the second checkpoint's weights go to /dev/full.
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from model import checkpoint

    original = checkpoint._write

    def write(folder, step, *rest):
        if step == 4:
            (folder / "model-00001-of-00003.safetensors").symlink_to("/dev/full")
        original(folder, step, *rest)

    monkeypatch.setattr(checkpoint, "_write", write)
    arguments = (trainee.MODEL, trainee.config(checkpoint_every=2), trainee.steps(8), {})
    with pytest.raises(OSError, match="step-00000004: the checkpoint could not be written"):
        train(*arguments, tmp_path)
    (left,) = (tmp_path / "checkpoints").iterdir()
    assert left.name == "step-00000002" and find_damage(left) is None
