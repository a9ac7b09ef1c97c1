"""Ray: a whole stage on two workers of a cluster of its own."""

import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")
pytestmark = pytest.mark.slow


def test_a_stage_on_ray_has_the_same_bytes(make_run, curated):
    run = make_run("ray")
    run.write_curation(executor="ray", workers=2, tasks=3)
    run("curate", "tiny.yaml")
    assert run.bytes("curate") == curated.bytes("curate")


def test_a_task_that_fails_on_ray_ends_the_run_with_its_own_words(make_run):
    run = make_run("ray")
    run.write_curation(executor="ray", workers=2, on_error="stop")
    _, err = run("curate", "tiny.yaml", code=1)
    assert "prose.jsonl.gz" in err and "malformed JSON" in err and err.count("\n") == 1, err
