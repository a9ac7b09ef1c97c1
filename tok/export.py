"""Write a tokenizer as Hugging Face's libraries read it.

`tokenizer.json` alone is enough for `tokenizers.Tokenizer.from_file`; `tokenizer_config.json`
(roles of the special tokens, chat template) is what `AutoTokenizer.from_pretrained` needs too.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

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
