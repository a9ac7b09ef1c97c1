"""The stage `train` with several processes, and what else its recipe may ask for."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from pipelines.recipe import Recipe

TRAIN = {"batch_size": 2, "micro_batch_size": 1, "checkpoint_every": 10, "average": 0.9}


@pytest.fixture
def before_training(finished, line, make_run):
    """Make a run whose stages before training are done."""

    def make(name: str, **train):
        run = make_run(name)
        recipe = yaml.safe_load((run.directory / "tiny.yaml").read_text())
        run.write(train=recipe["train"] | TRAIN | train)
        for stage in line[: line.index("train")]:
            shutil.copytree(finished.out / stage, run.out / stage)
        return run

    return make


def children(process: subprocess.Popen) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, check=False)
    return [int(number) for number in found.stdout.split()]


def weights(run) -> dict[str, str]:
    return {path: sum_ for path, sum_ in run.bytes("train").items() if path != "validation.json"}


@pytest.mark.slow
def test_ranks_of_a_recipe_stop_go_on_under_torchrun_and_make_what_one_process_makes(
    before_training,
):
    one, several = before_training("one"), before_training("several", ranks=2)
    one("train", "tiny.yaml")
    process = several.start("train", "tiny.yaml")
    deadline = time.monotonic() + 200
    while not list(several.out.glob("train/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    others = children(process)
    assert len(others) == 1  # rank 1
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0 and "run the same command again" in err, err
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in others):  # noqa: PTH110
        assert time.monotonic() < deadline
        time.sleep(0.01)

    def torchrun():
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
             "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr",
             "127.0.0.1", "-m", "pipelines.cli", "train", "tiny.yaml"],
            cwd=several.directory,
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = torchrun()
    assert said.count("held-out documents") == 1  # rank 0 alone speaks
    assert weights(several) == weights(one)
    assert {"final/model.safetensors", "average/model.safetensors"} <= weights(one).keys()
    ours, theirs = (run.manifest("train")["metrics"]["validation"] for run in (several, one))
    for domain, entry in theirs.items():
        for key in ("loss", "bits_per_byte", "average_loss"):
            assert ours[domain][key] == pytest.approx(entry[key], rel=1e-6)
    assert "done before" in torchrun()  # nothing to do: rank 1 is sent home


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_stage_with_one_line(before_training):
    run = before_training("dying", ranks=2)
    process = run.start("train", "tiny.yaml")
    deadline = time.monotonic() + 200
    while not list(run.out.glob("train/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    for pid in children(process):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    lines = err.strip().splitlines()
    assert process.returncode == 1, err
    assert lines[-1].startswith("error: train: another rank is gone"), err
    assert "Traceback" not in err


def test_the_documents_of_a_position_are_those_of_its_pieces(finished):
    import pyarrow.parquet as pq

    from pipelines.stages.train import prepare
    from pipelines.training import documents_at

    training = prepare(read_recipe(finished))
    loader = training.loader
    ids = set()
    for shard in finished.out.glob("encode/*.documents.parquet"):
        ids |= set(pq.read_table(shard, columns=["id"])["id"].to_pylist())
    for position in (0, len(loader) - 1):
        found = documents_at(training, position)
        assert len(found) == len(loader.pieces(position)) > 0
        assert set(found) <= ids


def read_recipe(run) -> Recipe:
    content = yaml.safe_load((run.directory / "tiny.yaml").read_text())
    return Recipe.model_validate(content | {"out": str(run.out)})


def test_bits_per_byte_are_over_the_text_s_own_bytes(finished):
    from pipelines.stages.train import prepare
    from tok import Encoder

    encoder = Encoder.load(finished.out / "tokenizer")
    special = set(encoder.special.values())
    training = prepare(read_recipe(finished))
    for domain, own in training.held_out.items():
        labels = [
            label
            for batch in own.batches(4)
            for label in batch["labels"].flatten().tolist()
            if label >= 0 and label not in special
        ]
        text = encoder.decode_bytes(labels)
        entry = finished.manifest("train")["metrics"]["validation"][domain]
        bits = entry["loss"] * entry["tokens"] / 0.6931471805599453
        assert entry["bits_per_byte"] == pytest.approx(bits / len(text), rel=1e-9)


@pytest.mark.skipif(
    importlib.util.find_spec("wandb") is not None, reason="Weights & Biases is installed"
)
def test_weights_and_biases_that_is_not_installed_is_said_in_one_line(before_training):
    run = before_training("wandb", wandb="a-project")
    _, err = run("train", "tiny.yaml", code=1)
    assert "error: wandb: Weights & Biases is not installed" in err
    assert not (run.out / "train" / "metrics.jsonl").exists()


def test_each_line_says_what_share_of_the_peak_was_used(finished):
    record = (finished.out / "train" / "metrics.jsonl").read_text().splitlines()
    shares = [line["mfu"] for line in map(json.loads, record) if "eval" not in line]
    assert shares and all(0 < share < 1.5 for share in shares)
    assert finished.manifest("train")["metrics"]["peak_operations_per_second"] > 0


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"micro_batch_size": 3}, "micro_batch_size 3 does not divide batch_size 8"),
        ({"first_batch_size": 4}, "first_batch_size and batch_ramp go together"),
        (
            {"micro_batch_size": 2, "first_batch_size": 3, "batch_ramp": 0.1},
            "first_batch_size 3 is not a multiple of micro_batch_size 2",
        ),
    ],
)
def test_sizes_of_batches_that_do_not_fit_are_refused(train, message):
    from pipelines.recipe_training import TrainSection

    with pytest.raises(ValueError, match=message):
        TrainSection.model_validate(train)


def test_the_published_run_can_be_written_in_a_recipe():
    from pipelines.recipe_training import TrainSection

    section = TrainSection.model_validate(
        {
            "preset": "v3-671b", "batch_size": 15360, "micro_batch_size": 1,
            "first_batch_size": 3072, "batch_ramp": "469e9", "learning_rate": "2.2e-4",
            "warmup_steps": 2000, "decay": "4.3e12", "moments": "bfloat16",
            "tails": [{"amount": "333e9", "ratio": 0.1}, {"amount": "167e9", "ratio": 0.0331818}],
            "mtp_switch": "10e12", "bias_update_until": "14.3e12",
        }
    )  # fmt: skip
    assert section.decay == 4.3e12 and section.tails[1].amount == 167e9
