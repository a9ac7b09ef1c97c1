"""Any tokenizer.json is read: natively, by `tokenizers`, or refused with the reason."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tok import Encoder, count_words, train_tokenizer, weigh
from tok.load import parse_definition

TEXTS = [
    "Hello world, hello  world!\n",
    "déjà vu — naïve ﬁn\u0301 ½",
    "快速的棕色狐狸 <mask> <mask>x",
    "def f(x):\n    return 1\n",
    "",
]


@pytest.fixture(scope="module")
def tree():
    texts = TEXTS * 3
    counts = weigh(count_words(texts, ["all"] * len(texts), "cl100k"))
    return json.loads(train_tokenizer(counts, 330, "cl100k").to_str())


def changed(tree, path, value):
    tree = copy.deepcopy(tree)
    *keys, last = path
    place = tree
    for key in keys:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return tree


def assert_same(tree, scheme):
    source = json.dumps(tree)
    encoder, theirs = Encoder(parse_definition(source)), Tokenizer.from_str(source)
    theirs.encode_special_tokens = True
    assert encoder.scheme == scheme
    for text in TEXTS:
        assert encoder.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    return encoder


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def test_schemes_are_recognised_however_they_are_nested_and_spelled(tree):
    assert_same(tree, "cl100k")
    steps = tree["pre_tokenizer"]["pretokenizers"]
    splits = steps[0]["pretokenizers"] if steps[0]["type"] == "Sequence" else steps[:-1]
    flat = {"type": "Sequence", "pretokenizers": [*splits, steps[-1]]}
    assert_same(changed(tree, ["pre_tokenizer"], flat), "cl100k")
    regex = flat["pretokenizers"][0]["pattern"]["Regex"].replace(r"\r", "\r").replace(r"\n", "\n")
    spelled = copy.deepcopy(flat)
    spelled["pretokenizers"][0]["pattern"]["Regex"] = regex
    assert_same(changed(tree, ["pre_tokenizer"], spelled), "cl100k")
    assert_same(changed(tree, ["pre_tokenizer"], BYTE_LEVEL | {"use_regex": True}), "gpt2")
    assert_same(changed(tree, ["pre_tokenizer"], BYTE_LEVEL), "gpt2")


def test_merges_may_be_strings_or_pairs(tree):
    merges = [" ".join(merge) for merge in tree["model"]["merges"]]
    assert_same(changed(tree, ["model", "merges"], merges), "cl100k")


def test_a_merge_listed_twice_counts_where_it_is_listed_last(tree):
    merges = tree["model"]["merges"]
    assert_same(changed(tree, ["model", "merges"], merges[:3] + merges), "cl100k")


def test_whole_words_come_before_merges_when_the_tokenizer_says_so(tree):
    vocab = tree["model"]["vocab"]
    vocab = vocab | {"ĠxyzĠ": len(vocab) + 90, "Ġvu": len(vocab) + 91, "return": len(vocab) + 92}
    odd = changed(changed(tree, ["added_tokens"], []), ["model", "vocab"], vocab)
    assert_same(odd, "cl100k")
    encoder = assert_same(changed(odd, ["model", "ignore_merges"], True), "cl100k")
    assert vocab["Ġvu"] in encoder.encode(" vu")


DELEGATED = {
    "normalizer": (["normalizer"], {"type": "NFC"}),
    "prefix space": (["pre_tokenizer"], BYTE_LEVEL | {"add_prefix_space": True}),
    "another regex": (
        ["pre_tokenizer"],
        {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": "a"},
                    "behavior": "Isolated",
                    "invert": False,
                },
                BYTE_LEVEL | {"use_regex": False},
            ],
        },
    ),
    "truncation": (["pre_tokenizer"], {"type": "Whitespace"}),
}


@pytest.mark.parametrize("case", DELEGATED)
def test_what_is_not_ours_is_left_to_tokenizers(tree, case):
    path, value = DELEGATED[case]
    encoder = assert_same(changed(tree, path, value), None)
    assert encoder.why
    with pytest.raises(ValueError, match="left to `tokenizers`"):
        encoder.encode_batch(["a"], split_joined=(1.0, [1]))


def test_merges_out_of_order_are_left_to_tokenizers(tree):
    merges = tree["model"]["merges"]
    encoder = assert_same(changed(tree, ["model", "merges"], merges[::-1]), None)
    assert "before the merges that make its parts" in encoder.why


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_added_tokens_that_strip_or_stand_alone_are_left_to_tokenizers(tree, flag):
    token = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    last = max(t["id"] for t in tree["added_tokens"])
    token |= {"id": last + 1, "content": "<mask>", flag: True}
    tree = changed(tree, ["added_tokens"], [*tree["added_tokens"], token])
    encoder = assert_same(tree, None)
    assert last + 1 in encoder.encode(TEXTS[2])


def test_delegated_tokenizers_keep_the_face(tree):
    encoder = Encoder(parse_definition(json.dumps(changed(tree, ["normalizer"], {"type": "NFC"}))))
    ids, offsets = encoder.encode_batch([b"ab", b"", b"c <\xef\xbd\x9cUser\xef\xbd\x9c>"])
    assert ids.dtype == "int32" and offsets.dtype == "int64" and offsets[1] == offsets[2]
    assert encoder.decode(ids) == "abc <｜User｜>"
    named = encoder.encode("c <｜User｜>", special_tokens=["<｜User｜>"])
    assert named[-1] == encoder.special["user"] not in ids
    with pytest.raises(ValueError, match="not valid UTF-8"):
        encoder.encode(b"\xff")


def test_truncation_and_padding_in_the_file_are_not_for_corpora(tree):
    tree = changed(tree, ["normalizer"], {"type": "NFC"})
    source = Tokenizer.from_str(json.dumps(tree))
    source.enable_truncation(2)
    source.enable_padding(length=50)
    encoder = Encoder(parse_definition(source.to_str()))
    assert encoder.decode(encoder.encode(TEXTS[0])) == TEXTS[0]


WRONG = [
    (["model"], ..., "no key 'model'"),
    (["model"], [], "'model' is of type list; expected dict"),
    (["model", "vocab"], ..., "no key 'model.vocab'"),
    (["model", "vocab"], [], "'model.vocab' is of type list"),
    (["model", "vocab", "a"], ..., "no token 'a' for the byte 0x61"),
    (["model", "vocab", "a"], -1, r"model.vocab\['a'\] is -1"),
    (["model", "vocab", "a"], 1 << 40, "expected an id from 0 to"),
    (["model", "vocab", "a"], "7", r"model.vocab\['a'\] is '7'"),
    (["model", "vocab", "a"], True, r"model.vocab\['a'\] is True"),
    (["model", "vocab", "a"], 70, "two tokens share an id"),
    (["model", "merges"], ..., "no key 'model.merges'"),
    (["model", "merges"], {}, "'model.merges' is of type dict"),
    (["model", "merges"], ["a"], r"model.merges\[0\] is 'a'; expected two tokens"),
    (["model", "merges"], ["a b c"], "expected two tokens"),
    (["model", "merges"], [["a", 1]], "expected two tokens"),
    (["model", "merges"], [["a", ["b"]]], "expected two tokens"),
    (["model", "merges"], [5], r"model.merges\[0\] is 5"),
    (["model", "merges"], [["a", "qqq"]], "needs the token 'qqq', which model.vocab lacks"),
    (["model", "merges"], [["~", "!"]], "needs the token '~!'"),
    (["model", "ignore_merges"], "yes", "'model.ignore_merges' is of type str"),
    (["added_tokens"], {}, "'added_tokens' is of type dict"),
    (["added_tokens", 0], 7, r"added_tokens\[0\] is of type int"),
    (["added_tokens", 0, "content"], ..., r"no key 'added_tokens\[0\].content'"),
    (["added_tokens", 0, "id"], -4, r"added_tokens\[0\].id is -4"),
    (["added_tokens", 0, "special"], 1, "expected bool"),
    (["pre_tokenizer"], "gpt2", "'pre_tokenizer' is of type str"),
    (["pre_tokenizer"], {"type": "Sequence"}, "no key 'pre_tokenizer.pretokenizers'"),
    (
        ["pre_tokenizer"],
        {"type": "Sequence", "pretokenizers": [1]},
        "'pre_tokenizer' is of type int",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[m for *_, m in WRONG])
def test_a_broken_file_is_named_with_what_is_wrong(tree, path, value, message, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed(tree, path, value)))
    with pytest.raises(ValueError, match=message) as caught:
        Encoder.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


NOT_TOKENIZERS = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"[1]", "expected a JSON object, found list"),
    (b'{"a": "\xff"}', "not UTF-8"),
    (b"[" * 200_000, "nested too deeply"),
    (b'{"model": {"type": "Unigram", "vocab": [["a", 0], [[], 1], 5]}}', "cannot read it"),
]


@pytest.mark.parametrize(("content", "message"), NOT_TOKENIZERS, ids=[m for _, m in NOT_TOKENIZERS])
def test_a_file_that_is_no_tokenizer_is_named(content, message, tmp_path):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Encoder.load(path)
    assert "some.json" in str(caught.value)


def test_a_directory_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer\.json: no such file"):
        Encoder.load(tmp_path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 400)
    | st.sampled_from(["a", "", "a b", "ByteLevel"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("type"), inner),
    max_leaves=4,
)
PLACES = [
    ["model", "type"], ["model", "vocab", "a"], ["model", "merges"], ["model", "merges", 3],
    ["model", "merges", 3, 1], ["model", "dropout"], ["model", "byte_fallback"], ["normalizer"],
    ["pre_tokenizer"], ["pre_tokenizer", "pretokenizers"], ["decoder"], ["added_tokens"],
    ["added_tokens", 2, "normalized"], ["added_tokens", 2, "lstrip"], ["added_tokens", 1, "id"],
]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(path=st.sampled_from(PLACES), value=JSON)
def test_no_change_to_a_file_leads_to_anything_but_the_right_ids_or_a_named_error(
    tree, tmp_path_factory, path, value
):
    source = json.dumps(changed(tree, path, value))
    file = tmp_path_factory.mktemp("changed") / "tokenizer.json"
    file.write_text(source)
    try:
        encoder = Encoder.load(file)
    except ValueError as error:
        assert str(file) in str(error)
        return
    try:
        theirs = Tokenizer.from_str(source)
    except Exception:  # it is stricter about parts that encoding has no use for
        return
    theirs.encode_special_tokens = True
    for text in TEXTS:
        assert encoder.encode(text) == theirs.encode(text, add_special_tokens=False).ids
