"""Exported files appear whole, agreeing with the model, or not at all; what can't be one is refused by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor

from hubcli.adapted import adapt
from hubcli.composition import BatchSplit
from hubcli.errors import AdapterError, DiskError, HubcliError, NotFoundError, UnsupportedError, UsageError
from hubcli.exports import Wish, export, pt2

from .exported import of_bert, with_two, written
from .models import model_of

pytestmark = pytest.mark.filterwarnings("ignore")


def nothing(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def broken(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    """Files whose programs give something else than the model."""
    own = pt2.opened

    def opened(file: Path) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        run = own(file)
        return lambda sample: {name: change(tensor) for name, tensor in run(sample).items()}

    monkeypatch.setattr(pt2, "opened", opened)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t * float("nan"),
        pytest.param(lambda t: t + 1e-2, marks=pytest.mark.slow),
        pytest.param(lambda t: t[:, :1], marks=pytest.mark.slow),
    ],
)
def test_a_file_that_does_not_agree_is_not_kept(
    change: Callable[[Tensor], Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = of_bert("lora")
    handle.activate("a")
    broken(monkeypatch, change)
    with pytest.raises(AdapterError, match="it was not kept"):
        written(handle, "pt2", tmp_path / "made.pt2")
    assert nothing(tmp_path)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, file = of_bert("lora"), tmp_path / "made.pt2"
    handle.activate("a")
    assert written(handle, "pt2", file, dry_run=True)["written"] is False and nothing(tmp_path)
    for stop in (KeyboardInterrupt, OSError(28, "No space left on device")):
        with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, DiskError)):
            patch.setattr(pt2, "save", raising(stop))
            written(handle, "pt2", file)
        assert nothing(tmp_path)
    file.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        written(handle, "pt2", file)
    assert file.read_text() == "mine"
    report = written(handle, "pt2", file, force=True)
    assert file.stat().st_size == report["size"] and [p.name for p in tmp_path.iterdir()] == ["made.pt2"]
    assert os.stat(file).st_mode & 0o777 == 0o666 & ~current_mask()


def raising(error: Any) -> Callable[..., Any]:
    def save(*args: Any) -> Any:
        args[1].write_bytes(b"half")
        raise error

    return save


def current_mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def says(error: type[HubcliError], text: str) -> Iterator[None]:
    with pytest.raises(error) as caught:
        yield
    assert text in f"{caught.value.message} {caught.value.hint}"


def test_what_is_refused(tmp_path: Path) -> None:
    handle = of_bert("lora")
    handle.activate(BatchSplit("a", "b", sizes=[1, 2]))
    with says(UsageError, "did you mean 'pt2'"):
        export(handle, Wish("pt", tmp_path / "x"))
    with says(UsageError, "is a folder"):
        export(handle, Wish("pt2", tmp_path))
    with says(NotFoundError, "no folder"):
        export(handle, Wish("pt2", tmp_path / "no" / "x"))
    with says(UsageError, "opset is for onnx"):
        export(handle, Wish("pt2", tmp_path / "x", opset=18))
    with says(UnsupportedError, "the model computes in float32"):
        export(handle, Wish("pt2", tmp_path / "x", dtype="bfloat16"))
    speech = adapt(tf.Wav2Vec2Model(tf.Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)))  # fmt: skip
    with says(UnsupportedError, "input_values"):
        export(speech, Wish("pt2", tmp_path / "x"))
    assert nothing(tmp_path)


@pytest.mark.parametrize(("to", "limit"), [("pt2", 0), ("pt2", 50_000), ("gguf", 100)])
def test_a_disk_that_is_full(to: str, limit: int, tmp_path: Path) -> None:
    import resource

    if to == "gguf":
        pytest.importorskip("gguf")
    handle = with_two(model_of("llama", torch.float32), {"r": 2, "target_modules": ["q_proj"]}, "lora")
    handle.activate("a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskError, match="can't write"):
            written(handle, to, tmp_path / "made")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert nothing(tmp_path)
