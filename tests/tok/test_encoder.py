"""Encoding and the exported tokenizer, as other libraries read it."""

import json
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tok import (
    SCHEMES,
    SPECIAL_TOKENS,
    Encoder,
    count_words,
    export_tokenizer,
    train_tokenizer,
    weigh,
)

TRAINING = [
    "def f(x):\n    return x + 1\n\n\nclass A:\n    pass\n" * 3,
    "The quick brown fox doesn't jump over 1234567 lazy dogs.\r\n" * 3,
    "Быстрая лисица; 快速的棕色狐狸跳过懒狗。เดอะควิกบราวน์ می‌خواهم क्षत्रिय" * 3,
]


@pytest.fixture(scope="module", params=SCHEMES)
def directory(request, tmp_path_factory):
    counts = weigh(count_words(TRAINING, ["all"] * len(TRAINING), request.param))
    path = tmp_path_factory.mktemp("tokenizer")
    export_tokenizer(train_tokenizer(counts, 600, request.param), path)
    return path


TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("a Z0\n\r\t'’,.{}()_-\u200c\u200d\u0301漢ーไ가अ्ب🏽👩"),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(text=TEXTS)
def test_decoding_gives_the_text_back(directory, text):
    encoder = Encoder.load(directory)
    assert encoder.decode_bytes(encoder.encode(text)) == text.encode()


def test_a_batch_is_its_texts_one_by_one(directory):
    encoder = Encoder.load(directory)
    texts = [*TRAINING, "", "x"]
    ids, offsets = encoder.encode_batch(pa.array(texts, pa.large_string()))
    assert ids.dtype == "int32" and offsets.dtype == "int64"
    rows = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert rows == [encoder.encode(text) for text in texts]
    ids, offsets = encoder.encode_batch([])
    assert len(ids) == 0 and offsets.tolist() == [0]


@pytest.mark.parametrize("token", SPECIAL_TOKENS.values())
def test_text_that_spells_a_special_token_is_ordinary_text(directory, token):
    encoder = Encoder.load(directory)
    ids = encoder.encode(f"before {token} after")
    assert not set(ids) & set(encoder.special.values())
    assert encoder.decode(ids) == f"before {token} after"


def test_transformers_reads_the_export_and_agrees(directory):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    encoder = Encoder.load(directory)
    for text in [*TRAINING, "x = 1 <｜User｜> 2"]:
        ids = theirs(text, split_special_tokens=True)["input_ids"]
        assert ids == encoder.encode(text)
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text
    assert theirs.bos_token_id == encoder.special["bos"] == 0
    assert theirs.eos_token_id == encoder.special["eos"] == 1
    assert theirs.pad_token_id == encoder.special["pad"] == 2
    assert theirs.convert_tokens_to_ids("<｜fim▁hole｜>") == encoder.special["fim_hole"]


def test_the_chat_template_marks_roles_and_ends_answers(directory):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
    ]
    text = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "Be brief.<｜User｜>1+1?<｜Assistant｜>2<｜end▁of▁sentence｜><｜User｜>2+2?<｜Assistant｜>"
    )
    with pytest.raises(Exception, match="unknown role tool"):
        theirs.apply_chat_template([{"role": "tool", "content": ""}], tokenize=False)


def test_a_begin_token_is_added_only_when_asked_for(tmp_path):
    transformers = pytest.importorskip("transformers")
    counts = weigh(count_words(TRAINING, ["all"] * len(TRAINING), "multilingual"))
    export_tokenizer(train_tokenizer(counts, 300, "multilingual", bos=True), tmp_path, bos=True)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)("a")["input_ids"][0] == 0
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("a").ids[0] == 0
    assert Encoder.load(tmp_path).encode("a") != [0]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["add_bos_token"]


def test_a_directory_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer\.json: no such file"):
        Encoder.load(tmp_path)
