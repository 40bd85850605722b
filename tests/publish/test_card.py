"""The card: metadata that huggingface_hub reads back, code that runs as it stands, and a person's own words left alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from huggingface_hub import ModelCard

from hubcli import api
from hubcli.errors import PublishError
from hubcli.manifest import BaseModel, Head, Metric, Release
from hubcli.publishing import own_card
from hubcli.publishing.card import CardFacts, card
from hubcli.publishing.draft import Draft
from tests.publish import drafts
from tests.publish.drafts import BASE_ID, drafted

GPT_ID = "acme/tiny-gpt"
RELEASE = Release(
    version="1.0.0", license="mit", published="", method="lora", base=BaseModel(BASE_ID), task="text-classification",
    language=("en",), head=Head(("neg", "pos"), ("classifier",)),
    metrics=(Metric("accuracy", 0.9, "Films", "test", 200, 1, (0.85, 0.93)), Metric("loss", 0.2, "Films", "test")),
)  # fmt: skip
FACTS = CardFacts("acme/reviews", "adapter", "peft", "Good or bad.", ({"name": "Ann"},), RELEASE, reads_in_peft=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """bert/, gpt2/, lora/ and prefix/ of peft's, bottleneck/ of hubcli's."""
    from hubcli import adapt

    folder = tmp_path_factory.mktemp("made")
    drafts.lora(drafts.base(folder / "bert"), folder / "lora")
    drafts.prefix(drafts.base(folder / "gpt2", "gpt2"), folder / "prefix", stated=GPT_ID)
    from transformers import AutoModelForSequenceClassification

    handle = adapt(AutoModelForSequenceClassification.from_pretrained(folder / "bert", num_labels=2))
    handle.add("bottleneck", "b", {"reduction_factor": 4})
    handle.save("b", folder / "bottleneck", "hubcli")
    yield folder


@pytest.fixture
def there(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The adapters, their bases to be had by their ids."""
    drafts.cached(made / "bert", monkeypatch, made / "cache")
    drafts.cached(made / "gpt2", monkeypatch, made / "cache", GPT_ID)
    return made


def text_of(found: Draft) -> str:
    (raw,) = [file.data for file in found.files if file.path == "README.md"]
    assert raw is not None
    return raw.decode()


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


CASES: dict[str, dict[str, Any]] = {"lora": {}, "prefix": {"task": "text-generation"}, "bottleneck": {"base": BASE_ID, "task": "text-classification"}}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_code_on_a_card_runs(
    case: str, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = drafted(there / case, repo="acme/repo", **CASES[case])
    monkeypatch.chdir(tmp_path)
    drafts.written(found, tmp_path / "acme" / "repo")  # where peft looks first for what it is told
    api.index_add("drafts", str(drafts.indexed(found, tmp_path / "index")))
    code = blocks(text_of(found))
    assert len(code) == (1 if case == "bottleneck" else 2)
    for block in code:
        capsys.readouterr()
        exec(compile(block, "card", "exec"), {"__name__": "card"})
        assert capsys.readouterr().out.strip()


def test_metadata_come_back_as_they_were_said(there: Path, tmp_path: Path) -> None:
    text = card(replace(FACTS, repo="acme/repo", dataset_id="acme/films"))
    (tmp_path / "README.md").write_text(text)
    loaded = ModelCard.load(tmp_path / "README.md")
    assert str(loaded) == text
    data = loaded.data
    assert (data.base_model, data.base_model_relation, data.library_name) == (BASE_ID, "adapter", "peft")
    assert (data.license, data.language, data.pipeline_tag) == ("mit", "en", "text-classification")
    assert data.tags == ["hubcli", "lora"] and data.datasets == ["acme/films"]
    results = [(r.metric_type, r.metric_value, r.dataset_name, r.dataset_split) for r in data.eval_results]
    assert results == [("accuracy", 0.9, "Films", "test"), ("loss", 0.2, "Films", "test")]
    assert (
        "| accuracy | 0.9 | 0.85 to 0.93 | 200 | Films (test) |" in text
        and "| loss | 0.2 |  |  | Films (test) |" in text
    )


HOSTILE = ["x\n---\nlicense: evil", "a: b # c", "<script>alert(1)</script>", "[x](javascript:y)", "`rm`", "| a | b |", "\x1b[31mred", "*b* _c_", "!!python/object:os.system", "\u202etxt"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_texts_from_outside_stay_texts(text: str) -> None:
    metric = Metric("accuracy", 0.5, text, "test", 10)
    head = Head((text, "b"), ("classifier",))
    release = replace(RELEASE, metrics=(metric,), head=head)
    written = card(replace(FACTS, description=text, release=release, training=("Data: x.",), citation=text, classes=2))
    loaded = ModelCard(written)
    data = loaded.data.to_dict()
    assert data["license"] == "mit" and set(data) <= set(ModelCard(card(FACTS)).data.to_dict())
    assert loaded.data.eval_results[0].dataset_name == text
    body = loaded.text
    assert not set(re.findall(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", body))
    for block in blocks(body):
        compile(block, "card", "exec")
    prose = re.sub(r"```python\n.*?```", "", body, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)[<`]", prose) and not re.search(r"(?<!\\)\]\(javascript", prose)
    assert all(line.count("|") - line.count("\\|") in (0, 6) for line in prose.splitlines())


OWN = """---
license: mit
language: de
tags: [films]
base_model: acme/tiny-bert
pipeline_tag: text-classification
---

# My reviews

Words of *mine*.

## Training

By hand.
"""


def with_card(there: Path, tmp_path: Path, text: str) -> Path:
    folder = Path(shutil.copytree(there / "lora", tmp_path / "lora"))
    (folder / "README.md").write_text(text)
    return folder


def test_a_persons_words_stay_and_what_is_missing_is_added(there: Path, tmp_path: Path) -> None:
    found = drafted(with_card(there, tmp_path, OWN), license=None)
    text = text_of(found)
    loaded = ModelCard(text)
    assert OWN.partition("---\n\n")[2].strip() in text and text.count("## Training") == 1
    assert (found.release.license, found.release.language) == ("mit", ("de",))
    assert loaded.data.tags == ["films", "hubcli", "lora"] and loaded.data.library_name == "peft"
    assert "load_adapter(" in text and "## Limits" in text and "# acme/reviews" not in text


def test_a_card_that_was_drafted_is_left_as_it_is(there: Path, tmp_path: Path) -> None:
    first = text_of(drafted(there / "lora"))
    assert text_of(drafted(with_card(there, tmp_path, first))) == first


def test_pictures_that_the_card_shows_go_with_it(there: Path, tmp_path: Path) -> None:
    folder = with_card(there, tmp_path, OWN + "\n![a film](film.png)\n")
    for name in ("film.png", "other.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 16)
    found = drafted(folder)
    assert [(f.path, f.role) for f in found.files if f.path.endswith(".png")] == [("film.png", None)]
    assert any("other.png" in note for note in found.notes)
    (folder / "film.png").write_bytes(b"MZ")
    with pytest.raises(PublishError, match=r"film\.png"):
        drafted(folder)


INDEX = "model-index: [{{name: x, results: [{{task: {{type: text-classification}}, dataset: {{type: films, name: Films}}, metrics: [{{type: {}, value: {}}}]}}]}}]"  # fmt: skip

REFUSED = {
    "base": ("base_model: acme/tiny-bert", "base_model: acme/other", "E_BASE_MISMATCH"),
    "licence": ("license: mit", "license: gpl-3.0", "E_PUBLISH"),
    "library": ("tags: [films]", "library_name: diffusers", "E_PUBLISH"),
    "task": ("pipeline_tag: text-classification", "pipeline_tag: text-generation", "E_PUBLISH"),
    "figure": ("tags: [films]", INDEX.format("accuracy", 0.9999), "E_METRIC"),
    "no figure": ("tags: [films]", INDEX.format("accuracy", "high"), "E_METRIC"),
    "relation": ("tags: [films]", "base_model_relation: merge", "E_PUBLISH"),
    "alias": ("tags: [films]", "tags: &a [films]\nmore: *a", "E_FORMAT_UNSAFE"),
    "object": ("tags: [films]", "tags: !!python/object/apply:os.system [id]", "E_FORMAT_UNSAFE"),
    "list": ("license: mit", "- license", "E_FORMAT_UNSAFE"),
    "index": ("tags: [films]", "model-index: 7", "E_FORMAT_UNSAFE"),
    "escape": ("Words of", "Words\x1b[31m of", "E_FORMAT_UNSAFE"),
    "direction": ("Words of", "Words\u202e of", "E_FORMAT_UNSAFE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_card_that_says_something_else(case: str, there: Path, tmp_path: Path) -> None:
    old, new, id = REFUSED[case]
    with pytest.raises(PublishError) as error:
        drafted(with_card(there, tmp_path, OWN.replace(old, new)))
    assert error.value.id == id, error.value


def test_a_template_that_nobody_filled_in_is_no_card(there: Path, tmp_path: Path) -> None:
    template = "---\nbase_model: /home/ann/models\n---\n# Model Card for Model ID\n" + "[More Information Needed]\n" * 9
    found = drafted(with_card(there, tmp_path, template))
    assert any("template" in note for note in found.notes)
    assert "More Information" not in text_of(found) and "/home/ann" not in text_of(found)


def test_a_path_as_the_base_is_no_word_of_theirs(there: Path, tmp_path: Path) -> None:
    text = text_of(drafted(with_card(there, tmp_path, OWN.replace("base_model: acme/tiny-bert", "base_model: ./bert"))))
    assert ModelCard(text).data.base_model == BASE_ID


def test_merging_keeps_every_key_that_is_theirs() -> None:
    theirs = own_card.read((OWN.replace("tags: [films]", "co2_eq_emissions: 3\nthumbnail: x.png")).encode())
    merged = yaml.safe_load(own_card.merged(theirs, FACTS).split("---")[1])
    assert (merged["co2_eq_emissions"], merged["thumbnail"], merged["language"]) == (3, "x.png", "de")
    assert json.dumps(merged)


def test_a_figure_that_nobody_checked_goes_out_by_name_alone(there: Path, tmp_path: Path) -> None:
    folder = with_card(there, tmp_path, OWN.replace("tags: [films]", INDEX.format("accuracy", 0.9999)))
    with pytest.raises(PublishError, match=r"README\.md: stated figures.*no data to measure on") as refused:
        drafted(folder)
    assert "--allow-unreproduced" in str(refused.value.hint)
    found = drafted(folder, allow_unreproduced=True)
    assert any("were not reproduced" in note for note in found.notes) and "0.9999" in text_of(found)
    shutil.rmtree(there / "cache")
    with pytest.raises(PublishError, match="the base was not had"):
        drafted(folder, allow_unchecked_base=True)


CLAIMS = {
    "the same": ("accuracy", 0.9, "Films", "test", 0.9),
    "rounded": ("accuracy", 0.9, "films", None, 0.9043),
    "in per cent": ("Accuracy", "90.4", "films", "test", 0.9043),
    "other": ("accuracy", 0.99, "Films", "test", 0.5),
    "one for all": ("accuracy", 1, "Films", None, 0.6),
    "of itself": ("loss", 2.3, "Films", "test", 2.31),
    "off": ("loss", 2.3, "Films", "test", 2.4),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_figure_has_to_be_the_releases(case: str) -> None:
    name, stated, dataset, split, value = CLAIMS[case]
    results = [{"task": {"type": "x"}, "dataset": {"type": "x", "name": dataset, "split": split},
                "metrics": [{"type": name, "value": stated}]}]  # fmt: skip
    document = yaml.safe_dump({"model-index": [{"name": "x", "results": results}], "metrics": ["f1"]})
    theirs = own_card.read(f"---\n{document}---\n# Films\n\n## Results\n\nSplendid.\n".encode())
    facts = replace(FACTS, release=replace(RELEASE, metrics=(Metric(name.lower(), value, "Films", "test", 200),)))
    wrong = [finding for finding in own_card.check(theirs, facts) if finding.id == "E_METRIC"]
    assert bool(wrong) == (case in ("other", "one for all", "off"))
    loaded = ModelCard(own_card.merged(theirs, facts))
    assert [(r.metric_type, r.metric_value) for r in loaded.data.eval_results] == [(name.lower(), value)]
    assert f"| {name.lower()} | {value:.4g} |" in loaded.text and loaded.data.metrics == ["f1", name.lower()]


def test_a_figure_on_other_data_stands_behind_ours() -> None:
    text = OWN.replace(
        "tags: [films]", INDEX.format("accuracy", 0.7).replace("Films", "Books").replace("films", "books")
    )
    theirs = own_card.read((text + "\n## Results\n\nAccuracy 0.9, loss 0.2; on books 0.7.\n").encode())
    loaded = ModelCard(own_card.merged(theirs, FACTS))
    assert [(r.dataset_name, r.metric_value) for r in loaded.data.eval_results] == [
        ("Films", 0.9), ("Films", 0.2), ("Books", 0.7)]  # fmt: skip
    assert loaded.text.count("## Results") == 1
    again = own_card.merged(own_card.read(str(loaded).encode()), FACTS)
    assert again == str(loaded)


def test_code_for_another_adapter_is_no_code_for_this_one() -> None:
    theirs = own_card.read(b"# Films\n\n    load_adapter('other/one')\n")
    assert 'load_adapter("acme/reviews")' in own_card.merged(theirs, FACTS)
