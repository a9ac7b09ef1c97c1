"""The mixture, the plan and the loader: exact, traceable, the same from any place."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from packing import MixtureError, Phase, PlanConfig, Shard, Validation, make_plan
from packing.loader import Loader
from packing.mixture import Pile, select
from packing.shards import DOCUMENTS_SCHEMA, write_shard

SOURCES = {"wiki": "web", "blog": "web", "repo": "code", "proofs": "math"}


def write_corpus(directory, documents_per_shard=300, shards=2, seed=0):
    """Token shards whose every token is its document's number, so that rows can be read back."""
    rng = np.random.default_rng(seed)
    number = 0
    stems = []
    for s in range(shards):
        lengths = rng.lognormal(4, 1, documents_per_shard).astype(np.int64).clip(1, 900)
        sources = rng.choice(list(SOURCES), documents_per_shard, p=[0.4, 0.2, 0.25, 0.15])
        tokens = np.repeat(np.arange(number, number + len(lengths)), lengths).astype(np.int32)
        atomic = [
            [{"start": 1, "length": min(int(n) - 1, 60)}] if n > 10 and i % 7 == 0 else None
            for i, n in enumerate(lengths)
        ]
        table = pa.table(
            {
                "id": [f"{number + i:032x}" for i in range(len(lengths))],
                "source": sources,
                "domain": [SOURCES[x] for x in sources],
                "language": pa.nulls(len(lengths), pa.string()),
                "parents": pa.nulls(len(lengths), DOCUMENTS_SCHEMA.field("parents").type),
                "bytes": lengths,
                "tokens": lengths,
                "atomic": pa.array(atomic, DOCUMENTS_SCHEMA.field("atomic").type),
                "loss_spans": pa.nulls(len(lengths), DOCUMENTS_SCHEMA.field("loss_spans").type),
            }
        )
        stems.append(directory / f"shard-{s:05d}")
        write_shard(stems[-1], tokens, table)
        number += len(lengths)
    return stems


CONFIG = PlanConfig(
    phases=(
        Phase(64, 20_000, {"web": 0.5, "code": 0.3, "math": 0.2}),
        Phase(128, 10_000, {"web": 0.2, "code": 0.3, "math": 0.5}),
    ),
    seed=5,
    validation=Validation(0.1, 8),
)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    stems = write_corpus(directory)
    return directory, stems, make_plan(stems, directory / "plan", CONFIG)


def documents_of(planned, name):
    """How many tokens of each document stand in a set of the plan."""
    directory, _, _ = planned
    loader = Loader.open(directory / "plan", directory, [name], pad=-7)
    seen = Counter()
    for batch in loader.batches(16):
        seen.update(batch["input_ids"][batch["document_ids"] >= 0].tolist())
    return seen


def test_shares_are_met_by_tokens(planned):
    _, _, plan = planned
    for phase in plan["phases"]:
        for domain in phase["domains"].values():
            slack = max(0.01 * domain["wanted"], phase["length"])
            assert abs(domain["planned"] - domain["wanted"]) <= slack
        assert phase["fill"] > 0.98


def test_the_rows_hold_the_documents_that_the_mixture_chose_and_no_other_token(planned):
    for phase in planned[2]["phases"]:
        assert sum(documents_of(planned, phase["name"]).values()) == phase["tokens"]


def test_every_document_is_whole_in_a_phase(planned):
    _, stems, _ = planned
    lengths = np.concatenate([np.diff(Shard.open(stem).offsets) for stem in stems])
    for phase in ("phase-0", "phase-1"):
        for document, tokens in documents_of(planned, phase).items():
            assert tokens % lengths[document] == 0  # as often as there are epochs


def test_validation_shares_no_document_with_training(planned):
    training = set(documents_of(planned, "phase-0")) | set(documents_of(planned, "phase-1"))
    for domain in ("web", "code", "math"):
        held_out = set(documents_of(planned, f"validation-{domain}"))
        assert held_out and not held_out & training


def test_validation_takes_one_piece_of_each_document(planned):
    directory, _, _ = planned
    for domain in ("web", "code", "math"):
        loader = Loader.open(directory / "plan", directory, [f"validation-{domain}"], pad=0)
        pieces = [piece for i in range(len(loader)) for piece in loader.pieces(i)]
        names = {(piece["shard"], piece["document"]) for piece in pieces}
        assert len(names) == len(pieces) > 3


def test_documents_made_from_one_are_held_out_together(tmp_path):
    (stem,) = write_corpus(tmp_path, shards=1)
    path = tmp_path / "shard-00000.documents.parquet"
    table = pq.read_table(path)
    parent = table["id"][0].as_py()
    column = pa.array([[parent]] * len(table), DOCUMENTS_SCHEMA.field("parents").type)
    index = table.schema.get_field_index("parents")
    pq.write_table(table.set_column(index, "parents", column).cast(DOCUMENTS_SCHEMA), path)
    config = PlanConfig((Phase(64, 1000, {"web": 1}),), validation=Validation(0.5, 8))
    try:
        plan = make_plan([stem], tmp_path / "plan", config)
        assert plan["validation"]["web"]["sequences"] == 0
    except MixtureError as error:
        assert "'web'" in str(error)  # all of them held out: nothing left to train on


def test_excluded_sources_stay_out_of_validation(tmp_path):
    stems = write_corpus(tmp_path)
    config = PlanConfig(CONFIG.phases, 5, validation=Validation(0.1, 50, ("blog",)))
    make_plan(stems, tmp_path / "plan", config)
    loader = Loader.open(tmp_path / "plan", tmp_path, ["validation-web"], pad=0)
    sources = json.loads((tmp_path / "plan" / "plan.json").read_text())["sources"]
    seen = {sources[i] for b in loader.batches(8) for i in b["source_ids"].unique() if i >= 0}
    assert seen == {"wiki"}


def test_a_later_phase_leaves_the_earlier_bytes_alone(planned, tmp_path):
    directory, stems, _ = planned
    other = PlanConfig(
        (CONFIG.phases[0], Phase(64, 5000, {"math": 1.0})), 5, 4.0, {}, CONFIG.validation
    )
    make_plan(stems, tmp_path, other)
    name = "phase-0-00000.arrow"
    assert (tmp_path / name).read_bytes() == (directory / "plan" / name).read_bytes()


def test_atomic_spans_are_never_cut(planned):
    directory, _, plan = planned
    tables = [pq.read_table(directory / f"{s}.documents.parquet") for s in plan["shards"]]
    loader = Loader.open(directory / "plan", directory, ["phase-0"], pad=0)
    checked = 0
    for i in range(len(loader)):
        for piece in loader.pieces(i):
            spans = tables[piece["shard"]]["atomic"][piece["document"]].as_py() or []
            for edge in (piece["start"], piece["start"] + piece["length"]):
                for span in spans:
                    checked += 1
                    assert not span["start"] < edge < span["start"] + span["length"]
    assert checked


def test_a_plan_shorter_than_an_atomic_span_is_refused_with_its_length(planned, tmp_path):
    config = PlanConfig((Phase(32, 1000, {"web": 1}),), validation=Validation(0.1, 1))
    with pytest.raises(ValueError, match="60 tokens"):
        make_plan(planned[1], tmp_path, config)


@settings(deadline=None, max_examples=40)
@given(consumed=st.integers(0, 400), size=st.integers(1, 9))
def test_batches_from_any_place_are_what_an_unbroken_run_reads(planned, consumed, size):
    directory, _, _ = planned
    loader = Loader.open(directory / "plan", directory, ["phase-0"], pad=0)
    whole = loader.batch(0, len(loader))
    got = list(loader.batches(size, consumed))
    for key, values in whole.items():
        rest = torch.cat([b[key] for b in got]) if got else values[:0]
        assert torch.equal(rest, values[consumed:])


def test_labels_are_the_next_tokens_and_padding_has_none(planned):
    directory, _, _ = planned
    loader = Loader.open(directory / "plan", directory, ["phase-0"], pad=-7)
    for batch in loader.batches(50):
        ids, labels = batch["input_ids"], batch["labels"]
        assert ids.dtype == labels.dtype == batch["sequence_index"].dtype == torch.int64
        assert batch["document_ids"].dtype == batch["source_ids"].dtype == torch.int32
        padding = ids == -7
        assert torch.equal(padding, batch["document_ids"] < 0)
        assert torch.equal(padding, batch["source_ids"] < 0)
        following = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-7)
        assert torch.equal(labels, torch.where(following == -7, -100, following))


def test_a_share_that_cannot_be_met_names_domain_source_and_numbers(planned, tmp_path):
    config = PlanConfig((Phase(64, 10**6, {"math": 1.0}),), max_epochs={"proofs": 2})
    with pytest.raises(MixtureError) as error:
        make_plan(planned[1], tmp_path, config)
    assert all(part in str(error.value) for part in ("'math'", "'proofs'", "1,000,000", "2"))
    with pytest.raises(MixtureError, match="'poems'"):
        make_plan(planned[1], tmp_path, PlanConfig((Phase(64, 99, {"poems": 1.0}),)))
    with pytest.raises(MixtureError, match="'nobody'"):
        make_plan(planned[1], tmp_path, PlanConfig(CONFIG.phases, max_epochs={"nobody": 1}))


def test_a_share_that_no_document_fits_is_refused_and_not_left_out():
    with pytest.raises(MixtureError, match=r"came to 0 of 300 tokens, though it has 2,000"):
        select([pile("a", "x", 0, [1000] * 2, 1.0)], 300, {"x": 1.0}, "phase-0", slack=64)


def pile(source, domain, first, tokens, cap=2.0):
    rows = np.arange(first, first + len(tokens))
    ids = [f"{r:032x}" for r in rows]
    return Pile(source, domain, rows, np.array(tokens), ids, 0, cap)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(0, 2000),
)
def test_no_source_gives_more_than_its_epochs_and_no_share_is_overrun(a, b, want):
    piles = [pile("a", "x", 0, a, 1.5), pile("b", "x", len(a), b, 2.0)]
    most = int(1.5 * sum(a)) + 2 * sum(b)
    if want > most:
        with pytest.raises(MixtureError):
            select(piles, want, {"x": 1.0}, "phase-0")
        return
    rows = select(piles, want, {"x": 1.0}, "phase-0", slack=100)["x"]
    tokens = np.array(a + b)[rows].sum()
    assert want - 100 <= tokens <= want
    uses = np.bincount(rows, minlength=len(a) + len(b))
    assert uses.max() <= 2 and (uses[: len(a)] * a).sum() <= 1.5 * sum(a)


def test_a_pass_ends_before_the_next_begins():
    source = pile("a", "x", 0, [5] * 10, cap=3)
    first, second = source.take(30), source.take(40)
    assert len(set(first.tolist())) == 6
    assert sorted([*first.tolist(), *second.tolist()][:10]) == list(range(10))


def test_phases_follow_each_other_as_one_run(planned, tmp_path):
    directory, stems, _ = planned
    phase = CONFIG.phases[0]
    config = PlanConfig((phase, Phase(64, 3000, {"math": 1.0})), 5, validation=CONFIG.validation)
    make_plan(stems, tmp_path, config)
    parts = [Loader.open(tmp_path, directory, [f"phase-{k}"], pad=0) for k in (0, 1)]
    run = Loader.open(tmp_path, directory, ["phase-0", "phase-1"], pad=0)
    whole = torch.cat([batch["input_ids"] for batch in run.batches(7)])
    assert torch.equal(whole, torch.cat([p.batch(0, len(p))["input_ids"] for p in parts]))
    with pytest.raises(ValueError, match="no set 'phase-7'"):
        Loader.open(tmp_path, directory, ["phase-7"], pad=0)
