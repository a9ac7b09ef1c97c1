import json
import math

import pytest

from model.record import Record, cut_back


def test_lines_reach_the_file_the_board_and_the_listener(tmp_path):
    heard = []
    with Record(tmp_path, 0, heard.append) as record:
        record.write({"step": 1, "loss": 2.5, "expert_load": [[0.75, 0.25]]})
        record.write({"step": 1, "eval": {"web": {"loss": 3.0, "tokens": 5}}})
        # Before closing: a run killed now has lost nothing.
        written = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == heard
    assert heard[1]["eval"]["web"]["tokens"] == 5
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    values = {tag: board.Scalars(tag)[0].value for tag in board.Tags()["scalars"]}
    assert values == {"loss": 2.5, "busiest_expert/0": 1.5, "eval/web": 3.0}


def test_numbers_that_are_not_finite_are_null_for_json_has_none(tmp_path):
    with Record(tmp_path, 0, None) as record:
        record.write({"step": 1, "loss": math.nan, "source_loss": {"web": math.inf}})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 1, "loss": null, "source_loss": {"web": null}}\n'
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
