import importlib.util
import json
import math

import pytest

from model.record import Record, cut_back


def test_lines_reach_the_file_the_board_and_the_listener(tmp_path):
    heard = []
    with Record(tmp_path, 0, heard.append) as record:
        record.write({"step": 1, "loss": 2.5, "expert_load": [[0.75, 0.25]]})
        web = {"loss": 3.0, "tokens": 5, "bits_per_byte": 1.25}
        average = {"web": {"loss": 2.0, "bits_per_byte": None}}
        record.write({"step": 1, "eval": {"web": web}, "average_eval": average})
        # Before closing: a run killed now has lost nothing.
        written = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == heard
    assert heard[1]["eval"]["web"]["tokens"] == 5
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    values = {tag: board.Scalars(tag)[0].value for tag in board.Tags()["scalars"]}
    assert values == {
        "loss": 2.5,
        "busiest_expert/0": 1.5,
        "eval/web": 3.0,
        "eval/web/bits_per_byte": 1.25,
        "average_eval/web": 2.0,
    }


def test_numbers_that_are_not_finite_are_null_for_json_has_none(tmp_path):
    with Record(tmp_path, 0, None) as record:
        line = {"step": 1, "loss": math.nan, "source_loss": {"web": math.inf}}
        record.write(line | {"eval": {"web": {"loss": math.nan, "mtp_loss": [math.nan, 1.0]}}})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 1, "loss": null, "source_loss": {"web": null}, '
        '"eval": {"web": {"loss": null, "mtp_loss": [null, 1.0]}}}\n'
    )


@pytest.mark.parametrize("tail", ["", '{"step": 3, "lo', "\x00\x00", "[]\n", '{"loss": 1}\n'])
def test_the_record_is_cut_back_to_a_step(tmp_path, tail):
    metrics = tmp_path / "metrics.jsonl"
    kept = '{"step": 1}\n{"step": 2}\n{"step": 2, "eval": {}}\n'
    metrics.write_text(kept + '{"step": 3}\n' + tail)
    cut_back(metrics, 2)
    assert metrics.read_text() == kept
    cut_back(tmp_path / "absent", 2)
    assert not (tmp_path / "absent").exists()


INSTALLED = importlib.util.find_spec("wandb") is not None


@pytest.mark.skipif(INSTALLED, reason="Weights & Biases is installed")
def test_weights_and_biases_asked_for_and_not_installed_is_said_before_anything(tmp_path):
    with pytest.raises(ValueError, match="wandb: Weights & Biases is not installed"):
        Record(tmp_path, 0, None, "a-project")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not INSTALLED, reason="Weights & Biases is not installed")
def test_weights_and_biases_gets_the_numbers_and_one_name_for_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for step in (1, 2):
        with Record(tmp_path, step - 1, None, "a-project") as record:
            record.write({"step": step, "loss": 2.5})
    name = (tmp_path / "wandb-run").read_text()
    runs = [path for path in (tmp_path / "wandb").glob("offline-run-*") if path.is_dir()]
    assert runs and all(path.name.endswith(name) for path in runs)
