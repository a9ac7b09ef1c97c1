"""From documents to token shards, with holes where they were drawn."""

import pyarrow.parquet as pq

from curation.document import make_batch
from packing import Fim, Shard, encode_documents, encode_shard
from tok import Encoder, count_words, train_tokenizer, weigh

TEXT = "def add(a, b):\n    return a + b\n\n\ndef main():\n    print(add(1, 2))  # 漢字 ไทย\n"


def test_code_is_rewritten_at_the_rate_and_other_text_never(encoder):
    rows = [
        {"text": TEXT + str(i), "source": "s", "domain": domain}
        for i in range(400)
        for domain in ("code", "web")
    ]
    _, table = encode_documents(
        [make_batch(rows)], encoder, fim=Fim({"code": 0.25}), bos=False, seed=1
    )
    rewritten = {"code": 0, "web": 0}
    for row in table.to_pylist():
        rewritten[row["domain"]] += row["atomic"] is not None
    assert rewritten["web"] == 0 and 70 <= rewritten["code"] <= 130


def test_batches_do_not_change_what_is_written(encoder, tmp_path):
    rows = [{"text": TEXT * (i % 5), "source": "s", "domain": "code"} for i in range(40)]
    whole = make_batch(rows)
    parts = [whole.slice(0, 7), whole.slice(7)]
    for name, batches in (("a", [whole]), ("b", parts)):
        encode_shard(batches, tmp_path / name, encoder, fim=Fim({"code": 0.5}), seed=3)
    for end in (".bin", ".idx", ".documents.parquet"):
        assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()


def test_a_shard_is_read_back_document_by_document(encoder, tmp_path):
    texts = [TEXT, "", "x <｜end▁of▁sentence｜> y"]
    batch = make_batch([{"text": t, "source": "s", "domain": "web"} for t in texts])
    encode_shard([batch], tmp_path / "s", encoder, fim=Fim({}), bos=True)
    shard = Shard.open(tmp_path / "s")
    table = pq.read_table(tmp_path / "s.documents.parquet")
    for i, text in enumerate(texts):
        tokens = shard.document(i).tolist()
        assert tokens[0] == encoder.special["bos"] and tokens[-1] == encoder.special["eos"]
        assert tokens[1:-1].count(encoder.special["eos"]) == 0
        assert encoder.decode(tokens[1:-1]) == text
        assert table["tokens"][i].as_py() == len(tokens)
        assert table["bytes"][i].as_py() == len(text.encode())


def test_joined_line_breaks_are_split_by_document_and_lose_nothing():
    counts = weigh(count_words([TEXT * 9], "all", "multilingual"))
    encoder = Encoder(train_tokenizer(counts, 380, "multilingual"))

    def lengths(names, share):
        text = TEXT * 20
        batch = make_batch(
            {"text": text, "source": "s", "domain": "code", "uri": name} for name in names
        )
        tokens, table = encode_documents(
            [batch], encoder, fim=Fim(rate={}), bos=False, seed=1, split_joined=share
        )
        ordinary = tokens[tokens != encoder.special["eos"]]
        assert encoder.decode(ordinary) == text * len(names)
        return table["tokens"].to_pylist()

    none, half, all_ = (lengths(["a", "b"], share) for share in (0.0, 0.5, 1.0))
    assert none[0] == none[1] < min(half) <= max(half) < all_[0] == all_[1]
    assert half[0] != half[1]
    assert lengths(["b"], 0.5) == half[1:]
