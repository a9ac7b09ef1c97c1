import json
import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import (
    CheckpointWriter,
    find_checkpoint,
    find_damage,
    read_checkpoint,
    save_checkpoint,
)

SETTINGS = {"model": {"size": 4}, "training": {"seed": 1}}


def parts(value: float) -> list[dict[str, torch.Tensor]]:
    return [
        {"model.a.weight": torch.full((4, 6), value), "model.bias": torch.full((3,), -value)},
        {"optimizer.exp_avg.model.a.weight": torch.full((4, 6), value / 3)},
    ]


def blank() -> dict[str, torch.Tensor]:
    return {n: torch.zeros_like(t) for part in parts(1.0) for n, t in part.items()}


def load_checkpoint(root, tensors, settings):
    """The newest undamaged checkpoint, as the trainer reads it."""
    path = find_checkpoint(root)
    return None if path is None else read_checkpoint(path, tensors, settings)


def save(root, step):
    return save_checkpoint(root, step, parts(step / 7), {"settings": SETTINGS, "n": step}, 2)


def test_tensors_and_state_come_back_bit_for_bit(tmp_path):
    save(tmp_path, 5)
    tensors = blank()
    assert load_checkpoint(tmp_path, tensors, SETTINGS) == {"settings": SETTINGS, "n": 5}
    for part in parts(5 / 7):
        for name, tensor in part.items():
            assert torch.equal(tensors[name], tensor)


def test_weights_and_moments_lie_in_safetensors_under_their_own_names(tmp_path):
    path = save(tmp_path, 1)
    files = sorted(path.glob("*.safetensors"))
    assert [set(load_file(f)) for f in files] == [set(part) for part in parts(1.0)]
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}


def test_no_checkpoint_is_not_an_error(tmp_path):
    assert load_checkpoint(tmp_path / "absent", blank(), SETTINGS) is None


def test_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]


def flip(path, file):
    data = bytearray((path / file).read_bytes())
    data[-3] ^= 1
    (path / file).write_bytes(data)


def truncate(path, file):
    data = (path / file).read_bytes()
    (path / file).write_bytes(data[: len(data) // 2])


def remove(path, file):
    (path / file).unlink()


FILES = (
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "checkpoint.json",
)


@pytest.mark.parametrize("harm", [flip, truncate, remove])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, harm, file):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    if harm is flip and file == "checkpoint.json":
        manifest = json.loads((newer / file).read_text())
        manifest["files"][FILES[0]]["sha256"] = "0" * 64
        (newer / file).write_text(json.dumps(manifest))
    else:
        harm(newer, file)
    assert file in find_damage(newer) or FILES[0] in find_damage(newer)
    tensors = blank()
    assert load_checkpoint(tmp_path, tensors, SETTINGS)["n"] == 1
    assert torch.equal(tensors["model.bias"], torch.full((3,), -1 / 7))
    harm(older, FILES[1])
    with pytest.raises(ValueError, match="no undamaged checkpoint"):
        load_checkpoint(tmp_path, blank(), SETTINGS)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"files": 3}', '{"files": {"a": null}}'])
def test_any_manifest_is_read_without_falling_over(tmp_path, content):
    path = save(tmp_path, 1)
    (path / "checkpoint.json").write_text(content)
    assert find_damage(path) is not None


def test_a_tensor_file_that_was_not_written_with_it_is_damage(tmp_path):
    path = save(tmp_path, 1)
    (path / "more.safetensors").write_bytes((path / FILES[0]).read_bytes())
    with pytest.raises(ValueError, match=r"more\.safetensors is not part"):
        load_checkpoint(tmp_path, blank(), SETTINGS)


def test_a_half_written_folder_is_not_a_checkpoint(tmp_path):
    path = save(tmp_path, 1)
    shutil.copytree(path, tmp_path / ".writing-step-00000002")
    assert load_checkpoint(tmp_path, blank(), SETTINGS)["n"] == 1
    save(tmp_path, 2)
    assert not (tmp_path / ".writing-step-00000002").exists()


def test_other_settings_are_refused_with_both_values(tmp_path):
    save(tmp_path, 1)
    other = {"model": {"size": 4}, "training": {"seed": 2}}
    with pytest.raises(ValueError, match=r"training\.seed was 1 .* now 2"):
        load_checkpoint(tmp_path, blank(), other)


def test_other_tensors_are_refused_by_name(tmp_path):
    save(tmp_path, 1)
    tensors = blank() | {"model.bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"model\.bias is saved as \(3,\), expected \(4,\)"):
        load_checkpoint(tmp_path, tensors, SETTINGS)


def test_a_name_in_two_parts_is_refused(tmp_path):
    with pytest.raises(ValueError, match="two parts"):
        save_checkpoint(tmp_path, 1, [{"a": torch.zeros(1)}, {"a": torch.zeros(1)}], {}, 2)


def names(root) -> list[str]:
    return sorted(p.name for p in root.iterdir())


def test_every_so_many_are_kept_for_good(tmp_path):
    for step in range(1, 12):
        save_checkpoint(tmp_path, step, parts(step), {"settings": SETTINGS}, 2, keep_every=4)
    assert [int(name[5:]) for name in names(tmp_path)] == [4, 8, 10, 11]


def test_the_newest_is_by_number_and_other_folders_are_left_alone(tmp_path):
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    (tmp_path / "step-of-mine").mkdir()
    save(tmp_path, 100_000_001)
    assert names(tmp_path) == ["step-100000000", "step-100000001", "step-of-mine"]
    assert load_checkpoint(tmp_path, blank(), SETTINGS)["n"] == 100_000_001


def test_what_is_written_beside_the_training_is_what_was_there_when_it_was_asked_for(tmp_path):
    tensors = parts(1.0)
    with CheckpointWriter(tmp_path, 2) as writer:
        writer.save(1, tensors, {"settings": SETTINGS, "n": 1})
        for part in tensors:
            for tensor in part.values():
                tensor.fill_(7.0)
    found = blank()
    load_checkpoint(tmp_path, found, SETTINGS)
    for part in parts(1.0):
        for name, tensor in part.items():
            assert torch.equal(found[name], tensor)


def test_training_goes_on_while_one_is_written_and_waits_before_the_next(tmp_path, monkeypatch):
    from model import checkpoint

    gate, begun, order = threading.Event(), threading.Event(), []
    original = checkpoint._write

    def slow(folder, step, *rest):
        begun.set()
        gate.wait(30)
        original(folder, step, *rest)
        order.append(step)

    monkeypatch.setattr(checkpoint, "_write", slow)
    with CheckpointWriter(tmp_path, 5) as writer:
        writer.save(1, parts(1.0), {"settings": SETTINGS})
        assert begun.wait(30)
        writer.check()  # neither waits nor complains
        assert not list(tmp_path.glob("step-*"))
        threading.Timer(0.05, gate.set).start()
        writer.save(2, parts(2.0), {"settings": SETTINGS})
        assert order[0] == 1 and (tmp_path / "step-00000001").is_dir()
    assert order == [1, 2] and names(tmp_path) == ["step-00000001", "step-00000002"]


def test_what_went_wrong_in_the_writing_is_heard_at_the_next_call_and_at_the_end(tmp_path):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "checkpoints"
    writer = CheckpointWriter(root, 2)
    writer.save(1, parts(1.0), {"settings": SETTINGS})
    with pytest.raises(OSError, match="step-00000001: the checkpoint could not be written"):
        writer.save(2, parts(1.0), {"settings": SETTINGS})
    with pytest.raises(OSError, match="step-00000003"), writer:
        writer.save(3, parts(1.0), {"settings": SETTINGS})
    # Another error on its way out is not hidden by it.
    with pytest.raises(KeyError), CheckpointWriter(root, 2) as writer:
        writer.save(4, parts(1.0), {"settings": SETTINGS})
        raise KeyError("first")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    from model.checkpoint import read_checkpoint

    with pytest.raises(ValueError, match="step-00000001 is not there"):
        read_checkpoint(tmp_path / "step-00000001", blank(), SETTINGS)
