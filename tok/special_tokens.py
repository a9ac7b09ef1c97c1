"""Special tokens, by role, and the chat template that uses them.

The spellings are DeepSeek-V3's, so that a checkpoint made here can be served by what serves theirs.
Begin, end and padding come first in the vocabulary (ids 0, 1, 2), the others after the last merge:
the ids of bytes and merges then don't move when a special token is added.

No text ever encodes to a special token because it spells one: see `tok.encoder`.
"""

LEADING = {
    "bos": "<｜begin▁of▁sentence｜>",
    "eos": "<｜end▁of▁sentence｜>",
    "pad": "<｜▁pad▁｜>",
}
TRAILING = {
    "fim_hole": "<｜fim▁hole｜>",
    "fim_begin": "<｜fim▁begin｜>",
    "fim_end": "<｜fim▁end｜>",
    "user": "<｜User｜>",
    "assistant": "<｜Assistant｜>",
}
SPECIAL_TOKENS = LEADING | TRAILING


def placeholder(number: int) -> str:
    """The spelling of a reserved special token, to be given a meaning later."""
    return f"<｜place▁holder▁no▁{number}｜>"


def chat_template(bos: bool) -> str:
    """The Jinja template for conversations: system text first, then turns; an answer ends with eos.

    bos: whether a conversation begins with the begin-of-sentence token, as the training rows do.
    """
    turns = (
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content }}"
        "{% elif message.role == 'user' %}{{ '" + TRAILING["user"] + "' + message.content }}"
        "{% elif message.role == 'assistant' %}{{ '"
        + TRAILING["assistant"]
        + "' + message.content + eos_token }}"
        "{% else %}{{ raise_exception('unknown role ' + message.role"
        " + ': expected system, user or assistant') }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '" + TRAILING["assistant"] + "' }}{% endif %}"
    )
    return ("{{ bos_token }}" if bos else "") + turns
