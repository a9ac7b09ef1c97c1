"""Ranks in processes of their own, over gloo on loopback, against one process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from model.checkpoint import find_checkpoint
from model.parallel import ALONE, Ranks
from model.trainer import train

TRAINEE = Path(__file__).with_name("trainee.py")
ROOT = Path(__file__).parents[2]
CLOCK = ("tokens_per_second", "mfu")


def lines(out: Path) -> list[dict]:
    record = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in record]


def launch(ranks: int, out: Path, count: int, **settings) -> subprocess.Popen:
    """Start `torchrun` with so many ranks, on loopback."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks),
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
         str(TRAINEE), str(out), str(count), json.dumps(settings)],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def torchrun(ranks: int, out: Path, count: int, **settings) -> str:
    process = launch(ranks, out, count, **settings)
    found, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return found


def alone(trainee, out: Path, count: int, **settings) -> None:
    arguments = (trainee.MODEL, trainee.config(**settings), trainee.steps(count), trainee.HELD_OUT)
    train(*arguments, out, source_names=trainee.NAMES)


def close(one: object, other: object) -> bool:
    """Whether two lines of a record, or parts of them, are equal within 1e-5."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, rel=1e-5, abs=1e-7)


def furthest(one: Path, other: Path) -> float:
    """The largest difference between two runs' weights, of everything in `final`."""
    a, b = (load_file(out / "final" / "model.safetensors") for out in (one, other))
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


# At rates of a larger one the first updates, which only know signs, would magnify rounding.
SLOW = {"learning_rate": 1e-3}


@pytest.mark.slow
def test_two_ranks_are_one_with_two_micro_batches_and_nearly_one_whole_batch(trainee, tmp_path):
    two, one, whole = (tmp_path / name for name in ("two", "one", "whole"))
    said = torchrun(2, two, 6, **SLOW)
    alone(trainee, one, 6, **SLOW)
    alone(trainee, whole, 6, micro_batch_size=4, **SLOW)
    # A rank with a micro-batch is a micro-batch: the same sums in the same order.
    assert furthest(two, one) == 0
    for out in (one, whole):
        assert furthest(two, out) < 1e-5
        assert all(map(close, lines(two), lines(out))) and len(lines(two)) == len(lines(out)) == 8
        for mine, other in zip(lines(two), lines(out), strict=True):
            assert mine.get("expert_load") == other.get("expert_load")
    # Both give the same summary; one of them has written.
    summaries = dict(line.split(": ", 1) for line in said.splitlines() if line.startswith("rank"))
    assert json.loads(summaries["rank 0"]) == json.loads(summaries["rank 1"])


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_resumes_on_one_and_the_other_way(trainee, tmp_path):
    settings = SLOW | {"average": 0.9, "moments": "bfloat16", "checkpoint_every": 100}
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    alone(trainee, whole, 9, **settings)

    def stop(after):
        def progress(line):
            if line["step"] == after:
                signal.raise_signal(signal.SIGTERM)

        return progress

    arguments = (trainee.MODEL, trainee.config(**settings), trainee.steps(9), trainee.HELD_OUT)
    names = {"source_names": trainee.NAMES}
    assert train(*arguments, mixed, progress=stop(3), **names)["step"] == 3
    process = launch(2, mixed, 9, **settings)
    deadline = time.monotonic() + 120
    while len(lines(mixed)) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.terminate()  # torchrun passes it on; the ranks end their step and save
    process.communicate(timeout=120)
    assert not (mixed / "final").exists()
    reached = lines(mixed)[-1]["step"]
    assert 4 <= reached < 9
    seen = []
    train(*arguments, mixed, progress=seen.append, **names)
    assert seen[0]["step"] == reached + 1
    assert furthest(mixed, whole) < 1e-5
    assert all(map(close, lines(mixed), lines(whole)))


def start_ranks(count: int, command: list, directory: Path) -> list[subprocess.Popen]:
    """Start ranks without torchrun, told who they are by the environment alone."""
    environment = os.environ | {
        "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment | {"RANK": str(rank)},
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_when_a_rank_is_killed_the_others_end_with_a_word(tmp_path):
    ranks = start_ranks(2, [TRAINEE, tmp_path / "out", 400], tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/checkpoints/step-*")):
        assert ranks[0].poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    ranks[1].kill()
    _, errors = ranks[0].communicate(timeout=120)
    ranks[1].communicate()
    assert ranks[0].returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("RankError: another rank is gone"), errors
    assert find_checkpoint(tmp_path / "out" / "checkpoints") is not None


@given(st.integers(0, 40), st.integers(1, 9))
def test_ranks_share_pieces_in_order_and_evenly(pieces, count):
    shares = [Ranks(rank, count).share(pieces) for rank in range(count)]
    assert [piece for share in shares for piece in share] == list(range(pieces))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_one_process_sends_nothing():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    ALONE.add_gradients([parameter])
    ALONE.agree({"any": 1})
    assert ALONE.add([1.5]) == [1.5] and ALONE.tell({"a": 1}) == {"a": 1}
    assert parameter.grad.tolist() == [1.0, 1.0]


COLLECTIVES = """
import importlib.util
import json
import sys
from pathlib import Path
import torch
from model import parallel
from model.parallel import RankError, join

parallel.BUCKET = 7  # several of them, and tensors that are larger than one
with join() as ranks:
    generator = torch.Generator().manual_seed(5)
    gradients = [torch.randn(ranks.count, n, generator=generator) for n in (3, 4, 1, 20, 2)]
    parameters = [torch.nn.Parameter(torch.zeros(g.shape[1])) for g in gradients]
    for parameter, g in zip(parameters, gradients):
        if not (ranks.rank == 1 and len(parameter) == 20):  # one rank has none of it
            parameter.grad = g[ranks.rank].clone()
    gradients[3][1] = 0
    ranks.add_gradients(parameters)
    for parameter, g in zip(parameters, gradients):
        expected = g[0].clone()
        for other in g[1:]:
            expected += other  # in the order of ranks
        assert torch.equal(parameter.grad, expected), (parameter.grad, expected)
    assert ranks.add([0.1, float(ranks.rank)]) == [0.1 + 0.1 + 0.1, 3.0]
    assert ranks.tell({"é": [1, None]} if ranks.rank == 0 else "ignored") == {"é": [1, None]}
    assert ranks.tell(None) is None
    ranks.agree({"same": 1})
    try:
        ranks.agree({"same": ranks.rank == 2})
    except RankError as error:
        assert "different settings" in str(error)
    else:
        sys.exit("ranks with different settings agreed")
    spec = importlib.util.spec_from_file_location("trainee", sys.argv[1])
    trainee = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trainee)
    config = trainee.config(**json.loads(sys.argv[3]))
    trainee.train(
        trainee.MODEL, config, trainee.steps(3), {}, Path(sys.argv[2]), ranks=ranks
    )
"""


@pytest.mark.slow
def test_three_ranks_add_in_their_order_to_the_bit_and_one_may_have_nothing_to_do(
    trainee, tmp_path
):
    script = tmp_path / "collectives.py"
    script.write_text(COLLECTIVES)
    three, one = tmp_path / "three", tmp_path / "one"
    for process in start_ranks(3, [script, TRAINEE, three, json.dumps(SLOW)], tmp_path):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    # There are two micro-batches a step: the third rank has none.
    alone(trainee, one, 3, **SLOW)
    assert furthest(three, one) == 0
