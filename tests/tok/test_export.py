"""The exported tokenizer, as other libraries read it."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, pre_tokenizers

from tok import (
    SCHEMES,
    Encoder,
    count_words,
    export_tiktoken,
    export_tokenizer,
    tiktoken_pattern,
    train_tokenizer,
    weigh,
    word_splitter,
)

TRAINING = [
    "def f(x):\n    return x + 1\n\n\nclass A:\n    pass\n" * 3,
    "The quick brown fox doesn't jump over 1234567 lazy dogs.\r\n" * 3,
    "Быстрая лисица; 快速的棕色狐狸跳过懒狗。เดอะควิกบราวน์ می‌خواهم क्षत्रिय" * 3,
]
TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("a Z0\n\r\t\x00\x1f'’,.{}()_-\u200c\u200d\u0301漢〇ーไ་༡०٣゠・가अ्ব🏽👩"),
        st.sampled_from("ひ・゛\u3099\u3040\u3097⺀〢 a\x01"),  # of runs, but not all are letters
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def tokenizer(scheme):
    counts = weigh(count_words(TRAINING, ["all"] * len(TRAINING), scheme))
    return train_tokenizer(counts, 600, scheme)


@pytest.fixture(scope="module")
def directory(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    export_tokenizer(tokenizer, path)
    return path


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


# --- tiktoken ---

SPLITTERS = {
    name: (
        word_splitter(name),
        # As tiktoken does it: what is not matched is lost.
        pre_tokenizers.Split(Regex(tiktoken_pattern(name)), behavior="removed", invert=True),
    )
    for name in SCHEMES
}


@settings(deadline=None, max_examples=1000)
@given(text=TEXTS)
def test_the_one_regex_for_tiktoken_cuts_as_the_scheme_does(scheme, text):
    ours, one = SPLITTERS[scheme]
    assert one.pre_tokenize_str(text) == ours.pre_tokenize_str(text)


def test_the_rank_file_gives_every_byte_and_merge_its_id(tokenizer, tmp_path):
    export_tiktoken(tokenizer, tmp_path / "ours.tiktoken")
    encoder = Encoder(tokenizer)
    lines = (tmp_path / "ours.tiktoken").read_text("ascii").splitlines()
    ranks = {base64.b64decode(line.split(" ")[0]): int(line.split(" ")[1]) for line in lines}
    assert len(ranks) == len(lines) and {bytes([b]) for b in range(256)} < ranks.keys()
    assert all(encoder.token_bytes(i) == token for token, i in ranks.items())
    special = set(encoder.special.values())
    assert sorted(ranks.values()) == sorted(set(range(encoder.vocab_size)) - special)


def test_tiktoken_gives_the_same_ids(tokenizer, scheme, tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    load = pytest.importorskip("tiktoken.load")
    export_tiktoken(tokenizer, tmp_path / "ours.tiktoken")
    theirs = tiktoken.Encoding(
        "ours",
        pat_str=tiktoken_pattern(scheme),
        mergeable_ranks=load.load_tiktoken_bpe(str(tmp_path / "ours.tiktoken")),
        special_tokens={t.content: i for i, t in tokenizer.get_added_tokens_decoder().items()},
    )
    encoder = Encoder(tokenizer)

    @settings(deadline=None)
    @given(text=TEXTS)
    def same(text):
        assert theirs.encode_ordinary(text) == encoder.encode(text)

    same()
    for text in TRAINING:
        assert theirs.encode_ordinary(text) == encoder.encode(text)
    assert theirs.encode("<｜User｜>", allowed_special="all") == [encoder.special["user"]]


def test_what_tiktoken_cannot_express_is_refused(tokenizer, tmp_path):
    tree = json.loads(tokenizer.to_str())
    vocab = tree["model"]["vocab"]
    first, last = (tokenizer.id_to_token(i) for i in (259, 300))
    vocab[first], vocab[last] = vocab[last], vocab[first]
    swapped = Tokenizer.from_str(json.dumps(tree))
    with pytest.raises(ValueError, match="ids do not rise with its merges"):
        export_tiktoken(swapped, tmp_path / "x")
    tree["normalizer"] = {"type": "NFC"}
    with pytest.raises(ValueError, match="it has a normalizer"):
        export_tiktoken(Tokenizer.from_str(json.dumps(tree)), tmp_path / "x")
