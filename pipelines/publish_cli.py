"""`gristmill publish` and `gristmill verify`: datasets sent to other places, and checked there."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

console = Console()


def _readable(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def published(path: Path) -> Path | None:
    """The published directory that a path means, itself or that of a run; None if it is neither."""
    for candidate in (path, path / "publish" / "dataset", path / "dataset"):
        if (candidate / "manifest.json").is_file() and not (candidate / "splits.json").exists():
            return candidate
    return None


def make_publish(load: Callable[..., Any], run: Callable[..., None]) -> Callable[..., None]:
    """The command `publish`; load and run are the command line's ways with recipes."""

    def publish(
        what: Annotated[
            str,
            typer.Argument(
                metavar="RECIPE|RUN",
                help="A recipe, the folder of a run, or a directory that was published.",
            ),
        ],
        to: Annotated[
            str | None,
            typer.Option(
                "--to",
                metavar="PATH|s3://BUCKET/PREFIX|hf://datasets/OWNER/NAME",
                help="Bring it there; without, the run's own folder is all.",
            ),
        ] = None,
        format: Annotated[
            Literal["parquet", "mds"],
            typer.Option(help="mds: MosaicML's streaming format, into a PATH."),
        ] = "parquet",
        config: Annotated[
            list[str] | None,
            typer.Option("--config", help="With --format mds: only text, tokenized or packed."),
        ] = None,
        replace: Annotated[
            bool,
            typer.Option("--replace", help="Delete other files there that would be read with it."),
        ] = False,
        private: Annotated[
            bool, typer.Option("--private", help="Make a new repository on the Hub private.")
        ] = False,
        threads: Annotated[int, typer.Option(min=1, help="Files that are sent at a time.")] = 4,
        out: Annotated[
            str | None,
            typer.Option("--out", help="Folder of the run, instead of the recipe's or runs/NAME."),
        ] = None,
        workers: Annotated[
            int | None, typer.Option("--workers", min=1, help="Processes, instead of the recipe's.")
        ] = None,
    ) -> None:
        """Write texts, tokens and sequences as a Hugging Face dataset directory, and send it off.

        The stages before it must be done. What is there already is not sent again: stop it whenever
        you like, even with SIGKILL, and the same command goes on. Each file is checked by what the
        far side says of it. Credentials are the environment's: AWS_ACCESS_KEY_ID, HF_TOKEN, ….
        """
        from pipelines.recipe import RECIPES

        root = published(Path(what)) if Path(what).is_dir() else None
        if root is None and Path(what).is_dir() and not (RECIPES / f"{what}.yaml").is_file():
            raise ValueError(
                f"{what}: nothing published in it; expected a recipe, a run whose stage `publish` "
                "is done, or a published directory"
            )
        if root is None:
            recipe = load(what, out, workers, "publish")
            run(recipe, ["publish"])
            root = recipe.directory / "publish" / "dataset"
        elif to is None:
            raise ValueError(f"--to: missing; {root} is published, expected where to bring it")
        if to is not None:
            _send(root, to, format, config or [], replace, private, threads)

    return publish


def _send(
    root: Path,
    to: str,
    format: str,
    configs: list[str],
    replace: bool,
    private: bool,
    threads: int,
) -> None:
    from pipelines.publish.upload import Folder, target_of, upload
    from pipelines.runner import Bar, make_progress

    target = target_of(to, threads=threads, private=private)
    local = isinstance(target, Folder)
    if local and Path(to).resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{to}: lies in what is published, {root}; choose another place")
    if format == "mds" and not local:
        raise ValueError(
            f"{to}: --format mds writes into a folder; `gristmill publish FOLDER --to {to}` then "
            "brings it there"
        )
    if configs and format != "mds":
        raise ValueError("--config: only with --format mds; a dataset directory goes as a whole")
    with make_progress(console) as progress:
        bar = Bar(progress, progress.add_task("publish: send", total=None, note=""))
        if format == "mds":
            from pipelines.publish.mds import write_mds

            splits = write_mds(root, Path(to), configs, bar.at)
            told = ", ".join(
                f"{config}/{split} {n:,}" for config, s in splits.items() for split, n in s.items()
            )
            line = f"{to}: samples of {told}"
        else:
            sent = upload(root, target, replace=replace, progress=bar.at)
            line = f"{target.where}: {sent.files:,} files sent, {_readable(sent.bytes)}"
            line += f"; {sent.kept:,} were there" if sent.kept else ""
            line += f"; {sent.deleted:,} deleted" if sent.deleted else ""
    console.print(escape(line), highlight=False, soft_wrap=True)


def verify(
    path: Annotated[
        Path, typer.Argument(help="A published directory, a stage's folder or a run's.")
    ],
    deep: Annotated[
        bool, typer.Option("--sha256", help="Recompute SHA-256 too, not only xxh3.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Files that are read at a time.")] = 4,
) -> None:
    """Check every file against the manifest: bytes, checksums, rows, nothing missing or extra.

    Needs nothing but the directory, wherever it was downloaded to. Exit code 1 if anything is
    wrong, with a line for each file.
    """
    from pipelines.publish.verify import verify as check
    from pipelines.runner import Bar, make_progress

    with make_progress(console) as progress:
        bar = Bar(progress, progress.add_task("verify", total=None, note=""))
        found = check(path, threads=threads, deep=deep, progress=bar.at)
    for problem in found.problems:
        console.print(f"[red]wrong:[/] {escape(str(problem))}", highlight=False, soft_wrap=True)
    state = f"{len(found.problems):,} wrong" if found.problems else "all right"
    console.print(
        f"{escape(str(path))}: {found.files:,} files, {_readable(found.bytes)}, by "
        f"{len(found.parts):,} manifests: {state}",
        highlight=False,
        soft_wrap=True,
    )
    if found.problems:
        raise typer.Exit(1)
