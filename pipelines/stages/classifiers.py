"""Train the classifiers that a recipe describes, each on texts of its own, side by side.

A model and its report are `NAME.bin` and `NAME.json`; the step `- classifier: {model: NAME, …}`
of `curate` finds them by the name, and the checksums of both are in the key of that stage.
"""

from dataclasses import asdict
from pathlib import Path

from curation.classifier import report_path
from curation.readers import Problem, Source, versions
from curation.remote import is_remote
from pipelines.classifiers import at_half
from pipelines.recipe import Recipe
from pipelines.recipe_data import ClassifierSection
from pipelines.runner import Context, Result, Stage
from pipelines.texts import find_files

SIDES = ("positive", "negative")


def _made(recipe: Recipe) -> dict[str, Source]:
    """What stages before made, where no source of the recipe has that name."""
    own = {source.name for source in recipe.sources}
    return {
        name: Source(str(recipe.directory / folder), name, domain="web", format="parquet")
        for name, folder in (("sample", "sample"), ("projects", "projects/documents"))
        if getattr(recipe, name) is not None and name not in own
    }


def _sources(recipe: Recipe) -> dict[str, Source]:
    """The sources that models may name: the recipe's own, and those made."""
    return _made(recipe) | {s.name: Source(**s.model_dump()) for s in recipe.sources}


def _settings(recipe: Recipe, model: ClassifierSection) -> dict:
    values = model.model_dump(exclude={*SIDES, "count"})
    return values | {"seed": recipe.seed if model.seed is None else model.seed}


def _run(context: Context) -> Result:
    recipe, directory = context.recipe, context.directory
    sources = _sources(recipe)

    def entry(text: str) -> dict:
        return {"source": asdict(sources[text])} if text in sources else {"path": text}

    jobs = context.splits(
        lambda: [
            {
                "name": name,
                "count": model.count,
                "settings": _settings(recipe, model),
                **{side: [entry(text) for text in getattr(model, side)] for side in SIDES},
            }
            for name, model in recipe.classifiers.items()
        ]
    )
    records = context.map("train", "classifiers.train", jobs, str(directory), recipe.on_error)
    outputs: dict[Path, int | None] = {}
    for record in records:
        model = directory / f"{record['name']}.bin"
        outputs |= {model: None, report_path(model): None}
        for problem in record["problems"][:5]:
            context.warn(f"{record['name']}: {Problem(**problem)}")
    said = []
    for record in records:
        row = at_half(record["report"]["judged"])
        said.append(f"{record['name']}: precision {row['precision']:.3f}, "
                    f"recall {row['recall']:.3f} at 0.5")  # fmt: skip
    return Result(
        outputs,
        {
            "classifiers": {record["name"]: record["report"] for record in records},
            "problems": [problem for record in records for problem in record["problems"]],
            "problem_count": sum(record["problem_count"] for record in records),
        },
        "; ".join(said),
    )


def _files(recipe: Recipe) -> dict[str, Path]:
    """Every file that models are trained on, by model, side, place and path inside it."""
    files, sources, made = {}, _sources(recipe), _made(recipe)
    for name, model in recipe.classifiers.items():
        for side in SIDES:
            for place, text in enumerate(getattr(model, side)):
                if text in made or (text in sources and is_remote(sources[text].path)):
                    continue  # in the key by the stage that made it, or by `versions`
                root = Path(sources[text].path if text in sources else text)
                for path in _inside(root) if text in sources else find_files([root]):
                    inside = path.relative_to(root) if root.is_dir() else path.name
                    files[f"{name}/{side}/{place}/{inside}"] = path
    return files


def _inside(root: Path) -> list[Path]:
    paths = [root] if root.is_file() else sorted(root.rglob("*"))
    return [path for path in paths if path.is_file()]


def _config(recipe: Recipe) -> dict:
    """Settings, and for each side which entries are sources, and how these are read."""
    sources = _sources(recipe)

    def entry(text: str) -> dict | None:
        if text not in sources:
            return None
        source = sources[text]
        about = {key: value for key, value in asdict(source).items() if key != "path"}
        return about | ({"versions": versions(source)} if is_remote(source.path) else {})

    return {
        "models": {
            name: {
                "count": model.count,
                "settings": _settings(recipe, model),
                **{side: [entry(text) for text in getattr(model, side)] for side in SIDES},
            }
            for name, model in recipe.classifiers.items()
        },
        "on_error": recipe.on_error,
    }


def stage(recipe: Recipe) -> Stage:
    """The stage; it comes after those whose documents a model is trained on."""
    named = {
        text
        for model in recipe.classifiers.values()
        for side in SIDES
        for text in getattr(model, side)
    }
    after = tuple(name for name in _made(recipe) if name in named)
    return Stage("classifiers", 1, after, _config, _run, inputs=_files)
