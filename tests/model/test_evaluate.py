import math

import pytest
import torch

from model.evaluate import EvaluationSet, evaluate


@pytest.fixture
def sets(tokens):
    """Two batches of random text, the end of one padding; and how many bytes each token is."""
    batches = []
    for seed, rows in ((0, 3), (1, 2)):
        ids = tokens(rows, 25, seed)
        documents = torch.zeros(rows, 24, dtype=torch.int32)
        labels = ids[:, 1:].clone()
        documents[-1, 20:] = -1
        labels[-1, 19:] = -100
        batches.append(
            {"input_ids": ids[:, :-1].contiguous(), "labels": labels, "document_ids": documents}
        )
    sizes = torch.arange(97) % 7
    return batches, sizes


def test_losses_are_means_over_all_labels_and_bits_are_over_their_bytes(small, build, sets):
    model = build(small())
    batches, sizes = sets
    found = evaluate(model, {"a": EvaluationSet(lambda: batches, sizes)})["a"]
    total = count = read = 0
    for batch in batches:
        each = torch.nn.functional.cross_entropy(
            model.logits(batch["input_ids"]).flatten(0, 1).double(),
            batch["labels"].flatten(),
            reduction="sum",
        )
        labels = batch["labels"][batch["labels"] >= 0].tolist()
        total, count = total + each.item(), count + len(labels)
        read += sum(label % 7 for label in labels)
    assert found["tokens"] == count and found["bytes"] == read
    assert found["loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(total / math.log(2) / read, rel=1e-5)
    assert len(found["mtp_loss"]) == 1


def test_how_a_set_is_cut_into_batches_means_nothing(small, build, sets):
    model = build(small())
    batches, sizes = sets
    single = [
        {name: tensor[row : row + 1] for name, tensor in batch.items()}
        for batch in batches
        for row in range(len(batch["labels"]))
    ]
    whole, parts = (
        evaluate(model, {"a": EvaluationSet(lambda part=part: part, sizes)})["a"]
        for part in (batches, single)
    )
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-5)
    assert whole["mtp_loss"] == pytest.approx(parts["mtp_loss"], rel=1e-5)
    assert (whole["tokens"], whole["bytes"]) == (parts["tokens"], parts["bytes"])


def test_a_set_without_bytes_or_without_text_has_no_bits_per_byte(small, build, sets):
    model = build(small())
    batches, _ = sets
    found = evaluate(
        model,
        {
            "unknown": EvaluationSet(lambda: batches),
            "specials": EvaluationSet(lambda: batches, torch.zeros(97, dtype=torch.int64)),
            "nothing": EvaluationSet(lambda: []),
        },
    )
    assert "bits_per_byte" not in found["unknown"]
    assert found["specials"]["bits_per_byte"] is None and found["specials"]["bytes"] == 0
    assert (found["nothing"]["loss"], found["nothing"]["tokens"]) == (0.0, 0)


def test_a_set_s_labels_are_told_apart_by_group(small, build, sets):
    model = build(small())
    batches, sizes = sets

    def group_of(batch):  # by the label itself; those of 80 and above are of no group
        labels = batch["labels"]
        return torch.where(labels < 80, labels % 3, -1)

    names = ("zero", "one", "two")
    grouped = EvaluationSet(lambda: batches, sizes, names, group_of)
    found = evaluate(model, {"a": grouped})["a"]
    plain = evaluate(model, {"a": EvaluationSet(lambda: batches, sizes)})["a"]
    groups = found.pop("groups")
    assert found == plain and list(groups) == list(names)
    for number, name in enumerate(names):
        total = count = read = 0
        for batch in batches:
            each = torch.nn.functional.cross_entropy(
                model.logits(batch["input_ids"]).flatten(0, 1).double(),
                batch["labels"].flatten(),
                reduction="none",
            )
            labels = batch["labels"].flatten()
            mine = (labels >= 0) & (labels < 80) & (labels % 3 == number)
            total, count = total + each[mine].sum().item(), count + int(mine.sum())
            read += int(sizes[labels[mine]].sum())
        entry = groups[name]
        assert (entry["tokens"], entry["bytes"]) == (count, read) and count
        assert entry["loss"] == pytest.approx(total / count, rel=1e-5)
        assert entry["bits_per_byte"] == pytest.approx(total / math.log(2) / read, rel=1e-5)


def test_a_group_without_labels_is_not_there(small, build, sets):
    batches, _ = sets
    entry = EvaluationSet(lambda: batches, None, ("all", "none"), lambda b: b["labels"] * 0)
    assert list(evaluate(build(small()), {"a": entry})["a"]["groups"]) == ["all"]
