"""A composition of an index on the real MiniLM: the same predictions as its expression written out, and as folded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli import Average, Stack, install, load_adapter, resolve
from hubcli.api import index_add, index_compose, uninstall, upgrade, verify
from hubcli.errors import HubcliError
from tests.api.bundled import MINILM, REF, TEXTS, Oracle, agree, answers, apart, classifier
from tests.support.adapters import IndexFolder, entry, release
from tests.support.cli import hubcli

LIMIT = 1e-5
pytestmark = pytest.mark.slow


@pytest.fixture
def index(tmp_path: Path, second: Path, home: Path) -> IndexFolder:
    """acme/other is the second adapter; acme/mix averages it with the bundled one."""
    folder = IndexFolder(tmp_path / "index")
    files = {n: (second / n).read_bytes() for n in ("adapter_config.json", "adapter_model.safetensors", "config.json")}
    folder.put(files)
    like = resolve(REF).release
    assert like.base is not None and like.base.id == MINILM
    fields: dict[str, Any] = {"base": like.base.to_json(), "task": like.task, "method_config": {}}
    fields["head"] = {"labels": ["negative", "positive"], "modules": ["classifier"]}
    made = release(files, **fields)
    for spec in made["files"]:
        spec["role"] = "weights" if spec["path"].endswith("safetensors") else "config"
    folder.write("acme/other", entry("acme/other", [made]))
    index_add("acme", str(folder.folder))
    expr = Average(REF, "acme/other@^1.0", weights=[0.7, 0.3])
    texts = {"description": "Two tastes.", "authors": ["Acme"]}
    row = index_compose(expr, folder.folder, name="acme/mix", version="1.0.0", **texts)
    assert row["requires"] == {REF: "^1.1.0", "acme/other": "^1.0"}
    index_compose(Stack("acme/mix", REF), folder.folder, name="acme/outer", version="1.0.0", **texts)
    return folder


def test_it_is_its_expression_and_folded_weights(index: IndexFolder, oracle: Oracle) -> None:
    logits = oracle.folded((0.7, 0.3), (0.7, 0.3))
    said = hubcli("run", "acme/mix", *TEXTS, "--json")
    assert said.code == 0, said.err
    agree(said.document["predictions"], answers(logits))
    written_out = hubcli("run", f"average({REF}, acme/other, weights=[0.7, 0.3])", *TEXTS, "--json")
    assert written_out.document == said.document
    handle = load_adapter("acme/mix")
    assert handle.active == Average(REF, "acme/other", weights=[0.7, 0.3])
    assert apart(oracle.logits(handle.model), logits) <= LIMIT
    agree(handle.predict(TEXTS), answers(logits))


@pytest.mark.parametrize("expr", ["acme/outer", Stack("acme/mix", REF), f"stack(acme/mix@1.0, {REF}@^1.0)"])
def test_it_stands_inside_others(expr: Any, index: IndexFolder, oracle: Oracle) -> None:
    """Stack(Average(a, b), a): the weights add up; the head is the last child's."""
    model = classifier(3)
    handle = load_adapter(expr, model)
    assert handle.active == Stack(Average(REF, "acme/other", weights=[0.7, 0.3]), REF)
    assert apart(oracle.logits(model), oracle.folded((1.7, 0.3), (1, 0))) <= LIMIT


def test_it_stays_with_the_versions_it_was_installed_with(index: IndexFolder, oracle: Oracle) -> None:
    install("acme/mix")
    document = json.loads((index.folder / "acme/other.json").read_text())
    document["releases"].append({**document["releases"][0], "version": "1.1.0"})
    index.write("acme/other", document)
    install("acme/other")
    assert load_adapter("acme/mix").adapters.keys() == {REF, "acme/other"}
    with pytest.raises(HubcliError, match=r"two versions of acme/other: 1.0.0 for acme/mix 1.0.0, 1.1.0 for") as caught:
        load_adapter(Average("acme/mix", "acme/other@1.1"))
    assert caught.value.id == "E_CONFLICT"
    upgrade("acme/mix")
    assert load_adapter(Average("acme/mix", "acme/other@1.1")).active is not None


def test_what_makes_no_sense_is_refused(index: IndexFolder) -> None:
    with pytest.raises(HubcliError, match="name= is for a single adapter"):
        load_adapter("acme/mix", name="mine")
    handle = load_adapter(REF)
    with pytest.raises(HubcliError, match="acme/mix is a composition"):
        handle.load("acme/mix")


def test_a_part_that_is_gone_comes_back_and_a_damaged_one_stops(index: IndexFolder) -> None:
    install("acme/mix")
    part = next(Path(row["path"]) for row in install("acme/other")["installed"])
    removed = part.rename(part.with_name("aside"))
    for file in removed.iterdir():
        file.chmod(0o644)
        file.unlink()
    removed.rmdir()
    assert not verify("acme/mix")["ok"]
    load_adapter("acme/mix")
    assert verify()["ok"]
    weights = part / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(HubcliError, match=r"acme/other 1.0.0 is damaged") as caught:
        load_adapter("acme/mix")
    assert caught.value.id in ("E_HASH", "E_INTEGRITY")
    with pytest.raises(HubcliError, match="needed by the composition"):
        uninstall("acme/other")
