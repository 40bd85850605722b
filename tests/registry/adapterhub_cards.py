"""AdapterHub's cards to import: the facts of the real ones, a card as its template has it, and folders of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hubcli.api import index_import

FACTS = Path(__file__).parents[1] / "fixtures" / "adapterhub-cards" / "facts.jsonl"
OF_PEOPLE = os.environ.get("HUBCLI_ADAPTERHUB_CARDS")
SHA256, SHA1 = "ab" * 32, "cd" * 20
CARD = """\
# The type of adapter (one of the options available in `adapter_type`.
type: "text_task"
task: sentiment
subtask: sst-2
model_type: bert
model_name: acme/tiny-bert   # by which it is identified at Huggingface

# The name of the author(s) of this adapter.
author: "Ada Łovelace & Grace Hopper"
citation: |
  @article{ada,
    title={On {A}dapters},
  }
config: # REQUIRED
  # Example: pfeiffer
  using: pfeiffer
  non_linearity: gelu
  reduction_factor: 16.0
default_version: '1'
description: |
  Adapter for SST-2,
  trained with care.

email: ada@example.org
files:
- version: "1"
  url: "https://adapters.example/text_task/sst-2.zip"
  sha1: "{sha1}"
  sha256: "{sha256}"
  score: 91.5
prediction_head: true
model_class: BertModelWithHeads
url:
""".replace("{sha1}", SHA1).replace("{sha256}", SHA256)


def parsed() -> dict[str, Any]:
    """The card as a parsed one, to be changed."""
    from hubcli.index.importing.cards import read_card

    return read_card(CARD.encode(), "card")


def put(folder: Path, card: dict[str, Any] | str | bytes, path: str = "acme/tiny-bert_sst-2_pfeiffer.yaml") -> Path:
    """A card's file; JSON is YAML."""
    file = folder / "adapters" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    data = card if isinstance(card, bytes) else (card if isinstance(card, str) else json.dumps(card)).encode()
    file.write_bytes(data)
    return folder


def real(folder: Path) -> Path:
    """The real cards: those that HUBCLI_ADAPTERHUB_CARDS names, else the facts of them."""
    if OF_PEOPLE:
        shutil.copytree(OF_PEOPLE, folder, copy_function=shutil.copyfile)
        return folder
    for line in FACTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        put(folder, row["card"], row["path"].removeprefix("adapters/"))
    return folder


def only(tmp_path: Path, card: Any, **options: Any) -> dict[str, Any]:
    """What is told of the import of one card."""
    put(tmp_path / "cards", card)
    return index_import("adapterhub", tmp_path / "cards", tmp_path / "out", **options)
