"""The stage `extend`: longer sequences of the same tokens, from the trained weights, with YaRN."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from pydantic import ValidationError

from pipelines.recipe import Recipe

EXTEND = [
    {"length": 128, "tokens": 3_000},
    {"length": 192, "steps": 30, "batch_size": 1, "mixture": {"web": 1.0}},
]


@pytest.fixture(scope="module")
def trained(finished, line, tmp_path_factory):
    """Make runs whose stages up to training are done, with extensions in their recipe."""
    root = tmp_path_factory.mktemp("extended")

    def make(name: str):
        run = type(finished)(root / name)
        run.write(extend=EXTEND)
        for stage in line[: line.index("train") + 1]:
            shutil.copytree(finished.out / stage, run.out / stage)
        return run

    return make


@pytest.fixture(scope="module")
def extended(trained):
    run = trained("whole")
    run("extend", "tiny.yaml")
    return run


def recipe_of(run) -> Recipe:
    content = yaml.safe_load((run.directory / "tiny.yaml").read_text())
    return Recipe.model_validate(content | {"out": str(run.out)})


@pytest.mark.slow
def test_longer_sequences_come_from_the_same_shards_behind_what_was_trained(extended):
    from packing.loader import Loader

    plans = [extended.out / "plan", extended.out / "extend" / "plan"]
    before, after = (json.loads((plan / "plan.json").read_text()) for plan in plans)
    assert [phase["length"] for phase in after["phases"]] == [64, 128, 192]
    assert after["validation"] == before["validation"]
    for name in before["phases"][0]["files"]:
        assert (plans[0] / name).read_bytes() == (plans[1] / name).read_bytes()
    loader = Loader.open(plans[1], extended.out / "encode", ["phase-1", "phase-2"], 2)
    lengths = {loader.length(position) for position in range(len(loader))}
    assert lengths == {128, 192}
    longest = max(p["length"] for n in range(len(loader)) for p in loader.pieces(n))
    assert longest > 64
    assert {path.name for path in (extended.out / "extend" / "0").iterdir()} >= {
        "final", "metrics.jsonl", "validation.json", "checkpoints",
    }  # fmt: skip


@pytest.mark.slow
def test_each_extension_begins_from_the_weights_before_it_with_its_own_factor(extended):
    for part, (length, factor, start) in enumerate(
        [(128, 2, "train/final"), (192, 3, "extend/0/final")]
    ):
        folder = extended.out / "extend" / str(part)
        config = json.loads((folder / "final" / "config.json").read_text())
        assert config["rope_scaling"] == {
            "type": "yarn", "factor": factor, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 64,
        }  # fmt: skip
        assert config["max_position_embeddings"] == 256  # it was that before
        first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
        assert first["lr"] == pytest.approx(3e-3 * 0.1)
        from pipelines.stages.extend import prepare

        training = prepare(recipe_of(extended), part)
        assert training.start == extended.out / start
        assert training.loader.length(0) == length
    runs = extended.manifest("extend")["metrics"]["runs"]
    assert 30 <= runs[1]["steps"] <= 33 and runs[0]["validation"].keys() == {"web", "code"}


@pytest.mark.slow
def test_a_killed_extension_goes_on_to_the_same_bytes(extended, trained):
    run = trained("killed")
    process = run.start("extend", "tiny.yaml")
    deadline = time.monotonic() + 200
    while not list(run.out.glob("extend/0/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run.out / "extend" / "manifest.json").exists()
    run("extend", "tiny.yaml")
    assert run.bytes("extend") == extended.bytes("extend")


@pytest.mark.slow
def test_two_ranks_of_torchrun_do_one_extension_after_another_to_the_same_weights(
    extended, trained
):
    run = trained("ranks")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr",
         "127.0.0.1", "-m", "pipelines.cli", "extend", "tiny.yaml"],
        cwd=run.directory, env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        {path: sum_ for path, sum_ in x.bytes("extend").items() if "validation.json" not in path}
        for x in (run, extended)
    )
    assert ours == theirs and "1/final/model.safetensors" in ours


@pytest.mark.slow
def test_the_export_is_of_the_extended_weights(extended):
    from safetensors.torch import load_file

    out, _ = extended("run", "tiny.yaml")
    assert "extend: held-out documents" in out
    folder = extended.out / "export" / "checkpoint"
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_scaling"]["factor"] == 3
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 192
    name = "model.embed_tokens.weight"
    weights = [
        load_file(path / "model.safetensors")[name]
        for path in (folder, extended.out / "extend/1/final", extended.out / "train/final")
    ]
    assert (weights[0] == weights[1]).all() and (weights[0] != weights[2]).any()
    assert "Longer contexts" in (extended.out / "report" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("extend", "message"),
    [
        ([{"length": 64, "steps": 1}], "extend.0.length 64 is no extension"),
        ([{"length": 128, "steps": 1}, {"length": 96, "steps": 1}], "extend.1.length 96"),
        ([{"length": 128}], "expected `tokens` or `steps`"),
        ([{"length": 128, "steps": 1, "tokens": 9}], "expected `tokens` or `steps`"),
        ([{"length": 128, "steps": 1, "factor": 1.5}], "expected at least 2"),
        ([{"length": 128, "steps": 1, "mixture": {"web": 0.5}}], "shares must add up to 1"),
        ([{"length": 128, "steps": 1, "batch_size": 3, "micro_batch_size": 2}], "does not divide"),
    ],
)
def test_an_extension_that_is_none_is_refused(extend, message):
    content = {
        "name": "x",
        "sample": {},
        "encode": {"fim": {"span_tokens": 32}},
        "plan": {"phases": [{"length": 64, "tokens": 100, "mixture": {"web": 1}}]},
    }
    Recipe.model_validate(content)
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(content | {"extend": extend})
    assert message in str(caught.value)


def test_extend_without_its_section_says_so(make_run):
    _, err = make_run("none")("extend", "tiny.yaml", code=2)
    assert err.strip() == (
        "error: tiny.yaml: extend: missing; `gristmill extend` needs this section"
    )
