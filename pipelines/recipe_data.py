"""The sections of a recipe that are about documents: sources, curation, tokenizer, encoding."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
)

Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
# Names become parts of paths.
Name = Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]*$")]


class Section(BaseModel):
    """A part of a recipe: no key but those declared, nothing changed after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SampleSection(Section):
    """The corpus that `gristmill sample` gathers from installed packages; leave out to use none."""

    target_bytes: Positive = 90_000_000


class SourceSection(Section):
    """One's own documents: a file, a folder, or an address as `curation/remote.py` reads them."""

    path: str
    name: Name
    domain: Name
    format: Literal["parquet", "jsonl", "text", "datasets", "html", "warc"] | None = None
    language: str | None = None
    license: str | None = None
    text_field: str = "text"
    max_document_bytes: Positive = 32 << 20
    html_field: str | None = None
    # Left out of whatever repeats a recipe: keys, manifests, what is published.
    storage_options: Annotated[dict[str, Any], Field(exclude=True)] = {}


class ProjectsSource(Section):
    """A code project (a folder, an archive, a Parquet table with repo, path and content), or with
    `each` a folder of them."""

    path: str
    name: Name
    each: bool = False


class ProjectsSection(Section):
    """Code as projects: the order of files, the largest document in bytes, SPDX identifiers that
    may be used (null: all), and whether syntax nodes are kept for fill-in-the-middle."""

    sources: Annotated[tuple[ProjectsSource, ...], Field(min_length=1)]
    order: Literal["dependencies", "random"] = "dependencies"
    max_bytes: Positive = 1 << 18
    licenses: tuple[str, ...] | None = None
    holes: bool = True


class ClassifierSection(Section):
    """A model of `curation/classifier.py`, for the step `classifier` to use by its name.

    `positive` and `negative`: text, each a path (Parquet, JSON lines, plain files or a folder) or
    the name of a source of the recipe, of which `count` texts a side are drawn. The rest are fields
    of `ClassifierSettings`; without a seed, the recipe's.
    """

    positive: Annotated[tuple[str, ...], Field(min_length=1)]
    negative: Annotated[tuple[str, ...], Field(min_length=1)]
    count: Positive = 200_000
    dim: Size = 100
    lr: Annotated[float, Field(gt=0)] = 0.1
    word_ngrams: Size = 2
    min_count: Size = 3
    epochs: Size = 5
    bucket: Size = 1_000_000
    max_chars: Size = 10_000
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class CurateSection(Section):
    """Steps by name, in order, each with its settings; then rounds of deduplication likewise.

    A round sees the whole corpus, and its merge may use `merge_memory_bytes`. A split of more text
    than `part_bytes` is filtered in parts, and a task that died goes on behind the last of them.
    """

    steps: tuple[dict[str, dict[str, Any]], ...] = (
        {"language": {}},
        {"length": {}},
        {"symbols": {}},
        {"gopher_repetition": {}},
    )
    dedup: dict[str, dict[str, Any]] = {"documents": {}}
    split_bytes: Positive = 8 << 20
    part_bytes: Positive = 128 << 20
    merge_memory_bytes: Positive = 2 << 30

    @field_validator("steps", mode="before")
    @classmethod
    def _one_name_each(cls, value: Any) -> Any:
        """Accept `- length` for `- length: {}`, and refuse two names in one step."""
        if not isinstance(value, list | tuple):
            return value
        steps = [{step: {}} if isinstance(step, str) else step for step in value]
        steps = [
            {k: v or {} for k, v in step.items()} if isinstance(step, dict) else step
            for step in steps
        ]
        for step in steps:
            if isinstance(step, dict) and len(step) != 1:
                raise ValueError(f"a step is one name with its settings, found {sorted(step)}")
        return steps

    @field_validator("dedup", mode="before")
    @classmethod
    def _rounds(cls, value: Any) -> Any:
        """Accept null for no rounds and `documents:` for `documents: {}`."""
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(
            isinstance(v, dict | None) for v in value.values()
        ):
            raise ValueError(
                "expected a mapping of rounds to their settings, such as "
                "`dedup: {documents: {ngram: 5}}`, or null for none"
            )
        return {name: settings or {} for name, settings in value.items()}


class TokenizerSection(Section):
    """Byte-level BPE; `vocab_size` counts begin, end, padding, bytes and merges."""

    scheme: str = "multilingual"
    vocab_size: Annotated[int, Field(ge=259)] = 128_000
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    min_count: Positive = 2
    max_token_bytes: Annotated[int, Field(ge=1)] = 64

    @field_validator("scheme")
    @classmethod
    def _known(cls, value: str) -> str:
        from tok.schemes import SCHEMES

        if value not in SCHEMES:
            raise ValueError(f"unknown scheme {value!r}, expected one of {', '.join(SCHEMES)}")
        return value


class FimSection(Section):
    """Fill-in-the-middle: rate by domain or domain/language, shares of formats (psm, spm) and of
    places (characters, lines, syntax, project), the longest rewritten span in tokens, and the least
    and largest size of nodes that is looked for, in bytes."""

    rate: dict[str, Fraction] = {"code": 0.1}
    formats: dict[Literal["psm", "spm"], Share] = {"psm": 1.0}
    holes: dict[Literal["characters", "lines", "syntax", "project"], Share] = {"characters": 1.0}
    span_tokens: Annotated[int, Field(gt=4)] = 4096
    node_bytes: tuple[Positive, Positive] = (8, 2048)

    @field_validator("node_bytes")
    @classmethod
    def _least_first(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"{list(value)}: expected the least size, then the largest")
        return value


class EncodeSection(Section):
    """Token shards: fill-in-the-middle, and whether documents begin with the begin token.

    split_joined: share of the tokens joining punctuation with line breaks that training sees split.
    """

    fim: FimSection = FimSection()
    bos: bool = False
    split_joined: Fraction = 0.1


class PublishSection(Section):
    """The Hugging Face dataset: its name, and about how many bytes a file has."""

    name: str = "gristmill-dataset"
    shard_bytes: Positive = 500_000_000


class SlurmSection(Section):
    """How Slurm is asked for an array of tasks; the times and sizes are those of one task.

    `extra` are further options of sbatch, such as `--qos=low`. `attempts`: how often a task that
    was killed is submitted.
    """

    partition: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,-]+$")] | None = None
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d\d){0,2}$")] = "24:00:00"
    memory: Annotated[str, Field(pattern=r"^[1-9]\d*[KMGT]$")] = "8G"
    cpus: Positive = 1
    extra: tuple[Annotated[str, Field(pattern=r"^--[a-z][a-z-]*(=[^\s\\\"'`$]+)?$")], ...] = ()
    attempts: Positive = 3
