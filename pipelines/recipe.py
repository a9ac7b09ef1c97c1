"""The recipe: one YAML file that says everything about a run.

Each section is the configuration of one stage (`recipe_data.py`, `recipe_training.py`). What is
written is checked before anything runs: an unknown key, a wrong type, a path that is not there or
shares that don't add up to one is a single line that names the file, the key and what was expected.
A recipe without a section takes the defaults written there.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)

from curation.remote import check, is_remote
from pipelines.recipe_data import (
    ClassifierSection,
    CurateSection,
    EncodeSection,
    Name,
    Positive,
    ProjectsSection,
    ProjectsSource,
    PublishSection,
    SampleSection,
    Section,
    SlurmSection,
    SourceSection,
    TokenizerSection,
)
from pipelines.recipe_training import (
    ChatSource,
    ExtensionSection,
    PlanSection,
    SupervisedSection,
    TrainSection,
)

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file, the key and what was expected."""


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
    classifiers: dict[Name, ClassifierSection] = Field(default_factory=dict)
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
