"""`gristmill mix`: what a recipe's mixture asks of the documents there are, and what if it changed.

Nothing is written and no document is chosen: the arithmetic of `packing.mixture` on the tokens of
each domain, source and language. Where the plan is made, `plan.json` has those counts; before that
they are counted from the tables of documents.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

console = Console()
_SHOWN = 12  # sources and languages of a domain


def mix(
    recipe: Annotated[
        str, typer.Argument(help="A recipe, or the folder of a run that has been planned.")
    ],
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            metavar="DOMAIN=SHARE",
            help="Change a domain's share; the others keep their proportions. May be repeated.",
        ),
    ] = None,
    phase: Annotated[
        int | None, typer.Option("--phase", min=0, help="Change and show this phase only.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="Folder of the run, instead of the recipe's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every pile in it.")] = False,
) -> None:
    """Show the mixture of each phase: tokens there are, tokens wanted, epochs, what is missing.

    [bold]gristmill mix RECIPE --what-if math=0.3[/] shows what a change would ask for, in a second
    or two, and writes nothing. Needs encoded documents.
    """
    from packing.mixture import want
    from packing.plan import piles_of
    from pipelines.stages.plan import plan_config

    section, seed, folder = _find(recipe, out)
    config = plan_config(section, seed)
    if phase is not None and phase >= len(config.phases):
        raise ValueError(
            f"--phase {phase}: there are {len(config.phases)} phases, the last is "
            f"{len(config.phases) - 1}"
        )
    phases = [
        changed(entry, what_if or []) if phase in (None, k) else entry
        for k, entry in enumerate(config.phases)
    ]
    census, exact = _census(folder, seed, section.validation.fraction)
    piles = piles_of(census, config)
    wanted = want(piles, phases, config.when_short)
    told = describe(piles, phases, wanted)
    if phase is not None:
        told = [told[phase]]
    if as_json:
        print(json.dumps({"phases": told, "exact": exact}, indent=2, ensure_ascii=False))
        return
    for entry in told:
        _print(entry)
    if not exact:
        console.print(
            "Tokens there are: without reading ids, held-out documents taken off by their share.",
            style="dim",
        )


def changed(phase, settings: list[str]):
    """A phase (`packing.Phase`) with other shares: DOMAIN=SHARE each, the rest in proportion.

    Raises ValueError for a setting that is none, or shares that cannot add up to 1.
    """
    from dataclasses import replace

    from packing.mixture import Share

    shares = phase.shares()
    fixed: dict[str, float] = {}
    for setting in settings:
        name, equals, value = setting.rpartition("=")
        try:
            fixed[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name or not 0 <= fixed.get(name, -1) <= 1:
            raise ValueError(
                f"--what-if {setting}: expected DOMAIN=SHARE with a share from 0 to 1, such as "
                "math=0.3"
            )
    if not fixed:
        return phase
    rest = sum(share.share for name, share in shares.items() if name not in fixed)
    left = 1 - sum(fixed.values())
    if left < -1e-9 or (left > 1e-9 and not rest):
        raise ValueError(
            f"--what-if {' '.join(settings)}: the shares given add up to {1 - left:g}, expected "
            + ("at most 1" if left < 0 else "1, since no other domain is left")
        )
    mixture = {
        name: replace(share, share=fixed.get(name, share.share * max(left, 0) / (rest or 1)))
        for name, share in shares.items()
    } | {name: Share(value) for name, value in fixed.items() if name not in shares}
    return replace(phase, mixture={name: s for name, s in mixture.items() if s.share > 0})


def describe(piles, phases, wanted) -> list[dict]:
    """Each phase as plain data: by domain, source, language and pile.

    available: tokens of one epoch; may_give: up to the epochs' cap, after the phases before;
    epochs: of all phases so far; shortfall: tokens that nobody gives.
    """
    taken = [0] * len(piles)
    told = []
    for k, (phase, part) in enumerate(zip(phases, wanted, strict=True)):
        left = [pile.most - t for pile, t in zip(piles, taken, strict=True)]
        tokens = [int(t) for t in part.piles]
        taken = [a + b for a, b in zip(taken, tokens, strict=True)]

        def add_up(mine: list[int], now=(left, tokens, taken)) -> dict:
            left, tokens, taken = now
            size = sum(piles[i].tokens for i in mine)
            return {
                "available": size,
                "may_give": sum(left[i] for i in mine),
                "wanted": sum(tokens[i] for i in mine),
                "epochs": sum(taken[i] for i in mine) / size if size else 0.0,
            }

        domains = {}
        for domain, share in phase.shares().items():
            mine = [i for i, pile in enumerate(piles) if pile.domain == domain]
            missing = sum(s.missing for s in part.shortfalls if s.domain == domain)
            entry = add_up(mine) | {"share": share.share, "shortfall": missing}
            entry["wanted"] += missing
            entry["short"] = {s.name: s.missing for s in part.shortfalls if s.domain == domain}
            for what in ("source", "language"):
                names = sorted({getattr(piles[i], what) for i in mine})
                entry[f"{what}s"] = {
                    name: add_up([i for i in mine if getattr(piles[i], what) == name])
                    for name in names
                }
            domains[domain] = entry
        told.append(
            {
                "name": f"phase-{k}",
                "length": phase.length,
                "tokens": phase.tokens,
                "domains": domains,
                "piles": [
                    {"domain": p.domain, "source": p.source, "language": p.language} | add_up([i])
                    for i, p in enumerate(piles)
                    if p.domain in domains
                ],
            }
        )
    return told


def short_number(n: int) -> str:
    """Four digits of a number: 1,234 or 12.35M."""
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**4, "K")):
        if n >= size:
            unit = 1000 if letter == "K" else size
            return f"{n / unit:,.{max(3 - len(str(n // unit)), 0) + 1}f}{letter}"
    return f"{n:,}"


def _print(entry: dict) -> None:
    title = f"{entry['name']}: {entry['tokens']:,} tokens in sequences of {entry['length']:,}"
    table = Table(title=title, title_justify="left")
    columns = ("", "share", "available", "may give", "wanted", "epochs", "shortfall")
    for k, column in enumerate(columns):
        table.add_column(column, justify="right" if k else "left", no_wrap=True)

    def row(name: str, values: dict, share: str, missing: int, style: str = "") -> None:
        table.add_row(
            name, share, short_number(values["available"]), short_number(values["may_give"]),
            short_number(values["wanted"]), f"{values['epochs']:.2f}",
            f"[red]{short_number(missing)}[/]" if missing else "-", style=style,
        )  # fmt: skip

    from rich.markup import escape

    for domain, values in entry["domains"].items():
        row(escape(domain), values, f"{values['share']:.1%}", values["shortfall"], "bold")
        for what in ("sources", "languages"):
            parts = sorted(values[what].items(), key=lambda item: -item[1]["wanted"])
            if len(parts) < 2:
                continue
            for name, part in parts[:_SHOWN]:
                of = part["wanted"] / values["wanted"] if values["wanted"] else 0
                missing = values["short"].get(name, 0)
                row(f"  {escape(name) or '-'}", part, f"{of:.1%}", missing)
            if len(parts) > _SHOWN:
                table.add_row(f"  … and {len(parts) - _SHOWN:,} more {what}")
    console.print(table)


def _find(name: str, out: str | None):
    """The plan section, the seed and the folder of a run, from a recipe or a run's folder."""
    from pydantic import ValidationError

    from pipelines.files import read_json
    from pipelines.recipe import check_trains, find_recipe, read_recipe
    from pipelines.recipe_training import PlanSection

    if Path(name).is_dir():
        manifest = read_json(Path(name) / "plan" / "manifest.json")
        if manifest is None:
            raise ValueError(
                f"{name}: no finished plan in it, expected plan/manifest.json: run "
                "`gristmill plan RECIPE` first, or give the recipe in the folder's place"
            )
        try:
            section = PlanSection.model_validate(manifest["config"]["plan"])
        except (KeyError, ValidationError):
            raise ValueError(
                f"{name}/plan/manifest.json: made by another version of gristmill; give the recipe "
                "in the folder's place"
            ) from None
        return section, manifest["config"]["seed"], Path(name)
    recipe = read_recipe(find_recipe(name))
    check_trains(recipe, name, "mix")
    if out is not None:
        recipe = recipe.model_copy(update={"out": out})
    return recipe.plan, recipe.seed, recipe.directory


def _census(folder: Path, seed: int, fraction: float):
    """What documents a run has, by pile; and whether the numbers are exact."""
    import os

    from packing.census import Census, Count, count
    from pipelines.files import read_json

    manifest = read_json(folder / "encode" / "manifest.json")
    if manifest is None:
        raise ValueError(
            f"{folder / 'encode'}: no encoded documents yet: run `gristmill run` or "
            "`gristmill encode` first"
        )
    stems = [
        folder / "encode" / entry["path"].removesuffix(".bin")
        for entry in manifest["outputs"]
        if entry["path"].endswith(".bin")
    ]
    made, plan = folder / "plan" / "manifest.json", folder / "plan" / "plan.json"
    if made.is_file() and plan.is_file():
        content = read_json(plan)
        same = (
            content.get("seed") == seed
            and content.get("held_out") == fraction
            and content["shards"] == [stem.name for stem in stems]
            and plan.stat().st_mtime >= (folder / "encode" / "manifest.json").stat().st_mtime
        )
        if same and "piles" in content:
            census = Census([], Path())
            for pile in content["piles"]:
                census.names.append((pile["domain"], pile["source"], pile["language"]))
                census.counts.append(Count(pile["documents"], pile["tokens"]))
            return census, True
    return count(stems, seed, fraction, os.cpu_count() or 1)
