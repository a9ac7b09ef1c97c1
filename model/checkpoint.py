"""Checkpoints that are whole or not there, and never a pickle.

A checkpoint is a folder `step-00000123`: tensors in safetensors files written by torch's
distributed checkpoint through its Hugging Face storage (weights in one file, the optimizer's two
moments in two more, all under their parameters' names), and `checkpoint.json` with everything that
is not a tensor and the size and SHA-256 of every file. The folder is written beside its final name
and renamed when complete. On loading, the newest folder whose files all match their sums is taken,
so one that a full disk, a crash or a bad copy damaged is passed over for the one before it.

`CheckpointWriter` does the writing beside the training: tensors are copied at once, which takes a
moment and their size in memory, and a thread writes the copy. One is written at a time.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException

MANIFEST = "checkpoint.json"
log = logging.getLogger(__name__)

# It warns that there is one process, which is what no_dist says. For good, and not around the call:
# a thread must not change the filters of the others.
warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")


class CheckpointWriter:
    """Writes checkpoints into `root` in a thread, one after another; see `save_checkpoint`.

    Leaving it as a context waits for the last one. What went wrong is raised by the next call.
    """

    def __init__(self, root: Path, keep: int, keep_every: int = 0) -> None:
        self.root, self.keep, self.keep_every = root, keep, keep_every
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Path] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        # An error on its way out tells more than what it may have done to the checkpoint.
        with contextlib.nullcontext() if kind is None else contextlib.suppress(OSError):
            self.wait()
        self._thread.shutdown()

    def save(self, step: int, parts: list[dict[str, Tensor]], state: dict) -> None:
        """Copy the tensors, and write them when the checkpoint before is done."""
        self.wait()
        copies = [{n: t.detach().to("cpu", copy=True) for n, t in p.items()} for p in parts]
        self._writing = self._thread.submit(
            save_checkpoint, self.root, step, copies, state, self.keep, self.keep_every
        )

    def check(self) -> None:
        """Raise what went wrong, if anything has so far; wait for nothing."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint being written. Raises OSError if it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def save_checkpoint(
    root: Path,
    step: int,
    parts: list[dict[str, Tensor]],
    state: dict,
    keep: int,
    keep_every: int = 0,
) -> Path:
    """Write `root/step-…` and delete all but the newest `keep` checkpoints; give its path.

    Each of `parts` becomes one file; their names must not repeat. `state` must be JSON. Those whose
    step `keep_every` divides are not deleted. Raises OSError, and leaves nothing of it and all of
    the others, if it could not be written.
    """
    target = root / f"step-{step:08d}"
    beside = root / f".writing-{target.name}"
    tensors = {name: tensor.detach() for part in parts for name, tensor in part.items()}
    if len(tensors) != sum(map(len, parts)):
        raise ValueError(f"checkpoint {target}: a tensor's name appears in two parts")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _write(beside, step, tensors, parts, state)
        if target.exists():
            shutil.rmtree(target)
        beside.replace(target)
    except (OSError, CheckpointException) as error:
        shutil.rmtree(beside, ignore_errors=True)  # it may be what fills the disk
        cause: BaseException = error
        if isinstance(error, CheckpointException):
            cause = next(iter(error.failures.values()))[0]
        raise OSError(
            f"{target}: the checkpoint could not be written ({cause}); those before it are whole: "
            "make room and run the same command again to go on from the last"
        ) from error
    for old in _checkpoints(root)[keep:]:
        if not keep_every or _step(old) % keep_every:
            shutil.rmtree(old)
    return target


def _write(
    folder: Path, step: int, tensors: dict[str, Tensor], parts: list[dict[str, Tensor]], state: dict
) -> None:
    files = {name: i for i, part in enumerate(parts, 1) for name in part}
    dcp.save(
        tensors,
        storage_writer=HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=files),
        no_dist=True,
    )
    written = sorted(path for path in folder.iterdir())
    manifest = {
        "step": step,
        "state": state,
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in written},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def find_checkpoint(root: Path) -> Path | None:
    """The newest undamaged checkpoint under `root`, None if there is none at all.

    Reads all its bytes. Raises ValueError if there are some but all are damaged.
    """
    damage = []
    for path in _checkpoints(root):
        problem = find_damage(path)
        if problem is None:
            return path
        log.warning("checkpoint passed over: %s", problem)
        damage.append(problem)
    if damage:
        raise ValueError(
            f"{root}: no undamaged checkpoint ({'; '.join(damage)}); restore one, or remove the "
            "folder to start over"
        )
    return None


def find_damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint folder in one line, or None if every byte is right."""
    manifest = path / MANIFEST
    try:
        expected = json.loads(manifest.read_bytes())["files"]
        # The reader takes every tensor file it finds, so there must be none that was not written.
        extra = sorted({p.name for p in path.iterdir()} - set(expected) - {MANIFEST})
        if extra:
            return f"{path / extra[0]} is not part of the checkpoint"
        for name, entry in expected.items():
            file = path / name
            if not file.is_file():
                return f"{file} is missing"
            if file.stat().st_size != entry["bytes"]:
                return f"{file} has {file.stat().st_size} bytes, expected {entry['bytes']}"
            if _sha256(file) != entry["sha256"]:
                return f"{file} does not match its SHA-256"
    except FileNotFoundError:
        return f"{manifest} is missing"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{manifest} cannot be read: {error!r}"
    return None


def read_checkpoint(path: Path, tensors: dict[str, Tensor], settings: dict) -> dict:
    """Fill `tensors` in place from a checkpoint; give its state.

    Raises ValueError if `state["settings"]` is not `settings` (two levels of JSON), if other
    tensors were saved, or if the folder is not there.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is not there, expected a folder that all ranks see")
    state = json.loads((path / MANIFEST).read_bytes())["state"]
    for section, values in settings.items():
        before = state["settings"].get(section, {})
        for key in sorted(values.keys() | before.keys()):
            if values.get(key) != before.get(key):
                raise ValueError(
                    f"{path}: {section}.{key} was {before.get(key)} when this run began and is now "
                    f"{values.get(key)}; use the old value or another output folder"
                )
    reader = HuggingFaceStorageReader(str(path))
    saved = reader.read_metadata().state_dict_metadata
    found = {name: tuple(entry.size) for name, entry in saved.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != wanted:
        names = sorted(n for n in found.keys() | wanted if found.get(n) != wanted.get(n))
        first = names[0]
        raise ValueError(
            f"{path}: {len(names)} tensors differ from this model's; {first} is saved as "
            f"{found.get(first)}, expected {wanted.get(first)}"
        )
    with torch.no_grad():
        dcp.load(tensors, storage_reader=reader, no_dist=True)
    return state


def _checkpoints(root: Path) -> list[Path]:
    """The finished checkpoint folders, newest first."""
    found = [p for p in root.glob("step-*") if p.is_dir() and p.name[5:].isdecimal()]
    return sorted(found, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
