"""Jobs over splits: what is done stays done, what fails is said."""

import json
import os

import pytest

from pipelines.launch import run_splits


def square(number, job, folder):
    """A job that leaves a trace of every time it runs."""
    if job["n"] == 13:
        raise ValueError("job 13 is unlucky")
    with open(os.path.join(folder, f"ran-{number}"), "a") as file:  # noqa: PTH118, PTH123
        file.write("x")
    return {"square": job["n"] ** 2}


@pytest.mark.parametrize("workers", [1, 3])
def test_records_come_in_order_and_finished_jobs_are_not_done_again(tmp_path, workers):
    jobs = [{"n": n} for n in range(5)]
    seen = []

    def run():
        return run_splits(
            square, jobs, (str(tmp_path),), done=tmp_path / "done" / "m", workers=workers,
            progress=lambda done, total: seen.append((done, total)),
        )  # fmt: skip

    assert [record["square"] for record in run()] == [0, 1, 4, 9, 16]
    (tmp_path / "done" / "m" / "00003.json").unlink()
    assert [record["square"] for record in run()] == [0, 1, 4, 9, 16]
    ran = {i: (tmp_path / f"ran-{i}").read_text() for i in range(5)}
    assert ran == {0: "x", 1: "x", 2: "x", 3: "xx", 4: "x"}
    assert seen[0] == (0, 5) and seen[-1] == (5, 5)


def test_a_failing_job_ends_the_call_with_its_own_error_and_the_others_keep_their_records(tmp_path):
    jobs = [{"n": 1}, {"n": 13}]
    with pytest.raises(ValueError, match="job 13 is unlucky"):
        run_splits(
            square, jobs, (str(tmp_path),), done=tmp_path / "m", workers=1,
            progress=lambda done, total: None,
        )  # fmt: skip
    (record,) = (tmp_path / "m").glob("*.json")
    assert json.loads(record.read_text()) == {"square": 1}
