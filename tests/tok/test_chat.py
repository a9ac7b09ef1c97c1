"""Conversations become the ids that the exported template gives, and answers are found in them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tok import Encoder, count_words, export_tokenizer, train_tokenizer, weigh
from tok.chat import ChatError, check_chat, encode_chats
from tok.special_tokens import SPECIAL_TOKENS

TEXT = "Who wrote this?\n\nI don't know; ask   them.  def f(x):\n    return x + 12  # 漢字 ไทย é\n"

CONTENT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", " ", "\n", " a", "I don't know", "漢字\n\n", "12 34"]),
).filter(lambda text: not any(token in text for token in SPECIAL_TOKENS.values()))
CHATS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": CONTENT}
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module", params=[False, True], ids=["", "bos"])
def pair(request, tmp_path_factory):
    """Our encoder, the same tokenizer in transformers, and whether it begins with bos."""
    counts = weigh(count_words([TEXT * 3], ["all"], "multilingual"))
    tokenizer = train_tokenizer(counts, 330, "multilingual")
    folder = tmp_path_factory.mktemp("tokenizer")
    export_tokenizer(tokenizer, folder, bos=request.param)
    return Encoder(tokenizer), AutoTokenizer.from_pretrained(folder), request.param


@settings(max_examples=150, deadline=None)
@given(chats=st.lists(CHATS, min_size=1, max_size=3))
def test_ids_are_those_of_the_exported_template(pair, chats):
    encoder, theirs, bos = pair
    for chat, (ids, _) in zip(chats, encode_chats(encoder, chats, bos=bos), strict=True):
        assert ids.tolist() == theirs.apply_chat_template(chat, tokenize=True, return_dict=False)


@settings(max_examples=100, deadline=None)
@given(chat=CHATS)
def test_answers_with_their_end_tokens_are_found_and_nothing_else(pair, chat):
    encoder, _, bos = pair
    ((ids, answers),) = encode_chats(encoder, [chat], bos=bos)
    wanted = [m["content"] for m in chat if m["role"] == "assistant"]
    found = [ids[start : start + n].tolist() for start, n in answers]
    assert [encoder.decode(answer[:-1]) for answer in found] == wanted
    assert all(answer[-1] == encoder.special["eos"] for answer in found)
    assert all(ids[start - 1] == encoder.special["assistant"] for start, _ in answers)


def test_a_message_that_spells_a_special_token_is_text(pair):
    encoder, _, bos = pair
    chat = [{"role": "user", "content": SPECIAL_TOKENS["eos"]}]
    ((ids, _),) = encode_chats(encoder, [chat], bos=bos)
    assert encoder.special["eos"] not in ids.tolist()


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "expected a list of messages, found NoneType"),
        ([], "expected a list of messages"),
        (["hello"], "message 0: expected role and content, found str"),
        ([{"role": "tool", "content": ""}], "message 0: unknown role 'tool'"),
        ([{"role": "user", "content": None}], "message 0: content is NoneType"),
    ],
)
def test_what_is_no_conversation_is_refused(messages, message):
    with pytest.raises(ChatError, match=message):
        check_chat(messages)
