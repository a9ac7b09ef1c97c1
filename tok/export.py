"""Write a tokenizer as Hugging Face's libraries and tiktoken read it.

`tokenizer.json` alone is enough for `tokenizers.Tokenizer.from_file`; `tokenizer_config.json`
(roles of the special tokens, chat template) is what `AutoTokenizer.from_pretrained` needs too.
tiktoken reads a file of ranks and is told the regex and the special tokens by the caller.
"""

import base64
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from tok.encoder import Encoder
from tok.load import parse_definition
from tok.schemes import SCHEMES
from tok.special_tokens import LEADING, SPECIAL_TOKENS, TRAILING, chat_template


def export_tokenizer(
    tokenizer: Tokenizer, directory: Path, *, bos: bool = False, model_max_length: int = 4096
) -> list[Path]:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja.

    bos: whether training rows begin documents with the begin token (`add_bos_token`).
    model_max_length: tokens. Returns the files written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    roles = {
        "bos_token": LEADING["bos"],
        "eos_token": LEADING["eos"],
        "pad_token": LEADING["pad"],
        "additional_special_tokens": list(TRAILING.values()),
    }
    config = {
        **roles,
        "add_bos_token": bos,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for token in sorted(SPECIAL_TOKENS.values(), key=tokenizer.token_to_id)
        },
        "clean_up_tokenization_spaces": False,
        "model_max_length": model_max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    contents = {
        "tokenizer.json": tokenizer.to_str(pretty=False),
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False, indent=2),
        "special_tokens_map.json": json.dumps(roles, ensure_ascii=False, indent=2),
        "chat_template.jinja": chat_template(bos),
    }
    files = []
    for name, content in contents.items():
        path = directory / name
        path.write_text(content, encoding="utf-8")
        files.append(path)
    return files


def export_tiktoken(tokenizer: Tokenizer, path: Path) -> None:
    """Write the file of ranks that tiktoken loads: a line a token, base64, space, rank (its id).

    tiktoken wants to be told the rest; the same ids come out of

        tiktoken.Encoding(
            "ours",
            pat_str=tok.export.tiktoken_pattern(scheme),
            mergeable_ranks=tiktoken.load.load_tiktoken_bpe(path),
            special_tokens={token.content: id for id, token in …get_added_tokens_decoder().items()},
        )

    Tokens that merging never makes are left out: tiktoken would make them. Raises ValueError for a
    tokenizer that is not byte-level BPE under one of our schemes, or whose ids do not rise in the
    order of the merges (tiktoken merges by id).
    """
    definition = parse_definition(tokenizer.to_str())
    encoder = Encoder(definition)
    if encoder.scheme is None:
        raise ValueError(f"tiktoken can't have this tokenizer: {encoder.why}")
    _, first = np.unique(definition.merges[:, 2], return_index=True)
    if not (np.diff(definition.merges[np.sort(first), 2]) > 0).all():
        raise ValueError("tiktoken can't have this tokenizer: its ids do not rise with its merges")
    data, bounds, ids = definition.entries
    tokens = [data[a:b].tobytes() for a, b in pairwise(bounds)]
    made, offsets = encoder.encode_words(tokens)
    lines = {
        int(i): base64.b64encode(token) + b" %d\n" % i
        for i, token, a, b in zip(ids, tokens, offsets[:-1], offsets[1:], strict=True)
        if b == a + 1 and made[a] == i
    }
    Path(path).write_bytes(b"".join(line for _, line in sorted(lines.items())))


def tiktoken_pattern(scheme: str) -> str:
    """A scheme as one regex, which is all that tiktoken takes.

    Where a scheme is several regexes, the later ones see only what lies between the matches of the
    earlier ones. As alternatives of one regex they must be kept from running into those: classes
    are told to leave out the scripts of the second regex (digits are in none of them), and white
    space that ends before a digit or such a script ends its piece. What the second regex matches
    is cut again by the third, into letters, symbols (ひ・カ) and what is neither. What no regex
    matches (control characters) is a word too, which tiktoken would drop: the last alternative
    matches it. Raises ValueError when the scheme is unknown.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown pretokenizer scheme {scheme!r}: expected one of {list(SCHEMES)}")
    if len(SCHEMES[scheme]) == 1:
        return SCHEMES[scheme][0]
    numbers, scripts, rest = SCHEMES[scheme]
    characters = "".join(re.findall(r"\[([^\]]*)\]", scripts))
    apart, inside = rf"(?![{characters}])", rf"(?=[{characters}])"
    letter = rf"{inside}[\p{{L}}\p{{M}}〇]"
    scripts = (
        rf"(?:{inside}[^\p{{L}}\p{{P}}\p{{S}}])?(?:{letter})+|(?:{inside}[\p{{P}}\p{{S}}])+"
        rf"|(?:{inside}[^\p{{L}}\p{{M}}\p{{P}}\p{{S}}〇](?!{letter}))+"
    )
    rest = re.sub(
        r"(\[\\p\{[^\]]*\])([+*]?)", lambda found: f"(?:{apart}{found[1]}){found[2]}", rest
    )
    rest = rest.replace(r"(?!\S)", rf"(?![^\s\p{{N}}{characters}])")
    known = f"{numbers}|{scripts}|{rest}"
    return rf"{known}|(?:(?!{known})[\s\S])+"
