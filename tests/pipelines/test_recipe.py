"""Recipes: what is wrong is one line that names the file, the key and what was expected."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from curation.readers import Source
from pipelines.recipe import RECIPES, Recipe, RecipeError, check_place, load_recipe

GOOD = {
    "name": "r",
    "sources": [{"path": "documents", "name": "mine", "domain": "web"}],
    "plan": {"phases": [{"length": 64, "tokens": 1000, "mixture": {"web": 1.0}}]},
    "encode": {"fim": {"rate": {}}},
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()

    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(GOOD | changes))
        return path

    return write


def phases(**changes):
    return {"phases": [GOOD["plan"]["phases"][0] | changes]}


TEXTS = {"positive": ["mine"], "negative": ["mine"]}

MISTAKES = {
    "an unknown key": ({"tokeniser": {}}, "tokeniser: unknown key; expected one of name, "),
    "an unknown key inside": (
        {"tokenizer": {"size": 1}},
        "tokenizer.size: unknown key; expected one of scheme, vocab_size",
    ),
    "an unknown key in a list": (
        {"plan": phases(lenght=1)},
        "plan.phases.0.lenght: unknown key; expected one of length, ",
    ),
    "a wrong type": ({"seed": "abc"}, "seed: Input should be a valid integer"),
    "a wrong choice": ({"on_error": "ignore"}, "on_error: Input should be 'skip' or 'stop'"),
    "a scheme that is not there": (
        {"tokenizer": {"scheme": "gpt9"}},
        "tokenizer.scheme: unknown scheme 'gpt9', expected one of gpt2, cl100k, o200k",
    ),
    "a path that is not there": (
        {"sources": [{"path": "nowhere", "name": "a", "domain": "web"}]},
        "sources.0.path: no such file or folder: nowhere",
    ),
    "an address with a credential": (
        {
            "sources": [
                {
                    "path": "s3://b/x",
                    "name": "a",
                    "domain": "web",
                    "storage_options": {"secret": "xyzzy"},
                }
            ]
        },
        "sources.0: storage_options.secret: a credential; manifests repeat the source",
    ),
    "shares that don't add up": (
        {"plan": phases(mixture={"web": 0.5, "code": 0.4})},
        "plan.phases.0.mixture: shares must add up to 1, these add up to 0.9",
    ),
    "a share out of range": (
        {"plan": phases(mixture={"web": 1.5})},
        "plan.phases.0.mixture.web.share: Input should be less than or equal to 1, found 1.5",
    ),
    "nothing to read": ({"sources": []}, "needs `sample:`, `projects:` or `sources:`"),
    "two sources of a name": ({"sources": GOOD["sources"] * 2}, "the same name"),
    "a plan without phases": ({"plan": {}}, "plan.phases: missing"),
    "an unknown step": (
        {"curate": {"steps": ["lenght"]}},
        "curate.steps: unknown step 'lenght', expected one of language, length, ",
    ),
    "an unknown setting of a step": (
        {"curate": {"steps": [{"length": {"minimum": 3}}]}},
        "length.minimum: unknown setting, expected one of min_chars, max_chars",
    ),
    "an unknown threshold of a language": (
        {"curate": {"steps": [{"fineweb": {"languages": {"deu_Latn": {"lines": 1}}}}]}},
        "languages.deu_Latn.lines: unknown threshold, expected one of min_punctuated_lines, ",
    ),
    "a setting of the wrong type": (
        {"curate": {"steps": [{"length": {"min_chars": "many"}}]}},
        "length.min_chars: Input should be a valid integer",
    ),
    "two steps in one": (
        {"curate": {"steps": [{"length": {}, "language": {}}]}},
        "a step is one name with its settings",
    ),
    "an unknown round": (
        {"curate": {"dedup": {"minhash": {}}}},
        "curate.dedup: unknown round 'minhash', expected one of documents",
    ),
    "an unknown setting of a round": (
        {"curate": {"dedup": {"documents": {"ngrams": 5}}}},
        "documents.ngrams: unknown setting, expected one of exact, url",
    ),
    "a setting of a round that cannot be": (
        {"curate": {"dedup": {"documents": {"rows": 0}}}},
        "curate.dedup: documents: ",
    ),
    "settings of a round without its name": (
        {"curate": {"dedup": {"ngram": 5}}},
        "curate.dedup: expected a mapping of rounds to their settings, such as `dedup: {documents",
    ),
    "rounds in a list": ({"curate": {"dedup": ["documents"]}}, "expected a mapping of rounds"),
    "an executor that is not there": (
        {"executor": "k8s"},
        "executor: Input should be 'local', 'slurm' or 'ray', found 'k8s'",
    ),
    "a time that Slurm does not know": ({"slurm": {"time": "2 days"}}, "slurm.time: "),
    "a partition with a line of its own": (
        {"slurm": {"partition": "cpu\n#SBATCH --wrap=x"}},
        "slurm.partition: ",
    ),
    "an extra option that is more than one": (
        {"slurm": {"extra": ["--qos=low\nrm -rf x"]}},
        "slurm.extra.0: ",
    ),
    "a merge that a task has no room for": (
        {"executor": "slurm", "slurm": {"memory": "1G"}},
        "curate.merge_memory_bytes 2147483648 is more than a task has, expected at most "
        "slurm.memory 1G",
    ),
    "a hole longer than a sequence": (
        {"encode": {"fim": {"rate": {"code": 0.1}, "span_tokens": 65}}},
        "fim.span_tokens 65 is longer than a sequence, expected at most plan.phases.0.length 64",
    ),
    "texts that are not there": (
        {"classifiers": {"good": TEXTS | {"positive": ["mine", "nowhere"]}}},
        "classifiers.good.positive.1: no such file or folder, and no source of this name (there "
        "are: mine): nowhere",
    ),
    "a side without texts": (
        {"classifiers": {"good": TEXTS | {"negative": []}}},
        "classifiers.good.negative: Tuple should have at least 1 item",
    ),
    "an unknown setting of a classifier": (
        {"classifiers": {"good": TEXTS | {"epoch": 3}}},
        "classifiers.good.epoch: unknown key; expected one of positive, negative, count, dim",
    ),
    "a setting of a classifier that cannot be": (
        {"classifiers": {"good": TEXTS | {"held_out": 1}}},
        "classifiers.good.held_out: Input should be less than 1, found 1",
    ),
    "a name of a classifier that leads elsewhere": (
        {"classifiers": {"../good": TEXTS}},
        "classifiers.../good.[key]: String should match pattern",
    ),
    "a model that the recipe does not train": (
        {"classifiers": {"good": TEXTS}, "curate": {"steps": [{"classifier": {"model": "god"}}]}},
        "curate.steps: classifier: no such file (good in `classifiers`): god",
    ),
    "a share to keep by a model that held nothing out": (
        {
            "classifiers": {"good": TEXTS | {"held_out": 0}},
            "curate": {"steps": [{"classifier": {"model": "good", "keep_share": 0.1}}]},
        },
        "classifiers.good.held_out: 0, expected more: the step's keep_share",
    ),
    "an unknown preset": ({"train": {"preset": "huge"}}, "train: preset 'huge' is unknown"),
    "a model that cannot be": (
        {"train": {"model": {"num_experts_per_tok": 1000}}},
        "num_experts_per_tok is 1000, expected at most",
    ),
    "a field the model has not": ({"train": {"model": {"layers": 3}}}, "model.layers is not"),
    "an unusable name": ({"name": "../up"}, "name: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_the_file_the_key_and_what_was_expected(write, mistake):
    changes, expected = MISTAKES[mistake]
    path = write(**changes)
    with pytest.raises(RecipeError) as error:
        load_recipe(str(path))
    message = str(error.value)
    assert message.startswith(f"{path}: ") and expected in message and "\n" not in message


def test_the_command_line_says_it_in_one_line_exits_with_2_and_writes_nothing(write, tmp_path):
    path = write(seed="abc")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    for command in ("run", "curate"):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", command, str(path)],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and f"{path}: seed: " in done.stderr
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: [", "line 1"),
        (b"- a\n- b\n", "expected a mapping of sections, found list"),
        (b"", "expected a mapping of sections, found NoneType"),
        (b"name: \xff\xfe", "cannot be read"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path, content, expected):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        load_recipe(str(path))
    assert str(path) in str(error.value) and expected in str(error.value)


def test_a_recipe_that_is_not_there_names_the_ones_that_are(tmp_path):
    with pytest.raises(RecipeError, match="quickstart"):
        load_recipe(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_that_come_with_the_project_are_valid(path):
    recipe = Recipe.model_validate(yaml.safe_load(path.read_text("utf-8")))
    assert recipe.name == path.stem
    assert Path(recipe.directory) == Path("runs") / path.stem


def test_numbers_may_be_written_as_people_write_them(write):
    recipe = load_recipe(str(write(train={"learning_rate": "1e-3"})))
    assert recipe.train.learning_rate == 1e-3


def test_a_recipe_of_curation_alone_needs_no_plan_and_run_says_what_is_missing(write, tmp_path):
    path = write()
    content = {key: GOOD[key] for key in ("name", "sources")}
    path.write_text(yaml.safe_dump(content))
    assert load_recipe(str(path)).plan is None
    for command in (["run"], ["run", "--dry-run"], ["tokenizer"], ["train"]):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *command, str(path)],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert f"{path}: plan: missing; `gristmill {command[0]}` needs `plan:`" in done.stderr
        assert "`gristmill curate` does without" in done.stderr


def test_no_rounds_and_rounds_without_settings_may_be_written_briefly(write):
    assert load_recipe(str(write(curate={"dedup": None}))).curate.dedup == {}
    recipe = load_recipe(str(write(curate={"dedup": {"documents": None}})))
    assert recipe.curate.dedup == load_recipe(str(write())).curate.dedup == {"documents": {}}


def test_an_address_is_not_looked_up_while_the_recipe_is_read(write):
    source = {"path": "s3://bucket/crawl/", "name": "a", "domain": "web", "format": "warc"}
    options = {"endpoint_url": "http://127.0.0.1:9"}
    recipe = load_recipe(str(write(sources=[source | {"storage_options": options}])))
    assert recipe.sources[0].storage_options == options


def test_storage_options_are_in_nothing_that_repeats_a_recipe(write):
    source = {"path": "s3://bucket/crawl/", "name": "a", "domain": "web"}
    options = {"endpoint_url": "http://internal.invalid"}
    recipe = load_recipe(str(write(sources=[source | {"storage_options": options}])))
    assert "internal" not in recipe.model_dump_json() + str(recipe.model_dump())
    assert Source(**recipe.sources[0].model_dump()) == Source("s3://bucket/crawl/", "a", "web")


def test_the_recipes_of_the_readme_can_be_read(tmp_path, monkeypatch):
    readme = Path(__file__).parents[2] / "README.md"
    blocks = re.findall(r"```yaml\n(.*?)```", readme.read_text("utf-8"), re.DOTALL)
    recipes = [yaml.safe_load(block) for block in blocks if block.startswith("name:")]
    assert len(recipes) >= 2
    parts = [
        yaml.safe_load(block)
        for block in blocks
        if block.startswith(("plan:", "encode:", "train:"))
    ]
    assert len(parts) >= 3
    plan = {"phases": [{"length": 4096, "tokens": 10_000, "mixture": {"web": 1.0}}]}
    rest = {"name": "part", "sources": [{"path": "data", "name": "own", "domain": "web"}]}
    recipes += [rest | {"plan": plan, "train": {"preset": "moe-1b"}} | part for part in parts]
    monkeypatch.chdir(tmp_path)
    for recipe in recipes:
        for source in [*recipe["sources"], *recipe.get("projects", {}).get("sources", ())]:
            if "://" not in source["path"]:
                Path(source["path"].replace("../", "")).mkdir(parents=True, exist_ok=True)
                source["path"] = source["path"].replace("../", "")
        Path("benchmarks").mkdir(exist_ok=True)
        Path("benchmarks/one.jsonl").write_text('{"question": "what are ten words in a row"}\n')
        Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
        assert load_recipe("recipe.yaml").name == recipe["name"]


def test_a_run_inside_the_texts_of_a_classifier_is_refused(write, tmp_path):
    (tmp_path / "texts").mkdir()
    path = write(classifiers={"good": TEXTS | {"positive": ["texts"]}})
    with pytest.raises(RecipeError, match=r"classifiers\.good\.positive\.0: the run's folder"):
        recipe = load_recipe(str(path)).model_copy(update={"out": "texts/run"})
        check_place(recipe, str(path))
