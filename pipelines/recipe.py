"""The recipe: one YAML file that says everything about a run.

Each section is the configuration of one stage. What is written is checked before anything runs: an
unknown key, a wrong type, a path that is not there or shares that don't add up to one is a single
line that names the file, the key and what was expected. A recipe without a section takes the
defaults written here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from curation.remote import check, is_remote

RECIPES = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
# Names become parts of paths.
Name = Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]*$")]


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file, the key and what was expected."""


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
    places (characters, lines, syntax, project), and the longest rewritten span in tokens."""

    rate: dict[str, Fraction] = {"code": 0.1}
    formats: dict[Literal["psm", "spm"], Share] = {"psm": 1.0}
    holes: dict[Literal["characters", "lines", "syntax", "project"], Share] = {"characters": 1.0}
    span_tokens: Annotated[int, Field(gt=4)] = 4096


class EncodeSection(Section):
    """Token shards: fill-in-the-middle, and whether documents begin with the begin token.

    split_joined: share of the tokens joining punctuation with line breaks that training sees split.
    """

    fim: FimSection = FimSection()
    bos: bool = False
    split_joined: Fraction = 0.1


class DomainSection(Section):
    """A domain's share of a phase; a bare number is the share alone.

    Inside, in proportion to what there is, or by `sources` and `languages` (shares that add up to
    1, `*` for those not named); in the place of languages, `temperature` or `unimax` (epochs).
    """

    share: Share
    sources: dict[str, Fraction] | None = None
    languages: dict[str, Fraction] | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    unimax: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"share": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _divided(self) -> "DomainSection":
        from packing.mixture import Share as Checked

        Checked(**dict(self))
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: Any) -> Any:
        given = {name: value for name, value in handler(self).items() if value is not None}
        return given if len(given) > 1 else given["share"]


class PhaseSection(Section):
    """A stretch of training: sequence length, budget in tokens, and domain → share."""

    length: Annotated[int, Field(ge=8)] = 4096
    tokens: Positive
    mixture: dict[Name, DomainSection]

    @field_validator("mixture")
    @classmethod
    def _adds_up(cls, value: dict[str, DomainSection]) -> dict[str, DomainSection]:
        total = sum(domain.share for domain in value.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares must add up to 1, these add up to {total:g}")
        return value


class ValidationSection(Section):
    """Held-out documents: their fraction, sequences used by domain, sources left out."""

    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    sequences: Positive = 64
    exclude_sources: tuple[str, ...] = ()


class PlanSection(Section):
    """Phases in order, epoch caps (a default, and by source), who gives when one is short,
    validation, and how documents are packed."""

    phases: Annotated[tuple[PhaseSection, ...], Field(min_length=1)]
    default_max_epochs: Annotated[float, Field(gt=0)] = 4.0
    max_epochs: dict[str, Annotated[float, Field(gt=0)]] = {}
    when_short: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    validation: ValidationSection = ValidationSection()
    strategy: Literal["best_fit", "concat", "none"] = "best_fit"

    def phase_of(self, which: Callable[..., int]) -> int:
        """The number of the phase with the longest (`max`) or shortest (`min`) sequences."""
        return which(range(len(self.phases)), key=lambda k: self.phases[k].length)

    @model_validator(mode="after")
    def _others_give(self) -> "PlanSection":
        for name, others in self.when_short.items():
            if name in others:
                raise ValueError(f"when_short.{name}: names itself, expected others")
        return self


# Of training: a share of the run's tokens if at most 1, a number of tokens above.
Amount = Annotated[float, Field(ge=0)]


class TailSection(Section):
    """A stretch at the end of training at a constant rate: how much, and the ratio to the peak."""

    amount: Annotated[float, Field(gt=0)]
    ratio: Fraction


class TrainSection(Section):
    """The model (a preset, and fields of it to change) and the optimisation.

    What is not about processes is explained in `model/train_config.py`. `ranks`: processes of this
    machine that share each batch. `wandb`: a project of Weights & Biases to write to as well.
    """

    preset: str = "quickstart"
    model: dict[str, Any] = {}
    precision: Literal["fp32", "fp8"] = "fp32"
    recompute: bool = False
    batch_size: Positive = 8
    micro_batch_size: Positive | None = None
    first_batch_size: Positive | None = None
    batch_ramp: Amount = 0.0
    learning_rate: Annotated[float, Field(gt=0)] = 2.2e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    decay: Amount = 0.3
    min_lr_ratio: Fraction = 0.1
    tails: tuple[TailSection, ...] = ()
    embedding_scale: Annotated[float, Field(gt=0)] = 1.0
    head_scale: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0
    moments: Literal["float32", "bfloat16"] = "float32"
    mtp_weight: Annotated[float, Field(ge=0)] = 0.3
    late_mtp_weight: Annotated[float, Field(ge=0)] = 0.1
    mtp_switch: Amount = 10 / 14.8
    balance_alpha: Annotated[float, Field(ge=0)] = 1e-4
    bias_update_speed: Annotated[float, Field(ge=0)] = 1e-3
    bias_update_until: Amount = 14.3 / 14.8
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average_every: Positive = 1
    checkpoint_every: Positive = 100
    keep_checkpoints: Positive = 2
    keep_every: Annotated[int, Field(ge=0)] = 0
    eval_every: Positive = 200
    threads: Positive | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: Positive = 1
    wandb: str | None = None

    @model_validator(mode="after")
    def _whole_parts(self) -> "TrainSection":
        micro, first = self.micro_batch_size, self.first_batch_size
        if micro and self.batch_size % micro:
            raise ValueError(
                f"micro_batch_size {micro} does not divide batch_size {self.batch_size}"
            )
        if (first is None) != (self.batch_ramp == 0):
            raise ValueError("first_batch_size and batch_ramp go together: expected both or none")
        if first and not (micro and first % micro == 0 and first <= self.batch_size):
            raise ValueError(
                f"first_batch_size {first} is not a multiple of micro_batch_size {micro}, up to "
                f"batch_size {self.batch_size}"
            )
        return self


class ExtensionSection(Section):
    """A training at a greater length: of so many `tokens`, or `steps`, see `stages/extend.py`.

    `factor` of YaRN: the length over the trained one. `mixture`: that of the last phase.
    """

    length: Annotated[int, Field(ge=8)]
    tokens: Positive | None = None
    steps: Positive | None = None
    factor: Annotated[float, Field(gt=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    batch_size: Positive | None = None
    micro_batch_size: Positive = 1
    mixture: dict[Name, Any] | None = None

    def phase(self, last: PhaseSection, tokens: int) -> PhaseSection:
        """What it is to the plan; last: the phase whose mixture it takes if it has none."""
        values = {"length": self.length, "tokens": tokens}
        if self.mixture is None:
            return last.model_copy(update=values)
        return PhaseSection.model_validate({**values, "mixture": self.mixture})

    @model_validator(mode="after")
    def _one_amount(self) -> "ExtensionSection":
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("expected `tokens` or `steps`, one of the two")
        if self.mixture is not None:
            PhaseSection(length=self.length, tokens=1, mixture=self.mixture)
        _check_micro(self.batch_size, self.micro_batch_size)
        return self


class ChatSource(Section):
    """Conversations: a Parquet or JSON-lines file or a folder of them, with a column of messages
    (`role` and `content`), and `language` if there is one."""

    path: str
    name: Name
    messages_field: str = "messages"
    language: str | None = None


class SupervisedSection(Section):
    """Training on conversations after everything else, see `stages/supervised.py`.

    `length` of the sequences: the greatest trained before. The learning rate falls along a cosine
    to `final_learning_rate`.
    """

    sources: Annotated[tuple[ChatSource, ...], Field(min_length=1)]
    length: Annotated[int, Field(ge=8)] | None = None
    epochs: Positive = 2
    learning_rate: Annotated[float, Field(gt=0)] = 5e-6
    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    batch_size: Positive | None = None
    micro_batch_size: Positive = 1
    validation: ValidationSection = ValidationSection()

    @model_validator(mode="after")
    def _falls(self) -> "SupervisedSection":
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate:g} is above learning_rate "
                f"{self.learning_rate:g}"
            )
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("two sources have the same name")
        _check_micro(self.batch_size, self.micro_batch_size)
        return self


def _check_micro(batch: int | None, micro: int) -> None:
    if batch is not None and batch % micro:
        raise ValueError(f"micro_batch_size {micro} does not divide batch_size {batch}")


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


class Recipe(Section):
    """A whole run; without `plan`, one that ends with curation.

    The work of a stage is cut into `tasks` (each one or more splits; without it one for each split,
    up to a thousand), of which `workers` run at once. None of the three changes a byte.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    out: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    workers: Positive = 2
    tasks: Positive | None = None
    executor: Literal["local", "slurm", "ray"] = "local"
    slurm: SlurmSection = SlurmSection()
    on_error: Literal["skip", "stop"] = "skip"
    sample: SampleSection | None = None
    projects: ProjectsSection | None = None
    sources: tuple[SourceSection, ...] = ()
    classifiers: dict[Name, ClassifierSection] = {}
    curate: CurateSection = CurateSection()
    tokenizer: TokenizerSection = TokenizerSection()
    encode: EncodeSection = EncodeSection()
    plan: PlanSection | None = None
    train: TrainSection = TrainSection()
    extend: tuple[ExtensionSection, ...] = ()
    supervised: SupervisedSection | None = None
    publish: PublishSection = PublishSection()

    @property
    def directory(self) -> Path:
        """Where the run's stages are written: `out`, or runs/NAME."""
        return Path(self.out) if self.out else Path("runs") / self.name

    def trained_length(self) -> int:
        """The longest sequence of the plan, in tokens."""
        return max(phase.length for phase in self.plan.phases)

    def longest_context(self) -> int:
        """The longest sequence that the model is trained on before the supervised stage."""
        return self.extend[-1].length if self.extend else self.trained_length()

    def all_sources(self) -> list["SourceSection | ProjectsSource"]:
        """Sources of documents and of projects."""
        return [*self.sources, *(self.projects.sources if self.projects else ())]

    def steps(self) -> list[dict[str, dict[str, Any]]]:
        """`curate.steps`, with its file in the place of the name of a model of `classifiers`."""
        folder = self.directory / "classifiers"
        return [
            {step: fields | {"model": str(folder / f"{fields['model']}.bin")}}
            if step == "classifier" and fields.get("model") in self.classifiers
            else {step: fields}
            for entry in self.curate.steps
            for step, fields in entry.items()
        ]

    def readable_sources(self) -> list[str]:
        """Names by which `classifiers` may ask for the documents of a part of the recipe."""
        made = [name for name in ("sample", "projects") if getattr(self, name) is not None]
        return [*(source.name for source in self.sources), *made]

    @model_validator(mode="after")
    def _whole(self) -> "Recipe":
        if self.sample is None and self.projects is None and not self.sources:
            raise ValueError(
                "a recipe needs `sample:`, `projects:` or `sources:`, to have documents at all"
            )
        names = [source.name for source in self.all_sources()]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        slurm = (
            int(self.slurm.memory[:-1])
            << {"K": 10, "M": 20, "G": 30, "T": 40}[self.slurm.memory[-1]]
        )
        if self.executor == "slurm" and self.curate.merge_memory_bytes > slurm:
            raise ValueError(
                f"curate.merge_memory_bytes {self.curate.merge_memory_bytes} is more than a task "
                f"has, expected at most slurm.memory {self.slurm.memory}"
            )
        for entry in self.curate.steps:
            fields = entry.get("classifier", {})
            model = self.classifiers.get(str(fields.get("model")))
            if model and not model.held_out and fields.get("keep_share") is not None:
                raise ValueError(
                    f"classifiers.{fields['model']}.held_out: 0, expected more: the step's "
                    "keep_share goes by negative texts that were held out; or give min_score"
                )
        if self.plan and any(self.encode.fim.rate.values()):
            shortest = self.plan.phase_of(min)
            length = self.plan.phases[shortest].length
            if self.encode.fim.span_tokens > length:
                raise ValueError(
                    f"encode.fim.span_tokens {self.encode.fim.span_tokens} is longer than a "
                    f"sequence, expected at most plan.phases.{shortest}.length {length}"
                )
        self._check_lengths()
        return self

    def _check_lengths(self) -> None:
        """Each extension is longer than what was trained before, and none is out of reach."""
        if self.plan is None:
            return
        trained = before = self.trained_length()
        for i, entry in enumerate(self.extend):
            if entry.length <= before:
                raise ValueError(
                    f"extend.{i}.length {entry.length} is no extension, expected more than the "
                    f"{before} tokens trained before it"
                )
            before = entry.length
            if entry.factor is not None and entry.factor * trained < entry.length:
                raise ValueError(
                    f"extend.{i}.factor {entry.factor:g} times the trained length {trained} is "
                    f"below length {entry.length}, expected at least {entry.length / trained:g}"
                )
        length = self.supervised and self.supervised.length
        if length and length > before:
            raise ValueError(
                f"supervised.length {length} is more than was trained before, expected at most "
                f"{before}"
            )


def _first_error(error: ValidationError) -> str:
    """One line for the first thing wrong: its key, what was expected, what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "recipe"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_known_keys(first['loc'])}"
    if first["type"] == "missing":
        return f"{key}: missing; it has no default"
    found = first["input"]
    shown = repr(found) if isinstance(found, str | int | float | bool | type(None)) else None
    return f"{key}: {message}" + (f", found {shown}" if shown else "")


def _known_keys(location: tuple) -> str:
    """Which keys the section of an unknown key has."""
    model: Any = Recipe
    for part in location[:-1]:
        if isinstance(part, int) or part not in model.model_fields:  # a place, or a name
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None
        )
        if model is None:
            return "it is not expected here"
    return f"expected one of {', '.join(model.model_fields)}"


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the project."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and (RECIPES / f"{name}.yaml").is_file():
        return RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise RecipeError(f"{name}: no such recipe file, and none of the built-in ones: {known}")
    return path


def read_recipe(path: Path) -> Recipe:
    """Read a recipe and check what stands in it, but not whether its sources and steps exist.

    Raises RecipeError with one line that names the file and the key.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise RecipeError(f"{path}{place}: not valid YAML: {problem}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_first_error(error)}") from None


def load_recipe(name: str) -> Recipe:
    """Read and check a recipe, and that its sources and its steps exist.

    Raises RecipeError with one line that names the file and the key.
    """
    path = find_recipe(name)
    recipe = read_recipe(path)
    for key, source in _places(recipe):
        if is_remote(source.path) and isinstance(source, SourceSection):
            try:
                check(source.path, source.storage_options)
            except ValueError as error:
                raise RecipeError(f"{path}: {key}: {error}") from None
        elif not Path(source.path).exists():
            raise RecipeError(f"{path}: {key}.path: no such file or folder: {source.path}")
    for key, text in _training_texts(recipe):
        if text not in recipe.readable_sources() and not Path(text).exists():
            names = ", ".join(recipe.readable_sources())
            raise RecipeError(
                f"{path}: {key}: no such file or folder, and no source of this name (there are: "
                f"{names}): {text}"
            )
    _check_parts(recipe, path)
    return recipe


def _places(recipe: Recipe) -> list[tuple[str, "SourceSection | ProjectsSource | ChatSource"]]:
    """Every source with its key in the recipe."""
    sources = [(f"sources.{i}", source) for i, source in enumerate(recipe.sources)]
    projects = recipe.projects.sources if recipe.projects else ()
    chats = recipe.supervised.sources if recipe.supervised else ()
    return [
        *sources,
        *((f"projects.sources.{i}", source) for i, source in enumerate(projects)),
        *((f"supervised.sources.{i}", source) for i, source in enumerate(chats)),
    ]


def _training_texts(recipe: Recipe) -> list[tuple[str, str]]:
    """Every path or name of a source that `classifiers` has, with its key in the recipe."""
    return [
        (f"classifiers.{name}.{side}.{i}", text)
        for name, model in recipe.classifiers.items()
        for side in ("positive", "negative")
        for i, text in enumerate(getattr(model, side))
    ]


def _check_parts(recipe: Recipe, path: Path) -> None:
    """Build the curation steps and the model's configuration once, to hear what is wrong early."""
    from pipelines.steps import build_rounds, build_steps, files_of

    for key, build in (
        ("steps", lambda: build_steps(recipe.curate.steps)),
        ("dedup", lambda: build_rounds(recipe.curate.dedup.items(), recipe.seed)),
    ):
        try:
            files_of(build(), recipe.classifiers)
        except ValueError as error:
            raise RecipeError(f"{path}: curate.{key}: {error}") from None
    if recipe.plan is None:
        return
    from pipelines.shapes import model_config

    try:
        config = model_config(recipe.train, vocab_size=recipe.tokenizer.vocab_size)
    except ValueError as error:
        raise RecipeError(f"{path}: train: {error}") from None
    longest = recipe.plan.phase_of(max)
    length = recipe.plan.phases[longest].length
    if length > config.max_position_embeddings:
        raise RecipeError(
            f"{path}: plan.phases.{longest}.length: {length} is more than the model's positions, "
            f"expected at most train.model.max_position_embeddings {config.max_position_embeddings}"
        )


def check_trains(recipe: Recipe, name: str, command: str) -> None:
    """Refuse to go on after curation with a recipe that has no plan."""
    if recipe.plan is None:
        raise RecipeError(
            f"{name}: plan: missing; `gristmill {command}` needs `plan:` with its phases (length, "
            "tokens, mixture), see quickstart.yaml; `gristmill curate` does without"
        )


def check_place(recipe: Recipe, name: str) -> None:
    """Refuse a run inside one of its own sources: it would read what it writes."""
    place = recipe.directory.resolve()
    for key, source in _places(recipe):
        if Path(source.path).is_dir() and place.is_relative_to(Path(source.path).resolve()):
            raise RecipeError(
                f"{name}: {key}.path: the run's folder {recipe.directory} lies inside "
                f"{source.path}; expected `out` (or --out) outside of every source"
            )
    for key, text in _training_texts(recipe):
        outside = text not in recipe.readable_sources() and Path(text).is_dir()
        if outside and place.is_relative_to(Path(text).resolve()):
            raise RecipeError(
                f"{name}: {key}: the run's folder {recipe.directory} lies inside {text}; "
                "expected `out` (or --out) outside of it"
            )
