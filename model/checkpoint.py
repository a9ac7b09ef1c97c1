"""Checkpoints that are whole or not there, and never a pickle.

A checkpoint is a folder `step-00000123`: tensors in safetensors files written by torch's
distributed checkpoint through its Hugging Face storage (weights in one file, the optimizer's two
moments in two more, all under their parameters' names), and `checkpoint.json` with everything that
is not a tensor and the size and SHA-256 of every file. The folder is written beside its final name
and renamed when complete. On loading, the newest folder whose files all match their sums is taken,
so one that a full disk, a crash or a bad copy damaged is passed over for the one before it.
"""

import hashlib
import json
import logging
import shutil
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

MANIFEST = "checkpoint.json"
log = logging.getLogger(__name__)


def save_checkpoint(
    root: Path, step: int, parts: list[dict[str, Tensor]], state: dict, keep: int
) -> Path:
    """Write `root/step-…` and delete all but the newest `keep` checkpoints; give its path.

    Each of `parts` becomes one file; their names must not repeat. `state` must be JSON.
    """
    target = root / f"step-{step:08d}"
    beside = root / f".writing-{target.name}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    tensors = {name: tensor.detach() for part in parts for name, tensor in part.items()}
    files = {name: i for i, part in enumerate(parts, 1) for name in part}
    if len(tensors) != sum(map(len, parts)):
        raise ValueError(f"checkpoint {target}: a tensor's name appears in two parts")
    with warnings.catch_warnings():
        # It warns that there is one process, which is what no_dist says.
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")
        dcp.save(
            tensors,
            storage_writer=HuggingFaceStorageWriter(str(beside), fqn_to_index_mapping=files),
            no_dist=True,
        )
    written = sorted(path for path in beside.iterdir())
    manifest = {
        "step": step,
        "state": state,
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in written},
    }
    (beside / MANIFEST).write_text(json.dumps(manifest, indent=1))
    if target.exists():
        shutil.rmtree(target)
    beside.replace(target)
    for old in _checkpoints(root)[keep:]:
        shutil.rmtree(old)
    return target


def load_checkpoint(root: Path, tensors: dict[str, Tensor], settings: dict) -> dict | None:
    """Fill `tensors` in place from the newest undamaged checkpoint under `root`; give its state.

    None if there is no checkpoint at all. Raises ValueError if there are some but all are damaged,
    if `state["settings"]` is not `settings` (two levels of JSON), or if other tensors were saved.
    """
    damage = []
    for path in _checkpoints(root):
        problem = find_damage(path)
        if problem is None:
            return _load(path, tensors, settings)
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


def _load(path: Path, tensors: dict[str, Tensor], settings: dict) -> dict:
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
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")
        dcp.load(tensors, storage_reader=reader, no_dist=True)
    return state


def _checkpoints(root: Path) -> list[Path]:
    """The finished checkpoint folders, newest first."""
    return sorted((p for p in root.glob("step-*") if p.is_dir()), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
