"""The dataset: the same sequences for any ranks, workers and batch sizes, and after any stop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from packing.dataset import PackedDataset, mtp_labels
from packing.loader import Loader

sys.path.insert(0, str(Path(__file__).parent))
from packed_run import PAD, write_packed

SETS = {"phase-0": (12, 83), "phase-1": (20, 46)}
TOTAL = 129


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("run") / "r", SETS, seed=11, with_spans=True)


@pytest.fixture(scope="module")
def loader(run):
    return Loader.open(run.plan, run.shards, None, PAD)


@pytest.fixture(scope="module")
def whole(loader):
    """Every sequence of the run, as bytes by name, from the loader alone."""
    return [
        {name: part[0].numpy().tobytes() for name, part in loader.batch(k, 1).items()}
        for k in range(TOTAL)
    ]


def sequences(batches):
    """The sequences in batches, without padding: their bytes by name, in order."""
    found = []
    for batch in batches:
        for k, position in enumerate(batch["sequence_index"].tolist()):
            if position < 0:
                assert (batch["labels"][k] == -100).all() and (batch["input_ids"][k] == PAD).all()
                assert (batch["document_ids"][k] == -1).all()
                continue
            row = {name: part[k].numpy().tobytes() for name, part in batch.items()}
            found.append((position, row))
    return found


SHAPES = st.tuples(
    st.integers(1, 5), st.integers(1, 9), st.integers(1, 4)
)  # ranks, batch size, workers


def worker_batches(dataset, workers):
    """What a DataLoader gives: batches of its workers, in turn. One process does for all."""
    from torch.utils.data import _utils

    places = []
    for number in range(workers):
        _utils.worker._worker_info = _utils.worker.WorkerInfo(
            id=number, num_workers=workers, seed=0, dataset=dataset
        )
        places.append(iter(dataset))
    _utils.worker._worker_info = None
    while places:
        for place in list(places):
            batch = next(place, None)
            if batch is None:
                places.remove(place)
            else:
                yield batch


@settings(max_examples=80, deadline=None)
@given(parts=st.lists(st.tuples(SHAPES, st.integers(0, 12)), min_size=1, max_size=6))
def test_stopped_anywhere_and_changed_the_run_goes_on_with_the_same_sequences(loader, whole, parts):
    """Parts: (ranks, batch size, workers) and after how many micro-batches it was killed."""
    consumed = 0
    for (ranks, size, workers), steps in parts:
        taken = []
        for rank in range(ranks):
            dataset = PackedDataset(loader, size, consumed=consumed, rank=rank, world_size=ranks)
            batches = worker_batches(dataset, workers)
            mine = [batch for _, batch in zip(range(steps), batches, strict=False)]
            assert all(len(batch["sequence_index"]) == size for batch in mine)
            taken += sequences(mine)
        after = dataset.consumed_after(steps)
        assert sorted(position for position, _ in taken) == list(range(consumed, after))
        assert all(row == whole[position] for position, row in taken)
        consumed = after
    rest = PackedDataset(loader, 7, consumed=consumed, rank=0, world_size=1)
    assert sequences(rest) == list(enumerate(whole))[consumed:]


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, consumed=st.integers(0, TOTAL))
def test_every_rank_has_as_many_batches_and_no_sequence_comes_twice(loader, shape, consumed):
    ranks, size, workers = shape
    taken, counts = [], set()
    for rank in range(ranks):
        dataset = PackedDataset(loader, size, consumed=consumed, rank=rank, world_size=ranks)
        mine = list(worker_batches(dataset, workers))
        counts.add(len(mine))
        taken += [position for position, _ in sequences(mine)]
        assert len(mine) == len(dataset)
    assert len(counts) == 1 and sorted(taken) == list(range(consumed, TOTAL))
    assert dataset.consumed_after(counts.pop()) == TOTAL


def test_each_step_takes_the_sequences_next_in_order(loader):
    datasets = [PackedDataset(loader, 4, rank=rank, world_size=3) for rank in range(3)]
    for step, batches in enumerate(zip(*datasets, strict=True)):
        positions = [p for batch in batches for p in batch["sequence_index"].tolist() if p >= 0]
        start, end = (datasets[0].consumed_after(k) for k in (step, step + 1))
        assert positions == list(range(start, end))


@pytest.mark.slow
@pytest.mark.parametrize("singles", [False, True])
def test_real_workers_give_the_same_as_none(loader, whole, singles):
    for workers in (0, 1, 3):
        dataset = PackedDataset(loader, 5, consumed=9, singles=singles)
        batches = DataLoader(dataset, batch_size=5 if singles else None, num_workers=workers)
        assert sequences(batches) == list(enumerate(whole))[9:]
        assert len(batches) == len(list(dataset)) // (5 if singles else 1)


@pytest.mark.slow
def test_workers_that_are_not_forked_open_the_files_themselves(loader, whole):
    dataset = PackedDataset(loader, 6)
    batches = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert sequences(batches) == list(enumerate(whole))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "singles"), [(0, False), (0, True), (2, False), (3, True)])
def test_the_stateful_loader_goes_on_where_it_was(loader, whole, workers, singles):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def open_loader(consumed=2):
        dataset = PackedDataset(loader, 4, consumed=consumed, singles=singles)
        return stateful.StatefulDataLoader(
            dataset, batch_size=4 if singles else None, num_workers=workers
        )

    first = open_loader()
    taken = [batch for _, batch in zip(range(9), first, strict=False)]
    state = json.loads(json.dumps(first.state_dict()))  # what a checkpoint in JSON keeps
    del first
    second = open_loader()
    second.load_state_dict(state)
    assert sequences([*taken, *second]) == list(enumerate(whole))[2:]
    third = open_loader(consumed=PackedDataset(loader, 4, consumed=2).consumed_after(9))
    assert sequences(third) == list(enumerate(whole))[2 + 9 * 4 :]


def test_a_state_of_other_ranks_or_sizes_is_refused_with_the_way_out(loader):
    place = iter(PackedDataset(loader, 4, rank=0, world_size=2))
    next(place)
    for other in (
        PackedDataset(loader, 5, rank=0, world_size=2),
        PackedDataset(loader, 4, rank=1, world_size=2),
        PackedDataset(loader, 4, rank=0, world_size=1),
    ):
        with pytest.raises(ValueError, match=r"does not fit .*consumed="):
            iter(other).load_state_dict(place.state_dict())


KILLED = """
import json, sys, time
from pathlib import Path
from torch.utils.data import DataLoader
from packing.dataset import PackedDataset
from packing.loader import Loader

plan, shards, record, pad, consumed, size, workers = sys.argv[1:]
dataset = PackedDataset(
    Loader.open(Path(plan), Path(shards), None, int(pad)), int(size), consumed=int(consumed)
)
batches = DataLoader(dataset, batch_size=None, num_workers=int(workers))
for k, batch in enumerate(batches):
    with open(record, "a") as file:
        for position, ids in zip(batch["sequence_index"].tolist(), batch["input_ids"].tolist()):
            if position >= 0:
                file.write(json.dumps([position, ids]) + "\\n")
        file.write(json.dumps({"consumed": dataset.consumed_after(k + 1)}) + "\\n")
    time.sleep(0.05)  # as long as a small step, so that there is a time to be killed in
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_with_another_number_of_workers(run, loader, tmp_path):
    record = tmp_path / "record.jsonl"
    consumed, kills = 0, 0
    for size, workers, most in ((4, 2, 5), (3, 0, 8), (6, 1, 2), (5, 2, None)):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(run.plan), str(run.shards), str(record),
             str(PAD), str(consumed), str(size), str(workers)],
            start_new_session=True,
        )  # fmt: skip
        before = consumed
        while process.poll() is None and most is not None:
            lines = record.read_text().splitlines() if record.exists() else []
            seen = [json.loads(x) for x in lines if x.startswith("{") and x.endswith("}")]
            if seen and seen[-1]["consumed"] >= before + most * size:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
        process.wait()
        # What a checkpoint would hold: the steps whose line is whole, and nothing after them.
        lines = record.read_text().splitlines(keepends=True)
        marks = [k for k, x in enumerate(lines) if x.startswith("{") and x.endswith("}\n")]
        consumed = json.loads(lines[marks[-1]])["consumed"]
        record.write_text("".join(lines[: marks[-1] + 1]))
    rows = [json.loads(x) for x in record.read_text().splitlines() if x.startswith("[")]
    expected = [[k, loader.batch(k, 1)["input_ids"][0].tolist()] for k in range(TOTAL)]
    assert rows == expected and consumed == TOTAL and kills >= 1


@pytest.mark.parametrize("apart", [False, True])
def test_mtp_labels_are_the_tokens_further_on(run, apart):
    loader = Loader.open(run.plan, run.shards, None, PAD, apart=apart)
    (batch, *_) = PackedDataset(loader, 9, mtp_depth=3)
    assert batch["mtp_labels"].shape == (9, 3, 12) and batch["mtp_labels"].dtype == torch.int64
    labels, documents = batch["labels"].tolist(), batch["document_ids"].tolist()
    for b in range(9):
        for k in (1, 2, 3):
            for t in range(12):
                target = labels[b][t + k] if t + k < 12 else -100
                if apart and target != -100 and documents[b][t] != documents[b][t + k + 1]:
                    target = -100
                assert batch["mtp_labels"][b, k - 1, t] == target
    assert (mtp_labels(batch, 30)[:, 11:] == -100).all()


def test_samples_apart_have_no_label_across_them_and_ids_to_mask_by(run):
    joined = Loader.open(run.plan, run.shards, None, PAD).batch(0, 40)
    apart = Loader.open(run.plan, run.shards, None, PAD, apart=True).batch(0, 40)
    documents = apart["document_ids"]
    edge = torch.zeros_like(documents, dtype=torch.bool)
    edge[:, :-1] = documents[:, :-1] != documents[:, 1:]
    assert (apart["labels"][edge] == -100).all() and (joined["labels"][edge] >= 0).any()
    assert torch.equal(apart["labels"][~edge], joined["labels"][~edge])
    assert torch.equal(documents, joined["document_ids"])


BAD = [
    ({"batch_size": 0}, "batch_size"), ({"consumed": -1}, "consumed"), ({"rank": 2}, "rank"),
    ({"consumed": TOTAL + 1}, "consumed"), ({"world_size": 0}, "world_size"),
    ({"mtp_depth": -1}, "mtp_depth"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "name"), BAD)
def test_a_wrong_argument_is_named(loader, changes, name):
    arguments = {"batch_size": 2, "rank": 0, "world_size": 2} | changes
    with pytest.raises(ValueError, match=f"^{name}: "):
        PackedDataset(loader, **arguments)


@pytest.mark.slow
def test_ranks_are_those_of_torch_distributed(run, tmp_path):
    code = """
import sys
import torch.distributed as dist
from packing.dataset import PackedDataset
from packing.loader import Loader
rank, store, plan, shards = int(sys.argv[1]), *sys.argv[2:]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
dataset = PackedDataset(Loader.open(plan, shards), 8)
print(next(iter(dataset))["sequence_index"].tolist())
dist.destroy_process_group()
"""
    arguments = (str(tmp_path / "store"), str(run.plan), str(run.shards))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), *arguments], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in ranks]
    assert found == [list(range(8)), list(range(8, 16))]
