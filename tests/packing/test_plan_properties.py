"""The plan over corpora of all kinds: nothing lost, nothing twice, shares met, no needless cut."""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing import MixtureError, Phase, PlanConfig, Share, Validation, make_plan
from packing.cutting import cut
from packing.draws import draws, fractions, id_keys
from packing.validation import held_out

sys.path.insert(0, str(Path(__file__).parent))
from plans import Document, coverage, sequences, write_tables

HALF = Validation(0.0, 4)


@st.composite
def documents(draw):
    count = draw(st.integers(5, 60))
    made = []
    for name in range(count):
        tokens = draw(st.integers(0, 90))
        atomic = []
        if tokens > 12 and draw(st.booleans()):
            atomic = [(draw(st.integers(0, tokens - 10)), draw(st.integers(1, 10)))]
        made.append(
            Document(
                name,
                tokens,
                draw(st.sampled_from(["web", "code"])),
                draw(st.sampled_from(["a", "b"])),
                draw(st.sampled_from(["eng_Latn", "deu_Latn", None])),
                atomic,
            )
        )
    return made


@st.composite
def corpora(draw):
    made = draw(documents())
    shards = draw(st.lists(st.lists(st.integers(0, 10), max_size=0), min_size=1, max_size=3))
    for document in made:
        shards[document.name % len(shards)].append(document)
    return [*shards, []]  # and one that has nothing


@st.composite
def phases_of(draw, shards):
    """Phases that the documents can meet."""
    size = {}
    for document in (d for shard in shards for d in shard):
        size[document.domain] = size.get(document.domain, 0) + document.tokens
    cap = draw(st.sampled_from([1.0, 1.5, 3.0]))
    left = {domain: int(cap * tokens * 0.97) for domain, tokens in size.items() if tokens}
    phases = []
    for _ in range(draw(st.integers(1, 3))):
        take = {d: draw(st.integers(0, n)) for d, n in left.items()}
        if draw(st.booleans()):
            take = left  # all there is
        tokens = sum(take.values())
        if not tokens:
            continue
        left = {d: left[d] - n - 1 for d, n in take.items() if left[d] - n > 1}
        mixture = {d: n / tokens for d, n in take.items() if n}
        phases.append(Phase(draw(st.integers(10, 40)), tokens, mixture))
    return phases, cap


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_plan_loses_nothing_and_takes_nothing_twice_within_an_epoch(data):
    shards = data.draw(corpora())
    phases, cap = data.draw(phases_of(shards))
    if not phases:
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        stems = write_tables(folder, shards)
        config = PlanConfig(tuple(phases), data.draw(st.integers(0, 9)), cap, validation=HALF)
        plan = make_plan(stems, folder / "plan", config)
        by_id = {d.id: d for shard in shards for d in shard}
        total = {i: np.zeros(d.tokens, int) for i, d in by_id.items()}
        begun = set()  # documents that a phase has parted, which the next goes on with
        for phase, told in zip(phases, plan["phases"], strict=True):
            rows = sequences(folder / "plan", told)
            assert all(0 < sum(p["length"] for p in row) <= phase.length for row in rows)
            assert sum(p["length"] for row in rows for p in row) == told["tokens"]
            for entry in told["domains"].values():
                assert 0 <= entry["wanted"] - entry["planned"] < phase.length
            for part in told["parts"]:
                # One sequence, and a few more where epochs run out elsewhere in the domain.
                bound = 2 * sum(p.length for p in phases[: plan["phases"].index(told) + 1])
                assert abs(part["wanted"] - part["planned"]) < bound
                over = part["epochs"] * part["available"] - cap * part["available"]
                assert over < (phase.length if cap % 1 else 1e-6)
            pieces = {}
            for row in rows:
                for p in row:
                    document = shards[p["shard"]][p["document"]]
                    end = p["start"] + p["length"]
                    pieces.setdefault(document.id, []).append((p["start"], p["length"]))
                    for at, size in document.atomic:
                        assert not at < p["start"] < at + size and not at < end < at + size
                    if document.tokens <= phase.length and document.id not in begun:
                        assert (p["start"], p["length"]) == (0, document.tokens)
            counted = coverage(rows, shards)
            for i, seen in counted.items():
                total[i] += seen
                if len(seen) and seen.min() != seen.max():
                    begun.add(i)
                elif i in pieces and i not in begun:
                    # Whole: cut as the slow twin cuts it, as often as there are epochs.
                    slow = cut(by_id[i].tokens, phase.length, by_id[i].atomic)
                    assert sorted(pieces[i]) == sorted(slow * int(seen[0]))
        # A pile is gone through turn by turn: no token is ahead of another by more than one.
        for domain in {d.domain for d in by_id.values()}:
            for source in "ab":
                for language in ("eng_Latn", "deu_Latn", None):
                    mine = [
                        total[i] for i, d in by_id.items()
                        if (d.domain, d.source, d.language) == (domain, source, language)
                    ]  # fmt: skip
                    seen = np.concatenate([*mine, np.empty(0, int)])
                    assert not len(seen) or seen.max() - seen.min() <= 1


def by_ids(plan, told, shards):
    """Rows as sets of (document's id, start, length)."""
    return [
        [(shards[p["shard"]][p["document"]].id, p["start"], p["length"]) for p in row]
        for row in sequences(plan, told)
    ]


def many(count, seed=0, most=60):
    rng = np.random.default_rng(seed)
    return [
        Document(k, int(rng.integers(1, most)), "web" if k % 3 else "code", f"s{k % 4}")
        for k in range(count)
    ]


TWO = (Phase(32, 3000, {"web": 0.75, "code": 0.25}), Phase(64, 2000, {"web": 0.5, "code": 0.5}))


@pytest.mark.parametrize("strategy", ["best_fit", "concat", "none"])
def test_sequences_are_the_same_however_documents_are_spread_over_files(tmp_path, strategy):
    made = many(300)
    config = PlanConfig(TWO, 3, 2.0, validation=Validation(0.1, 4), strategy=strategy)
    seen = []
    for k, cuts in enumerate(([300], [100, 0, 200], [1, 7, 92, 150, 50])):
        order = np.random.default_rng(k).permutation(300)
        shards, at = [], 0
        for size in cuts:
            shards.append([made[i] for i in order[at : at + size]])
            at += size
        plan = make_plan(write_tables(tmp_path / f"{k}", shards), tmp_path / f"plan-{k}", config)
        sets = [*plan["phases"], *plan["validation"].values()]
        seen.append([by_ids(tmp_path / f"plan-{k}", told, shards) for told in sets[:2]])
        held = [set(r) for told in sets[2:] for r in by_ids(tmp_path / f"plan-{k}", told, shards)]
        seen[-1].append(sorted(map(sorted, held)))
    assert seen[0] == seen[1] == seen[2] and seen[0][2]


def test_any_number_of_workers_writes_the_same_bytes(tmp_path):
    stems = write_tables(tmp_path / "c", [many(200, s) for s in range(5)])
    for workers in (1, 2, 7):
        make_plan(stems, tmp_path / f"{workers}", PlanConfig(TWO, 3), workers=workers)
    one = {p.name: p.read_bytes() for p in (tmp_path / "1").iterdir()}
    assert len(one) > 3
    for workers in (2, 7):
        assert {p.name: p.read_bytes() for p in (tmp_path / f"{workers}").iterdir()} == one


def test_many_windows_pack_what_one_does(tmp_path, monkeypatch):
    """Windows are for large corpora; made small, they lose nothing either."""
    made = many(3000)
    stems = write_tables(tmp_path / "c", [made[:1000], made[1000:]])
    config = PlanConfig((Phase(32, 120_000, {"web": 1}),), validation=Validation(0.05, 4))
    whole = make_plan(stems, tmp_path / "whole", config)
    monkeypatch.setattr("packing.census.WINDOW", 100)
    monkeypatch.setattr("packing.stretches._FEWEST_IN_A_COUNT", 16)
    monkeypatch.setattr("packing.sequences.PIECES_IN_WINDOW", 150)
    monkeypatch.setattr("packing.sequences.ROWS_IN_BATCH", 8)
    monkeypatch.setattr("packing.sequences.ROWS_IN_FILE", 64)
    small = make_plan(stems, tmp_path / "small", config)
    shards = [made[:1000], made[1000:]]
    both = [
        coverage(sequences(tmp_path / name, plan["phases"][0]), shards)
        for name, plan in (("whole", whole), ("small", small))
    ]
    assert all((both[0][i] == both[1][i]).all() for i in both[0])
    assert whole["phases"][0]["domains"] == small["phases"][0]["domains"]
    assert small["validation"] == whole["validation"] | {}
    files = small["phases"][0]["files"]
    assert len(files) > 10 and not list((tmp_path / "small").glob(".*"))
    for name in files[:-1]:  # so that a row is found by division
        with pa.ipc.open_file(str(tmp_path / "small" / name)) as file:
            assert [file.get_batch(k).num_rows for k in range(file.num_record_batches)] == [8] * 8


def test_packing_anew_at_another_length_takes_the_same_shards(tmp_path):
    """From 512 to 2,048 tokens, and another mixture: a new plan and nothing else."""
    rng = np.random.default_rng(1)
    made = [
        Document(k, int(n), "web" if k % 2 else "code")
        for k, n in enumerate(rng.lognormal(5.5, 1.2, 4000).astype(int).clip(1, 20_000))
    ]
    stems = write_tables(tmp_path / "c", [made[:2000], made[2000:]])
    before = {p: p.read_bytes() for p in (tmp_path / "c").iterdir()}
    total = sum(d.tokens for d in made)
    for length, share in ((512, 0.5), (2048, 0.6)):
        mixture = {"web": share, "code": 1 - share}
        plan = make_plan(
            stems, tmp_path / f"{length}", PlanConfig((Phase(length, total, mixture),))
        )
        (phase,) = plan["phases"]
        assert phase["fill"] > 0.995 and phase["length"] == length
        for domain in phase["domains"].values():
            assert 0 <= domain["wanted"] - domain["planned"] < length
    assert {p: p.read_bytes() for p in (tmp_path / "c").iterdir()} == before


def test_replacing_a_later_phase_leaves_the_earlier_ones_alone(tmp_path):
    stems = write_tables(tmp_path / "c", [many(400)])
    first = make_plan(stems, tmp_path / "a", PlanConfig(TWO, 1))
    other = Phase(128, 5000, {"web": Share(0.4, sources={"s1": 0.5, "s2": 0.5}), "code": 0.6})
    second = make_plan(stems, tmp_path / "b", PlanConfig((TWO[0], other), 1))
    assert first["phases"][0] == second["phases"][0]
    assert first["phases"][1] != second["phases"][1]
    for name in first["phases"][0]["files"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_source_that_runs_out_gives_its_share_to_the_named_others(tmp_path):
    stems = write_tables(tmp_path / "c", [many(100)])
    (phase,) = [Phase(32, 4000, {"web": 0.4, "code": 0.6})]
    config = PlanConfig((phase,), 0, 2.0)
    with pytest.raises(MixtureError, match=r"'code' cannot meet its share: of 2,400 tokens"):
        make_plan(stems, tmp_path / "a", config)
    assert not list((tmp_path / "a").iterdir())
    config = PlanConfig((phase,), 0, 2.0, when_short={"code": ("web",)})
    plan = make_plan(stems, tmp_path / "b", config)
    domains = plan["phases"][0]["domains"]
    assert domains["code"]["wanted"] < 2400
    assert domains["code"]["wanted"] + domains["web"]["wanted"] == 4000
    assert all(0 <= d["wanted"] - d["planned"] < 32 for d in domains.values())
    bad = PlanConfig((phase,), 0, 2.0, when_short={"code": ("wob",)})
    with pytest.raises(MixtureError, match="when_short names 'wob'"):
        make_plan(stems, tmp_path / "c2", bad)


def test_held_out_documents_are_drawn_by_their_own_or_their_first_parents_id():
    ids = [Document(k, 1).id for k in range(500)] + ["short", "x" * 40, "z"]
    alone = held_out(ids, [None] * len(ids), 3, 0.3)
    assert 0.2 < alone[:500].mean() < 0.4
    drawn = fractions(draws(id_keys_of(ids), 3, "validation")) < 0.3
    assert alone.tolist() == drawn.tolist()
    parents = [[ids[0], ids[1]] if k % 2 else None for k in range(len(ids))]
    got = held_out(ids, parents, 3, 0.3)
    assert got.tolist() == [alone[0] if k % 2 else alone[k] for k in range(len(ids))]
    assert held_out([], [], 3, 0.3).tolist() == []


def id_keys_of(ids):
    return id_keys(pa.array(ids, pa.string()))


def test_tables_that_are_damaged_or_are_none_are_named(tmp_path):
    made = many(60)
    stems = write_tables(tmp_path / "c", [made, made[:0]])
    path = Path(f"{stems[0]}.documents.parquet")
    config = PlanConfig((Phase(32, 100, {"web": 1}),))
    good = path.read_bytes()
    for bad in (b"", b"PAR1" * 8, good[:-20], good[: len(good) // 2] + good[len(good) // 2 + 9 :]):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"shard-00000\.documents\.parquet: cannot be read"):
            make_plan(stems, tmp_path / "plan", config)
        assert not list((tmp_path / "plan").iterdir())
    path.write_bytes(good)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["atomic"]), path)
    with pytest.raises(ValueError, match="no column atomic"):
        make_plan(stems, tmp_path / "plan", config)
    index = table.schema.get_field_index("tokens")
    for value in (-1, 2**31):
        column = [value, *table["tokens"].to_pylist()[1:]]
        pq.write_table(table.set_column(index, "tokens", [column]), path)
        with pytest.raises(ValueError, match=f"row 0 has {value} tokens"):
            make_plan(stems, tmp_path / "plan", config)
    path.unlink()
    with pytest.raises(ValueError, match="shard-00000"):
        make_plan(stems, tmp_path / "plan", config)


def test_a_phase_that_cannot_be_and_a_strategy_that_is_none_are_refused(tmp_path):
    stems = write_tables(tmp_path / "c", [many(60)])
    for phase in (Phase(32, 0, {"web": 1}), Phase(0, 10, {"web": 1})):
        with pytest.raises(ValueError, match=r"phase-0: .* expected both above 0"):
            make_plan(stems, tmp_path / "plan", PlanConfig((phase,)))
    with pytest.raises(ValueError, match="unknown strategy 'worst_fit', expected one of best_fit"):
        make_plan(stems, tmp_path / "plan", PlanConfig(TWO, strategy="worst_fit"))


def test_documents_without_tokens_take_no_part(tmp_path):
    made = [Document(k, 0 if k % 2 else 9) for k in range(40)]
    stems = write_tables(tmp_path / "c", [made])
    config = PlanConfig((Phase(10, 180, {"web": 1}),), validation=Validation(0, 1))
    plan = make_plan(stems, tmp_path / "plan", config)
    rows = sequences(tmp_path / "plan", plan["phases"][0])
    assert len(rows) == 20 and all(p["document"] % 2 == 0 for row in rows for p in row)
    empty = write_tables(tmp_path / "e", [[Document(1, 0)], []])
    with pytest.raises(MixtureError, match="cannot meet its share"):
        make_plan(empty, tmp_path / "none", config)


def test_what_a_crashed_plan_left_is_no_hindrance(tmp_path):
    stems = write_tables(tmp_path / "c", [many(60)])
    plan = tmp_path / "plan"
    config = PlanConfig((Phase(32, 500, {"web": 1}),))
    make_plan(stems, plan, config)
    good = {p.name: p.read_bytes() for p in plan.iterdir()}
    shutil.rmtree(plan)
    (plan / ".census.partial").mkdir(parents=True)
    (plan / ".census.partial" / "records").write_bytes(b"left")
    make_plan(stems, plan, config)
    assert {p.name: p.read_bytes() for p in plan.iterdir()} == good
    assert json.loads(good["plan.json"])["strategy"] == "best_fit"


@pytest.mark.parametrize("strategy", ["concat", "none"])
def test_other_strategies_hold_all_tokens_and_cut_no_atomic_span(tmp_path, strategy):
    rng = np.random.default_rng(0)
    made = []
    for k in range(200):
        n = int(rng.integers(1, 150))
        atomic = [(n // 3, min(20, n - n // 3))] if k % 3 == 0 and n > 5 else []
        made.append(Document(k, n, atomic=atomic))
    stems = write_tables(tmp_path / "c", [made])
    total = sum(d.tokens for d in made)
    config = PlanConfig(
        (Phase(32, total, {"web": 1}),), validation=Validation(0, 1), strategy=strategy
    )
    plan = make_plan(stems, tmp_path / "plan", config)
    rows = sequences(tmp_path / "plan", plan["phases"][0])
    assert all((seen == 1).all() for seen in coverage(rows, [made]).values())
    for row in rows:
        assert sum(p["length"] for p in row) <= 32
        for p in row:
            end = p["start"] + p["length"]
            for at, size in made[p["document"]].atomic:
                assert not at < p["start"] < at + size and not at < end < at + size
    pieces = [len(row) for row in rows]
    if strategy == "none":
        assert set(pieces) == {1}
    else:
        assert plan["phases"][0]["fill"] > 0.9 and max(pieces) > 1
