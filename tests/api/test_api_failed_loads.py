"""A load that fails leaves the person's model as it was, and says its own error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers

from hubcli import Average, adapt, load_adapter
from hubcli.adapted import Adapted
from hubcli.errors import UnsupportedError, WeightsError
from tests.api.hub_repos import SPECIAL, WORDS, adapter_folder, base_folder

IDS = {"input_ids": torch.tensor([[2, 4, 6, 3], [2, 9, 12, 3]])}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and three adapters for it, of which `other` reads words backwards."""
    root = tmp_path_factory.mktemp("failed")
    base = base_folder(root / "base")
    found = {
        name: adapter_folder(root / name, base, str(base), seed=seed, heads=["classifier"])
        for seed, name in enumerate(("first", "plain", "other"))
    }
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, *reversed(WORDS)])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        found["other"]
    )
    return {"base": base, **found}


def opened(folders: dict[str, Path]) -> tuple[tf.PreTrainedModel, Adapted]:
    model = tf.AutoModelForSequenceClassification.from_pretrained(folders["base"]).eval()
    return model, adapt(model, tokenizer=tf.AutoTokenizer.from_pretrained(folders["base"]))


def refused(folders: dict[str, Path], model: tf.PreTrainedModel) -> None:
    """What is found out once it is active: no one tokenizer reads for both."""
    with pytest.raises(UnsupportedError, match="'other' brings a tokenizer of its own"):
        load_adapter(Average(str(folders["plain"]), str(folders["other"])), model)


def logits(model: tf.PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(**IDS).logits)


@pytest.mark.parametrize("rows", [False, True], ids=["one", "rows"])
def test_what_was_active_stays_so(folders: dict[str, Path], rows: bool) -> None:
    model, handle = opened(folders)
    handle.load(folders["first"])
    handle.activate("first") if not rows else handle.activate(rows=["first", None])
    before, active = logits(model), handle.active
    refused(folders, model)
    assert (set(handle.adapters), handle.active) == ({"first"}, active)
    assert torch.equal(logits(model), before)
    handle.activate(None)
    handle.detach("first")


def test_whose_head_answered_stays_so(folders: dict[str, Path]) -> None:
    model, handle = opened(folders)
    handle.load(folders["first"])
    handle.load(folders["plain"])
    handle.head = "plain"
    handle.activate("first")
    refused(folders, model)
    assert (handle.head, handle.engine.routing.active.head, set(handle.adapters)) == (
        "plain",
        "plain",
        {"first", "plain"},
    )


def test_a_bare_model_stays_bare(folders: dict[str, Path]) -> None:
    model, handle = opened(folders)
    bare = logits(model)
    refused(folders, model)
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not handle.adapters and handle.active is None and torch.equal(logits(model), bare)


def test_a_using_block_does_not_hide_the_error(folders: dict[str, Path], tmp_path: Path) -> None:
    model, handle = opened(folders)
    shutil.copytree(folders["plain"], tmp_path / "wide")
    config = tmp_path / "wide" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "target_modules": ["query"]}))
    with handle.using(None), pytest.raises(WeightsError):
        load_adapter(Average(str(folders["plain"]), str(tmp_path / "wide")), model)
    assert not handle.adapters
