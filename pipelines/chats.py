"""Conversations of a recipe, made into token shards of which the answers alone count for the loss.

Parquet files and JSON lines are read row by row; a row that is no conversation, has no answer or is
longer than a sequence is left out, counted, and the first of them are told. A shard is written for
about `SHARD_TOKENS` tokens, so that memory does not grow with the data. Rows go in the order of the
sources and of their files' names.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.document import document_id
from packing import DOCUMENTS_SCHEMA, write_shard
from pipelines.recipe_training import ChatSource
from pipelines.texts import find_files, kind_of, split_lines
from tok import Encoder
from tok.chat import ChatError, encode_chats

SHARD_TOKENS = 1 << 24
DOMAIN = "supervised"
_ROWS = 1024


@dataclass
class Told:
    """What became of the conversations: `kept`, `left_out` by reason, the first `problems`."""

    kept: int = 0
    tokens: int = 0
    answers: int = 0  # tokens that count for the loss
    left_out: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def drop(self, reason: str, what: str) -> None:
        self.left_out[reason] += 1
        if len(self.problems) < 20:
            self.problems.append(what)


def chat_files(source: ChatSource) -> list[Path]:
    """The files of a source, in order. Raises ValueError for one that is no table."""
    files = find_files([Path(source.path)])
    for path in files:
        if kind_of(path) == "text":
            raise ValueError(f"{path}: expected Parquet or JSON lines with conversations")
    return files


def read_chats(source: ChatSource, path: Path) -> Iterator[tuple[str, object, str | None]]:
    """(place, messages, language) of each row. Raises ValueError for a file that cannot be read."""
    name = source.messages_field
    if kind_of(path) == "parquet":
        try:
            with pq.ParquetFile(path) as file:
                columns = [n for n in (name, "language") if n in file.schema_arrow.names]
                if name not in columns:
                    raise ValueError(
                        f"{path}: no column {name!r}; set messages_field to the one of the "
                        f"conversations (there are {', '.join(file.schema_arrow.names)})"
                    )
                at = 0
                for batch in file.iter_batches(_ROWS, columns=columns):
                    for row in batch.to_pylist():
                        at += 1
                        yield f"row {at}", row[name], row.get("language") or source.language
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from None
        return
    with pa.input_stream(str(path), compression="detect") as raw:
        for number, line in enumerate(split_lines(raw), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                row = row if isinstance(row, dict) else {}
                language = row.get("language")
                known = language if isinstance(language, str) else source.language
                yield f"line {number}", row.get(name), known


def write_chats(
    sources: tuple[ChatSource, ...], out: Path, encoder: Encoder, *, bos: bool, length: int
) -> Told:
    """Encode the sources into shards `out/shard-NNNNN`; tell what became of them.

    length: the most tokens a conversation may have.
    """
    told, rows, pieces = Told(), [], []
    shards = held = 0
    for source in sources:
        for path in chat_files(source):
            for batch in _batches(read_chats(source, path)):
                for (place, messages, language), found in zip(
                    batch, _encode(batch, path, encoder, bos, told), strict=True
                ):
                    if found is None:
                        continue
                    tokens, answers = found
                    where = f"{path}, {place}"
                    if not answers:
                        told.drop("no answer", f"{where}: no message of an assistant")
                        continue
                    if len(tokens) > length:
                        told.drop("too long", f"{where}: {len(tokens):,} tokens, over {length:,}")
                        continue
                    rows.append(_row(source, path.name, place, messages, language, found))
                    pieces.append(tokens)
                    held += len(tokens)
                    told.kept += 1
                    told.tokens += len(tokens)
                    told.answers += sum(n for _, n in answers)
                    if held >= SHARD_TOKENS:
                        _write(out, shards, rows, pieces)
                        shards, held, rows, pieces = shards + 1, 0, [], []
    if rows:
        _write(out, shards, rows, pieces)
    return told


def _batches(chats: Iterator[tuple]) -> Iterator[list[tuple]]:
    batch = []
    for chat in chats:
        batch.append(chat)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _encode(batch: list[tuple], path: Path, encoder: Encoder, bos: bool, told: Told) -> list:
    """Tokens and answers of each conversation, None for one that is none."""
    try:
        return encode_chats(encoder, [messages for _, messages, _ in batch], bos=bos)
    except ValueError:
        pass
    found = []  # one by one, to see which it was
    for place, messages, _ in batch:
        try:
            found += encode_chats(encoder, [messages], bos=bos)
        except ValueError as error:
            reason = "no conversation" if isinstance(error, ChatError) else "not Unicode"
            told.drop(reason, f"{path}, {place}: {error}")
            found.append(None)
    return found


def _row(
    source: ChatSource, name: str, place: str, messages: list, language: str | None, found: tuple
) -> dict:
    tokens, answers = found
    plain = [[message["role"], message["content"]] for message in messages]
    text = json.dumps(plain, ensure_ascii=False)
    return {
        "id": document_id(source.name, f"{name}, {place}", text),
        "source": source.name,
        "domain": DOMAIN,
        "language": language,
        "bytes": sum(len(content.encode()) for _, content in plain),
        "tokens": len(tokens),
        # Never cut: what is left of a conversation behind a cut has no question.
        "atomic": [{"start": 0, "length": len(tokens)}],
        "loss_spans": [{"start": a, "length": n} for a, n in answers],
    }


def _write(out: Path, number: int, rows: list[dict], pieces: list[np.ndarray]) -> None:
    table = pa.Table.from_pylist(rows, schema=DOCUMENTS_SCHEMA)
    write_shard(out / f"shard-{number:05d}", np.concatenate(pieces), table)
