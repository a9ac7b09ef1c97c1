import random
from pathlib import Path

import fasttext
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curation
from curation import _native
from curation.classifier import _zeroed_memory

DATA = Path(__file__).parents[2].parent / "shared" / "data"
LID = next(path for folder in curation.__path__ if (path := Path(folder) / "lid.176.ftz").is_file())
fasttext.FastText.eprint = lambda *args, **kwargs: None
PEER, OURS = fasttext.load_model(str(LID)), _native.LanguageModel(str(LID))


def same(peer, ours, lines):
    """Hold the labels and the very bits of the scores against fastText's."""
    labels, scores = peer.predict(lines)
    found, chances = ours.predict(pa.array(lines, pa.large_string()))
    assert [ours.labels[i] for i in found] == [label[0] for label in labels]
    assert chances.tolist() == [float(score[0]) for score in scores]


def test_real_texts_get_fasttext_s_labels_and_scores():
    path = DATA / "parallel" / "ntrex128.parquet"
    if not path.exists():
        pytest.skip("NTREX is not here")
    table = pq.read_table(path, columns=["text", "line"], filters=[("line", "<", 20)])
    texts = [" ".join(text.split()) for text in table["text"].to_pylist()]
    assert len(texts) == 20 * 129
    same(PEER, OURS, texts)
    same(PEER, OURS, [" ".join(texts[i : i + 20]) for i in range(0, len(texts), 20)])


@settings(deadline=None)
@given(st.lists(st.text() | st.text("ae нд中か \t<>_/", max_size=60), min_size=1, max_size=5))
def test_any_line_gets_fasttext_s_label_and_score(lines):
    same(
        PEER, OURS, [line.encode("utf-8", "replace").decode().replace("\n", " ") for line in lines]
    )


def test_odd_lines_get_fasttext_s_label_and_score():
    odd = ["", " ", "a", "</s>", "x </s> y", "__label__en", "__label__zz", "<", "\0a\0", "é" * 5000]
    same(PEER, OURS, [*odd, "de", "in and la", "\u0301", "😀😀"])


def test_a_model_of_another_shape_is_read_as_fasttext_reads_it(tmp_path):
    words = {
        "a": "sol mar luz pan rio",
        "b": "snow fjord lake wool elk",
        "c": "рис сад дом лес лук",
    }
    dice = random.Random(1)
    lines = [
        f"__label__{label} {' '.join(dice.choices(text.split(), k=9))}"
        for label, text in words.items()
        for _ in range(100 + 10 * ord(label) - 970)
    ]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    with _zeroed_memory():
        model = fasttext.train_supervised(
        str(tmp_path / "train.txt"), dim=16, loss="hs", minn=2, maxn=3, minCount=1, bucket=3000,
        thread=1, epoch=3, verbose=0,
    )  # fmt: skip
    model.quantize(cutoff=300, qnorm=True)
    model.save_model(str(tmp_path / "small.ftz"))
    ours = _native.LanguageModel(str(tmp_path / "small.ftz"))
    assert sorted(ours.labels) == ["__label__a", "__label__b", "__label__c"]
    same(model, ours, ["sol mar", "fjord elk elks", "дом", "unseen words", "", "sun and snow"])


def test_what_is_no_such_model_is_refused_by_name(tmp_path):
    data = LID.read_bytes()
    path = tmp_path / "model.ftz"
    for wrong in (b"", b"no model", data[:40], data[:5000], data[:-1], data[:8] + b"\xff" * 99):
        path.write_bytes(wrong)
        with pytest.raises(RuntimeError, match=r"model\.ftz: .*expected a model of fastText"):
            _native.LanguageModel(str(path))
    with pytest.raises(RuntimeError, match="cannot be read"):
        _native.LanguageModel(str(tmp_path / "none.ftz"))
    (tmp_path / "train.txt").write_text("__label__a x\n__label__b y\n" * 50)
    with _zeroed_memory():
        plain = fasttext.train_supervised(
            str(tmp_path / "train.txt"), dim=16, thread=1, verbose=0, bucket=10
        )
    plain.save_model(str(path))
    with pytest.raises(RuntimeError, match="has other settings"):
        _native.LanguageModel(str(path))
