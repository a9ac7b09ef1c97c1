"""`gristmill mix`: numbers that agree with the plan, quick to ask for, and nothing written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from packing import make_plan
from pipelines.cli import main
from pipelines.mix_cli import short_number
from pipelines.recipe import read_recipe
from pipelines.stages.plan import plan_config

sys.path.insert(0, str(Path(__file__).parents[1] / "packing"))
from plans import Document, write_tables

PLAN = {
    "phases": [
        {"length": 64, "tokens": 4000, "mixture": {"web": 0.5, "code": 0.3, "math": 0.2}},
        {
            "length": 128,
            "tokens": 3000,
            "mixture": {
                "web": {"share": 0.4, "sources": {"a": 0.25, "b": 0.75}},
                "code": 0.2,
                "math": {"share": 0.4, "temperature": 2},
            },
        },
    ],
    "default_max_epochs": 2,
    "validation": {"fraction": 0.1},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A recipe whose documents are encoded, as far as a mixture can see."""
    rng = np.random.default_rng(0)
    domains, languages = ["web", "code", "math"], ["eng_Latn", "deu_Latn"]
    made = [
        Document(k, int(rng.integers(1, 60)), domains[k % 3], "ab"[k % 2], languages[k % 5 == 0])
        for k in range(500)
    ]
    stems = write_tables(tmp_path / "run" / "encode", [made[:250], made[250:]])
    outputs = [{"path": f"{stem.name}.bin"} for stem in stems]
    (tmp_path / "run" / "encode" / "manifest.json").write_text(json.dumps({"outputs": outputs}))
    recipe = {
        "name": "tiny", "out": "run", "encode": {"fim": {"span_tokens": 64}},
        "sources": [{"path": ".", "name": "a", "domain": "web"}], "plan": PLAN,
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    return tmp_path, stems


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def ask(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gristmill", "mix", *arguments])
    code = 0
    try:
        main()
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr()
    return code or 0, said.out + said.err


def test_the_table_is_what_the_plan_would_be_and_nothing_is_written(run, monkeypatch, capsys):
    folder, stems = run
    before = files(folder)
    code, said = ask(monkeypatch, capsys, "recipe.yaml", "--json")
    assert code == 0 and files(folder) == before
    told = json.loads(said)
    recipe = read_recipe(Path("recipe.yaml"))
    plan = make_plan(stems, folder / "plan", plan_config(recipe.plan, recipe.seed))
    assert told["exact"] and len(told["phases"]) == 2
    for phase, planned in zip(told["phases"], plan["phases"], strict=True):
        for domain, entry in phase["domains"].items():
            assert entry["wanted"] == planned["domains"][domain]["wanted"]
            assert entry["available"] == planned["domains"][domain]["available"]
            assert entry["shortfall"] == 0
        piles = {(p["domain"], p["source"], p["language"]): p["wanted"] for p in phase["piles"]}
        for part in planned["parts"]:
            assert piles[part["domain"], part["source"], part["language"]] == part["wanted"]
    web = told["phases"][1]["domains"]["web"]["sources"]
    assert (web["a"]["wanted"], web["b"]["wanted"]) == (300, 900)


def test_what_if_changes_one_share_and_the_others_in_proportion(run, monkeypatch, capsys):
    _, said = ask(monkeypatch, capsys, "recipe.yaml", "--what-if", "math=0.5", "--json")
    first, second = json.loads(said)["phases"]
    shares = {name: round(entry["share"], 9) for name, entry in first["domains"].items()}
    assert shares == {"web": 0.3125, "code": 0.1875, "math": 0.5}
    assert round(second["domains"]["web"]["share"], 9) == 0.333333333
    _, said = ask(
        monkeypatch, capsys, "recipe.yaml", "--what-if", "math=1", "--phase", "1", "--json"
    )
    (only,) = json.loads(said)["phases"]
    assert only["name"] == "phase-1" and list(only["domains"]) == ["math"]
    math = only["domains"]["math"]
    assert math["epochs"] <= 2


def test_a_shortfall_is_shown_with_what_is_missing(run, monkeypatch, capsys):
    arguments = ("recipe.yaml", "--what-if", "math=0.99", "--what-if", "web=0.01", "--phase", "0")
    code, said = ask(monkeypatch, capsys, *arguments, "--json")
    # Of math there are some 4,500 tokens, and two epochs of them: enough for 3,960.
    assert code == 0 and json.loads(said)["phases"][0]["domains"]["math"]["shortfall"] == 0
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    recipe["plan"]["phases"][0]["tokens"] = 40_000
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, said = ask(monkeypatch, capsys, *arguments, "--json")
    math = json.loads(said)["phases"][0]["domains"]["math"]
    assert math["wanted"] == 39_600 and math["shortfall"] == 39_600 - math["may_give"] > 10_000
    assert round(math["epochs"], 6) == 2
    code, said = ask(monkeypatch, capsys, *arguments)
    assert short_number(math["shortfall"]) in said and "shortfall" in said


def test_a_runs_folder_answers_from_its_plan_without_its_documents(run, monkeypatch, capsys):
    folder, stems = run
    _, from_documents = ask(monkeypatch, capsys, "recipe.yaml", "--json")
    recipe = read_recipe(Path("recipe.yaml"))
    make_plan(stems, folder / "run" / "plan", plan_config(recipe.plan, recipe.seed))
    config = {"plan": recipe.plan.model_dump(), "seed": recipe.seed}
    (folder / "run" / "plan" / "manifest.json").write_text(json.dumps({"config": config}))
    for stem in stems:
        Path(f"{stem}.documents.parquet").unlink()
    code, said = ask(monkeypatch, capsys, "run", "--json")
    assert code == 0

    def piles(answer):
        phases = json.loads(answer)["phases"]
        return [sorted(map(json.dumps, phase["piles"])) for phase in phases]

    assert piles(said) == piles(from_documents)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("recipe.yaml", "--what-if", "math=2"), "expected DOMAIN=SHARE"),
        (("recipe.yaml", "--what-if", "math"), "expected DOMAIN=SHARE"),
        (("recipe.yaml", "--what-if", "math=nan"), "expected DOMAIN=SHARE"),
        (("recipe.yaml", "--what-if", "math=0.9", "--what-if", "web=0.9"), "add up to 1.8"),
        (("recipe.yaml", "--what-if", "poems=0.1"), "'poems', which no document has"),
        (("recipe.yaml", "--phase", "2"), "there are 2 phases"),
        (("run",), "no finished plan in it"),
        (("nowhere",), "no such recipe"),
        (("recipe.yaml", "--out", "elsewhere"), "no encoded documents yet"),
    ],
)
def test_what_cannot_be_asked_is_one_line(run, monkeypatch, capsys, arguments, message):
    code, said = ask(monkeypatch, capsys, *arguments)
    assert code in (1, 2) and message in " ".join(said.split()) and "Traceback" not in said


def test_it_needs_no_torch(run):
    code = (
        "import sys; from pipelines.cli import main; sys.argv = ['gristmill', 'mix', 'recipe.yaml']"
        "\ntry: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'datasets', 'transformers', 'pandas'} & set(sys.modules)"
        "\nprint('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stdout + done.stderr


def test_large_numbers_are_short():
    expected = {0: "0", 999: "999", 9999: "9,999", 12_345: "12.35K", 1_500_000: "1.500M",
                14_800_000_000_000: "14.80T", 999_999_999: "1,000.0M"}  # fmt: skip
    assert {n: short_number(n) for n in expected} == expected
