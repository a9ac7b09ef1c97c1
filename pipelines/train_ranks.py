"""Several processes that train one model: who starts them, and what the others do.

Rank 0 is the process that runs the stage; it alone knows the recipe, writes and reports. With
`train: {ranks: N}` it starts the others on this machine and they meet at a file, so no port is open
but gloo's own, on loopback. On several machines torchrun starts `gristmill train RECIPE` everywhere
(`torchrun --nnodes 2 … --no-python gristmill train RECIPE`, the run's folder on a disk that all
see), and whoever is not rank 0 comes to `follow`. Either way the others are told by rank 0 what to
do, and do nothing else. One that is left alone ends: its connection breaks.

Rank 0 is not a child of torchrun with `ranks`, because torchrun answers SIGTERM by killing after 30
seconds, and a step may take longer.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.parallel import Ranks

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@contextmanager
def lead(count: int) -> Iterator["Ranks"]:
    """Be rank 0: of those that torchrun started or else of `count` processes, started here."""
    from model.parallel import ALONE, join, launched

    if launched():
        with join() as ranks:
            yield ranks
        return
    if count == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory(prefix="gristmill-ranks-") as folder:
        place = Path(folder) / "meeting"
        before = os.environ.get("GLOO_SOCKET_IFNAME")
        os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK
        others = [
            subprocess.Popen(
                [sys.executable, "-m", "pipelines.train_ranks", str(place), str(rank), str(count)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # an interruption in the terminal is for rank 0
            )
            for rank in range(1, count)
        ]
        try:
            with join(place, 0, count) as ranks:
                yield ranks
            for other in others:
                other.wait(60)
        finally:
            for other in others:
                other.kill()
                other.wait()
            if before is None:
                del os.environ["GLOO_SOCKET_IFNAME"]
            else:
                os.environ["GLOO_SOCKET_IFNAME"] = before


def follows() -> bool:
    """Whether torchrun started this process, and not as rank 0."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")) > 0


def follow(place: Path | None = None, rank: int = 0, count: int = 1) -> None:
    """Do what rank 0 tells, one training after another until it tells nothing; of those that meet
    at a file, one.
    """
    from model.parallel import join
    from pipelines.recipe import Recipe
    from pipelines.stages import extend, supervised, train
    from pipelines.training import start_training

    prepare = {
        "train": train.prepare, "extend": extend.prepare, "supervised": supervised.prepare,
    }  # fmt: skip
    while True:
        with join(place, rank, count) as ranks:
            told = ranks.tell()
            if told is None:
                return
            recipe = Recipe.model_validate_json(told["recipe"])
            training = prepare[told["stage"]](recipe, told["part"])
            summary = start_training(training, ranks)
        if place is not None or summary["status"] == "interrupted":
            return


def dismiss() -> None:
    """Tell the ranks that torchrun started that there is nothing more to train."""
    from model.parallel import join, launched

    if launched():
        with join() as ranks:
            ranks.tell(None)


def main() -> None:
    """`python -m pipelines.train_ranks PLACE RANK COUNT`, started by `lead`."""
    from model.parallel import RankError

    place, rank, count = sys.argv[1:]
    try:
        follow(Path(place), int(rank), int(count))
    except RankError as error:
        sys.exit(f"rank {rank}: {error}")


if __name__ == "__main__":
    main()
