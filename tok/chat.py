"""Conversations as tokens, the ids that the exported chat template gives.

`chat_template` in `special_tokens` says how a conversation is spelt; here the same is done without
Jinja, because training must know which tokens an assistant wrote: they alone count for the loss,
each answer with the end token behind it. System text comes as it is, a user's message behind the
user token, an answer behind the assistant token and with the end token at its end.

One difference is meant: a message that spells a special token is text here, as everywhere in
Gristmill, while a template's output is cut with special tokens recognised wherever they stand.
"""

from collections.abc import Sequence

import numpy as np

from tok.encoder import Encoder

ROLES = ("system", "user", "assistant")
Message = dict[str, str]  # role, content


class ChatError(ValueError):
    """A conversation that cannot be one; the message says why."""


def check_chat(messages: object) -> None:
    """Raise ChatError unless messages are a list of roles and contents."""
    if not isinstance(messages, list) or not messages:
        raise ChatError(f"expected a list of messages, found {type(messages).__name__}")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise ChatError(
                f"message {i}: expected role and content, found {type(message).__name__}"
            )
        if message.get("role") not in ROLES:
            raise ChatError(
                f"message {i}: unknown role {message.get('role')!r}, expected one of "
                f"{', '.join(ROLES)}"
            )
        if not isinstance(message.get("content"), str):
            raise ChatError(f"message {i}: content is {type(message.get('content')).__name__}, "
                            "expected a string")  # fmt: skip


def encode_chats(
    encoder: Encoder, chats: Sequence[list[Message]], *, bos: bool = False
) -> list[tuple[np.ndarray, list[tuple[int, int]]]]:
    """Each conversation's tokens, int32, and the (start, length) of each answer with its end token.

    bos: whether a conversation begins with the begin token, as in the template. Raises ChatError
    for what is no conversation.
    """
    user, assistant, end = (encoder.special[name] for name in ("user", "assistant", "eos"))
    # A part is text (str), or a token; an answer is marked by where its text begins.
    parts: list[list[str | int]] = []
    answers: list[list[int]] = []
    for messages in chats:
        check_chat(messages)
        own: list[str | int] = [encoder.special["bos"]] if bos else []
        answered = []
        for message in messages:
            role, content = message["role"], message["content"]
            if role == "user":
                own.append(user)
            elif role == "assistant":
                own.append(assistant)
            if own and isinstance(own[-1], str):  # two system messages are one text
                own[-1] += content
            else:
                own.append(content)
            if role == "assistant":
                answered.append(len(own) - 1)
                own.append(end)
        parts.append(own)
        answers.append(answered)
    texts = [part for own in parts for part in own if isinstance(part, str)]
    ids, offsets = encoder.encode_batch(texts)
    encoded = iter(np.split(ids, offsets[1:-1])) if texts else iter(())
    result = []
    for own, answered in zip(parts, answers, strict=True):
        pieces = [
            next(encoded) if isinstance(part, str) else np.array([part], np.int32) for part in own
        ]
        ends = np.cumsum([len(piece) for piece in pieces])
        spans = [
            (int(ends[k] - len(pieces[k])), len(pieces[k]) + len(pieces[k + 1])) for k in answered
        ]
        result.append((np.concatenate(pieces).astype(np.int32), spans))
    return result
