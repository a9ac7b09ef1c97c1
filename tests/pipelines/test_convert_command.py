"""`gristmill convert`: a checkpoint in, a checkpoint of another kind out."""

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from model.convert import import_checkpoint
from model.export import export_checkpoint
from model.presets import preset
from model.transformer import Transformer, initialize
from pipelines.cli import app


@pytest.fixture
def checkpoint(tmp_path):
    model = Transformer(preset("quickstart"))
    initialize(model, 0)
    export_checkpoint(model.config, model.state_dict(), tmp_path / "plain")
    return tmp_path / "plain"


def test_a_checkpoint_becomes_fp8_and_bfloat16_in_files_of_a_size(checkpoint, tmp_path):
    target = tmp_path / "fp8"
    done = CliRunner().invoke(
        app, ["convert", str(checkpoint), str(target), "--fp8", "--shard-gb", "0.005"]
    )
    assert done.exit_code == 0, done.output
    files = sorted(target.glob("*.safetensors"))
    assert len(files) > 2
    assert all(file.stat().st_size < 5_200_000 for file in files)
    kinds = {tensor.dtype for file in files for tensor in load_file(file).values()}
    assert kinds == {torch.float8_e4m3fn, torch.bfloat16, torch.float32}
    assert json.loads((target / "config.json").read_text())["quantization_config"]
    before, after = import_checkpoint(checkpoint)[1], import_checkpoint(target)[1]
    for name, tensor in before.items():
        assert (after[name] - tensor).norm() <= 0.05 * tensor.norm(), name


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    done = CliRunner().invoke(app, ["convert", str(tmp_path), str(tmp_path / "out")])
    assert isinstance(done.exception, ValueError)
    assert str(tmp_path / "config.json") in str(done.exception)
