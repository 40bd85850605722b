"""hf:org/repo from a live hub, with no index entry and with the base from the hub too, against plain peft on the same server."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from hubcli import api, load_adapter
from hubcli.manifest import Installed
from hubcli.paths import home as home_folder
from hubcli.store.matching import newest
from hubcli.store.store import Store
from tests.api.hub_repos import adapter_folder, at_hub, base_folder, off_line
from tests.support.cli import hubcli
from tests.support.hub_server import LiveHub, allow_loopback, client_environment

TEXTS = ["the film was superb", "dull and long", "not a bad story and a very good score"]
LABELS = ["bad", "mixed", "good"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {family: base_folder(root / family, family) for family in ("bert", "llama")}


@pytest.fixture
def hub(bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    """A hub with the two bases, the person's own."""
    allow_loopback(monkeypatch)
    with LiveHub(tmp_path / "hub") as live:
        for family, folder in bases.items():
            live.import_folder(f"acme/{family}", folder)
        at_hub(monkeypatch, live, tmp_path / "client")
        yield live


def peft_logits(
    auto: Any, base: str, repo: str, texts: list[str], revision: str = "main", **options: Any
) -> torch.Tensor:
    """What plain peft computes, base and adapter downloaded from the hub."""
    model = PeftModel.from_pretrained(auto.from_pretrained(base, **options), repo, revision=revision).eval()
    tokens = AutoTokenizer.from_pretrained(base)(texts, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**tokens).logits  # type: ignore[no-any-return]


def agree(rows: list[dict[str, Any]], logits: torch.Tensor, labels: list[str]) -> None:
    scores, best = logits.softmax(-1).max(-1)
    assert [row["label"] for row in rows] == [labels[i] for i in best]
    assert max(abs(row["score"] - score) for row, score in zip(rows, scores.tolist(), strict=True)) <= 1e-5


def classifier(tmp_path: Path, bases: dict[str, Path], **options: Any) -> Path:
    return adapter_folder(tmp_path / f"a{len(list(tmp_path.iterdir()))}", bases["bert"], "acme/bert", **options)


def test_the_whole_life_of_an_adapter_from_a_hub(
    hub: LiveHub, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    folder = classifier(tmp_path, bases, classes=3, labels=LABELS)
    first = hub.import_folder("acme/mood", folder, tag="v1")
    done = hubcli("install", "hf:acme/mood@v1", "--json").document["installed"][0]
    assert (done["version"], done["changed"]) == (first, True)
    sent = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    assert {f["path"]: f["sha256"] for f in done["files"]} == sent and "config.json" in sent
    assert done["base"] == "acme/bert"
    release = hubcli("info", "hf:acme/mood@v1", "--json").document["release"]
    assert release["hub"] == {"repo": "acme/mood", "commit": first}
    assert "classifier" in release["head"]["modules"]

    run = hubcli("run", "hf:acme/mood@v1", *TEXTS, "--json")
    assert run.code == 0, run.err
    old = peft_logits(AutoModelForSequenceClassification, "acme/bert", "acme/mood", TEXTS, "v1", num_labels=3)
    agree(run.document["predictions"], old, LABELS)

    second = hub.import_folder("acme/mood", classifier(tmp_path, bases, classes=3, labels=LABELS, seed=2))
    assert HfApi(endpoint=hub.url).model_info("acme/mood").sha == second != first
    nothing = {"outdated": [], "unchecked": [], "withdrawn": []}
    assert hubcli("outdated", "--json").document == nothing, "the tag has not moved"
    assert hubcli("install", "hf:acme/mood@main", "--json").document["installed"][0]["version"] == second
    third = hub.import_folder("acme/mood", classifier(tmp_path, bases, classes=3, labels=LABELS, seed=3))
    rows = hubcli("outdated", "hf:acme/mood@main", "--json").document["outdated"]
    assert [(row["installed"], row["latest"]) for row in rows] == [(second, third)]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("hubcli.hub.transport.own_endpoint", lambda: "http://127.0.0.1:9")
        again = hubcli("outdated", "hf:acme/mood@main", "--json").document
        assert again == {"outdated": rows, "unchecked": [], "withdrawn": []}, (
            "the hub it came from is asked, not the one of today"
        )
    assert hubcli("upgrade", "hf:acme/mood@main", "--json").document["installed"][0]["version"] == third
    assert hubcli("verify", "--json").document["ok"]
    assert {row["version"] for row in hubcli("list", "--json").document["adapters"]} == {first, second, third}

    new = peft_logits(AutoModelForSequenceClassification, "acme/bert", "acme/mood", TEXTS, num_labels=3)
    assert (new - old).abs().max() > 0.01
    off_line(monkeypatch)
    hub.log.clear()
    for spec, expected in (("v1", old), ("main", new), (first[:8], old), (third, new)):
        run = hubcli("run", f"hf:acme/mood@{spec}", *TEXTS, "--json", "--offline")
        assert run.code == 0, run.err
        agree(run.document["predictions"], expected, LABELS)
    assert not hub.log, "offline is offline"
    refused = hubcli("upgrade", "hf:acme/mood@main", "--json", "--offline")
    assert refused.code == 7 and "--offline" in json.dumps(refused.document)


def test_of_two_commits_of_one_second_the_one_installed_last_is_newest(
    hub: LiveHub, bases: dict[str, Path], tmp_path: Path
) -> None:
    paths = {}
    for seed in (1, 2):
        commit = hub.import_folder("acme/mood", classifier(tmp_path, bases, seed=seed))
        paths[commit] = Path(hubcli("install", "hf:acme/mood", "--json").document["installed"][0]["path"])
    items = [store_item(path, commit) for commit, path in paths.items()]
    for last in items:
        for item in items:
            os.utime(item.path, (1, 2 if item is last else 1))
        found = newest(items, "main")
        assert found is not None and found.record.version == last.record.version


def store_item(path: Path, commit: str) -> Installed:
    """As installed, at a time that is the same for all."""
    [item] = [item for item in Store(home_folder()).versions("hf:acme/mood") if item.record.version == commit]
    assert Path(item.path) == path
    release = dataclasses.replace(item.record.release, published="2026-01-02T03:04:05Z")
    return dataclasses.replace(item, record=dataclasses.replace(item.record, release=release))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("named", [True, False])
def test_labels(classes: int, named: bool, hub: LiveHub, bases: dict[str, Path], tmp_path: Path) -> None:
    labels = [f"class {i}" for i in range(classes)]
    hub.import_folder("acme/mood", classifier(tmp_path, bases, classes=classes, labels=labels if named else None))
    logits = peft_logits(AutoModelForSequenceClassification, "acme/bert", "acme/mood", TEXTS, num_labels=classes)
    run = hubcli("run", "hf:acme/mood", *TEXTS)
    assert run.code == 0, run.err
    shown = labels if named else [f"LABEL_{i}" for i in range(classes)]
    assert ("no labels are known" in run.err) is not named
    adapted = load_adapter("hf:acme/mood")
    agree(api.run("hf:acme/mood", TEXTS)["predictions"], logits, shown)
    assert adapted.model.config.num_labels == classes, "the base's own head is as wide"
    assert adapted.labels_of("acme/mood") == tuple(shown)


def test_a_language_model(hub: LiveHub, bases: dict[str, Path], tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "lm", bases["llama"], "acme/llama", family="llama", task="CAUSAL_LM")
    hub.import_folder("acme/writer", folder)
    adapted = load_adapter("hf:acme/writer")
    assert adapted.active == "acme/writer"
    tokens = adapted.tokenizer(TEXTS, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        found = adapted.model(**tokens).logits
    expected = peft_logits(AutoModelForCausalLM, "acme/llama", "acme/writer", TEXTS)
    assert (found - expected).abs().max() <= 1e-5

    oracle = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("acme/llama"), "acme/writer").eval()
    prompt = adapted.tokenizer("the film was", return_tensors="pt")
    prompt.pop("token_type_ids", None)
    options = {"max_new_tokens": 6, "do_sample": False}
    generate = type(adapted.model).generate
    assert adapted.model.generate.__func__ is generate
    assert torch.equal(adapted.model.generate(**prompt, **options), oracle.generate(**prompt, **options))
    assert torch.equal(adapted.generate(**prompt, **options), oracle.generate(**prompt, **options))
    with oracle.disable_adapter(), adapted.using(None):
        assert torch.equal(adapted.generate(**prompt, **options), oracle.generate(**prompt, **options))

    run = hubcli("run", "hf:acme/writer", "the film was", "dull", "--json")
    assert run.code == 0, run.err
    written = run.document["predictions"]
    assert len(written) == 2 and written[0]["generated_text"].startswith("the film was")


@pytest.mark.slow
def test_two_processes_agree(hub: LiveHub, bases: dict[str, Path], tmp_path: Path, home: Path) -> None:
    hub.import_folder("acme/mood", classifier(tmp_path, bases, labels=["bad", "good"]))
    environment = {**client_environment(hub, tmp_path / "process"), "HUBCLI_HOME": str(home)}
    command = [sys.executable, "-m", "hubcli", "run", "hf:acme/mood", *TEXTS, "--json"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=90, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    logits = peft_logits(AutoModelForSequenceClassification, "acme/bert", "acme/mood", TEXTS, num_labels=2)
    agree(json.loads(done.stdout)["predictions"], logits, ["bad", "good"])
    assert os.environ["HF_ENDPOINT"] == hub.url
