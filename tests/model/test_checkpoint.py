import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import find_damage, load_checkpoint, save_checkpoint

SETTINGS = {"model": {"size": 4}, "training": {"seed": 1}}


def parts(value: float) -> list[dict[str, torch.Tensor]]:
    return [
        {"model.a.weight": torch.full((4, 6), value), "model.bias": torch.full((3,), -value)},
        {"optimizer.exp_avg.model.a.weight": torch.full((4, 6), value / 3)},
    ]


def blank() -> dict[str, torch.Tensor]:
    return {n: torch.zeros_like(t) for part in parts(1.0) for n, t in part.items()}


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
