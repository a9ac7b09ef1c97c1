"""Which sequences a step took, by what training recorded."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.step_record import StepRecord

ENDS = (37, 60, 100)


def phase_end(position):
    return next(end for end in ENDS if position < end)


def write(path, sizes, every=1, extra=True):
    """Lines of steps that took so many sequences, with lines of evaluations among them."""
    consumed = 0
    with path.open("w") as file:
        for step, size in enumerate(sizes, 1):
            consumed += size
            if step % every == 0:
                line = {"step": step, "sequences": consumed, "loss": None, "pad": "x" * (step % 90)}
                file.write(json.dumps(line) + "\n")
            if extra and step % 3 == 0:
                file.write(json.dumps({"step": step, "eval": {"web": {"loss": 1.0}}}) + "\n")
    return consumed


def steps_of(batch_size, until=ENDS[-1]):
    """The sizes of steps of one batch size, cut at the phases' ends."""
    at, sizes = 0, []
    while at < until:
        sizes.append(min(batch_size, phase_end(at) - at))
        at += sizes[-1]
    return sizes


def check(record, sizes, recorded=None):
    at = 0
    for number, size in enumerate(sizes, 1):
        found = record.step(number)
        assert (found.first, found.last) == (at, at + size)
        if recorded is not None:
            assert found.recorded == (number <= recorded)
        for position in range(at, at + size):
            assert record.step_at(position) == found
        at += size
    return at


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=25), extra=st.booleans())
def test_any_batch_sizes_that_were_recorded_are_found(tmp_path_factory, sizes, extra):
    path = tmp_path_factory.mktemp("record") / "metrics.jsonl"
    total = write(path, sizes, extra=extra)
    record = StepRecord(path, total, lambda position: total, 3)
    check(record, sizes, recorded=len(sizes))
    with pytest.raises(ValueError, match=f"ends with step {len(sizes)}"):
        record.step(len(sizes) + 1)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 45), every=st.integers(1, 7), done=st.integers(0, 100))
def test_steps_between_recorded_ones_and_ahead_have_the_batch_size(
    tmp_path_factory, size, every, done
):
    path = tmp_path_factory.mktemp("record") / "metrics.jsonl"
    sizes = steps_of(size)
    write(path, sizes[:done], every)
    record = StepRecord(path, ENDS[-1], phase_end, size)
    assert check(record, sizes, recorded=min(done, len(sizes)) // every * every) == ENDS[-1]


def test_without_a_record_the_batch_size_decides_and_without_both_it_is_asked_for(tmp_path):
    path = tmp_path / "metrics.jsonl"
    check(StepRecord(path, 100, phase_end, 8), steps_of(8), recorded=0)
    for ask in (lambda r: r.step(1), lambda r: r.step_at(5)):
        with pytest.raises(ValueError, match="--batch-size"):
            ask(StepRecord(path, 100, phase_end, None))


def test_the_last_recorded_step_tells_the_size_of_the_next(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [2, 2, 4, 4])
    record = StepRecord(path, 100, phase_end, None)
    assert (record.step(5).first, record.step(5).last) == (12, 16)


def test_a_batch_that_grew_unseen_is_not_guessed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [2, 2, 2, 5], every=4)
    record = StepRecord(path, 100, phase_end, 2)
    for number in (2, 4):
        with pytest.raises(ValueError, match="steps 1 to 4 have one line, and took 11"):
            record.step(number)
    assert (record.step(5).first, record.step(5).last) == (11, 13)


def test_a_last_line_that_was_cut_short_is_as_if_not_there(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [5] * 6)
    content = path.read_bytes()
    for cut in range(1, 60, 7):
        path.write_bytes(content[:-cut])
        check(StepRecord(path, 100, lambda p: 100, 5), [5] * 20)


def test_a_record_of_another_plan_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [9] * 20)
    with pytest.raises(ValueError, match="180 sequences recorded, but the plan has 100"):
        StepRecord(path, 100, phase_end, 9)
    path.write_text("what is this\n" * 50)
    with pytest.raises(ValueError, match=r"metrics.jsonl: damaged at byte"):
        StepRecord(path, 100, phase_end, 9)


@pytest.mark.parametrize("number", [0, -1])
def test_steps_count_from_one(tmp_path, number):
    with pytest.raises(ValueError, match="counted from 1"):
        StepRecord(tmp_path / "none", 100, phase_end, 9).step(number)
