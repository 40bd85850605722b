"""index import adapterhub: the real cards, one card in full, cards that are none, and index folders that are there already."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hubcli.api import index_check, index_import
from hubcli.errors import EntryError, HubcliError, NotFoundError
from hubcli.index.importing import folder as importing
from hubcli.index.importing.cards import read_card
from tests.registry.adapterhub_cards import CARD, SHA1, SHA256, only, parsed, put, real
from tests.registry.entrydocs import dump, yank
from tests.support.cli import hubcli

CARD_PATH = "adapters/acme/tiny-bert_sst-2_pfeiffer.yaml"


def tree(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()
    }


# The real ones


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("real")
    cards = real(folder / "cards")
    return cards, folder / "index", index_import("adapterhub", cards, folder / "index")


def test_every_version_of_every_card_is_accounted_for(imported: Any) -> None:
    cards, out, report = imported
    told = {(row["card"], row["card_version"]) for row in report["imported"]}
    whole = {row["card"] for row in report["left_out"] if row["version"] is None}
    told |= {(row["card"], row["version"]) for row in report["left_out"]}
    for file in cards.rglob("*.yaml"):
        path = file.relative_to(cards).as_posix()
        for version in read_card(file.read_bytes(), path)["files"]:
            assert (path, version["version"]) in told or path in whole
    assert len(report["imported"]) == len({(row["name"], row["version"]) for row in report["imported"]}) == 376
    assert report["entries"] == report["written"] == len(tree(out)) == 366
    assert [(row["card"].rpartition("/")[2], row["reason"]) for row in report["left_out"]] == [
        (
            "facebook-bart-large_qa_squad2_lohfink-rossi-leaveout.yaml",
            "config: bottleneck config: adapter_residual_before_ln: True: an adapter's own layer norm is not supported",
        )
    ]


def test_the_index_has_no_fault_and_is_found_in(imported: Any) -> None:
    _, out, _ = imported
    checked = index_check(out)
    assert checked["ok"] and checked["entries"] == 366
    assert hubcli("index", "add", "adapterhub", str(out)).code == 0
    hits = hubcli("search", "squad", "--method", "bottleneck", "--task", "question-answering", "--json").document[
        "hits"
    ]
    assert len(hits) == 8 and not any(hit["installable"] for hit in hits)
    answer = hubcli("info", "ukp/bert-base-uncased_qa_squad2_pfeiffer", "--json").document["release"]
    assert answer["origin"]["url"].startswith("https://public.ukp.informatik.tu-darmstadt.de/") and answer[
        "language"
    ] == ["en"]


def test_the_same_cards_give_the_same_bytes_and_nothing_new_the_second_time(imported: Any, tmp_path: Path) -> None:
    cards, out, report = imported
    before = tree(out)
    again = index_import("adapterhub", cards / "adapters", tmp_path / "other")
    assert tree(tmp_path / "other") == before and again["imported"] == report["imported"]
    twice = index_import("adapterhub", cards, out)
    assert twice["written"] == 0 and not any(row["changed"] for row in twice["imported"])
    assert tree(out) == before and twice["left_out"] == report["left_out"]


@pytest.mark.parametrize(
    "name, facts",
    [
        ("ukp/bert-base-multilingual-cased-fr-wiki_houlsby", ("bert-base-multilingual-cased", None, ["fr"], "BertModel")),
        ("ukp/bert-base-multilingual-cased_zh_yue_wiki_pfeiffer", ("bert-base-multilingual-cased", None, ["zh-yue"], "BertModel")),
        ("ukp/distilbert-base-uncased_sentiment_sst-2_houlsby", ("distilbert-base-uncased", "text-classification", ["en"], "DistilBertModel")),
        ("ukp/bert-base-multilingual-cased_wikiann_ner_ja_pfeiffer", ("bert-base-multilingual-cased", "token-classification", ["ja"], "BertModel")),
        ("ukp/facebook-bart-large_sum_xsum_pfeiffer", ("facebook/bart-large", "summarization", ["en"], "BartModel")),
        ("ukp/gpt2_lm_poem_pfeiffer", ("gpt2", "text-generation", [], "GPT2Model")),
        ("ukp/roberta-base-boolq_pfeiffer", ("roberta-base", None, ["en"], "RobertaModel")),
        ("kabirahuja2431/bert-base-multilingual-cased_nli_multinli_adapter_config", ("bert-base-multilingual-cased", "text-classification", ["en"], "BertModel")),
    ],
)  # fmt: skip
def test_what_some_of_them_are(imported: Any, name: str, facts: tuple[Any, ...]) -> None:
    release = json.loads((imported[1] / f"{name}.json").read_bytes())["releases"][-1]
    base = release["base"]
    assert (base["id"], release["task"], release["language"], base["architecture"]) == facts
    assert release["status"] == "archived" and release["files"] == [] and release["method"] == "bottleneck"
    assert ("invertible" in release["status_reason"]) == (name.endswith(("wiki_houlsby", "yue_wiki_pfeiffer")))
    assert ("can't read" in release["status_reason"]) == ("bart" in name)


def test_versions(imported: Any) -> None:
    """Numbers are versions of one entry; names are entries, of which the default one has the card's name."""
    rows = {(row["name"], row["version"]): row["card_version"] for row in imported[2]["imported"]}
    ner = "ukp/bert-base-multilingual-cased_wikiann_ner_en_pfeiffer"
    assert [rows[ner, f"{n}.0.0"] for n in range(1, 7)] == list("123456")
    wiki = "ukp/bert-base-multilingual-cased-ar-wiki_pfeiffer"
    assert rows[wiki, "1.0.0"] == "nd" and rows[f"{wiki}-wd", "1.0.0"] == "wd"
    exchange = [name for name, _ in rows if "stackexc" in name or "-stack" in name or name.endswith("_com")]
    assert (
        len(exchange) == 141
        and rows["ukp/bert-base-uncased_sts_stackexchange_pfeiffer", "1.0.0"] == "cooking_stackexchange_com"
    )
    notes = {note["note"]: note["cards"] for note in imported[2]["notes"]}
    assert any("its default is 1, the newest here is 6.0.0" in note for note in notes)
    assert notes["no card has a licence: it is said to be 'unknown'"] == []


# One card


def test_a_card_in_full(tmp_path: Path) -> None:
    report = only(tmp_path, CARD)
    document = json.loads((tmp_path / "out/acme/tiny-bert_sst-2_pfeiffer.json").read_bytes())
    assert document["description"] == "Adapter for SST-2, trained with care." and document["authors"] == [
        {"name": "Ada Łovelace & Grace Hopper"}
    ]
    (release,) = document["releases"]
    assert release["version"] == "1.0.0" and release["base"] == {"id": "acme/tiny-bert", "architecture": "BertModel"}
    assert release["origin"] == {
        "url": "https://adapters.example/text_task/sst-2.zip", "sha256": SHA256, "format": "zip", "library": "adapterhub",
        "sha1": SHA1, "version": "1", "card": CARD_PATH,
    }  # fmt: skip
    assert release["method_config"]["non_linearity"] == "gelu" and release["method_config"]["reduction_factor"] == 16
    assert release["training"]["card"] == {
        "type": "text_task", "task": "sentiment", "subtask": "sst-2", "default_version": "1", "file_score": "91.5",
        "model_class": "BertModelWithHeads", "prediction_head": "true", "citation": "@article{ada, title={On {A}dapters}, }",
    }  # fmt: skip
    assert {"note": "field 'email' is not taken over", "cards": [CARD_PATH]} in report["notes"]
    assert "ada@example.org" not in (tmp_path / "out/acme/tiny-bert_sst-2_pfeiffer.json").read_text()


FILE = parsed()["files"][0]


def changed(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in {**parsed(), **fields}.items() if value is not None}


BAD: dict[str, tuple[Any, str]] = {
    "no author": (changed(author=None), "author: expected a value, found nothing"),
    "author is a list": (changed(author=["Ada"]), "author: expected a text of at most 500 characters, found list"),
    "long author": (changed(author="A" * 501), "author: expected a text of at most 500 characters"),
    "unknown architecture": (changed(config={"using": "compacter"}), "config.using: expected one of pfeiffer, houlsby"),
    "invertible": (changed(config={"using": "pfeiffer+inv"}), "invertible adapters are not supported"),
    "activation": (changed(config={"using": "pfeiffer", "non_linearity": "softplus"}), "non_linearity: expected one of relu"),
    "activation is a list": (changed(config={"using": "pfeiffer", "non_linearity": ["relu"]}), "non_linearity"),
    "factor": (changed(config={"using": "pfeiffer", "reduction_factor": "many"}), "reduction_factor: expected a number"),
    "no factor": (changed(config={"using": "pfeiffer", "reduction_factor": "0"}), "reduction_factor"),
    "another override": (changed(config={"using": "pfeiffer", "scaling": "2"}), "config.'scaling': expected one of"),
    "config is a text": (changed(config="pfeiffer"), "config: expected an object"),
    "base": (changed(model_name="../etc/passwd"), "base.id"),
    "default": (changed(default_version="9"), "default_version: expected one of the files' versions"),
    "version twice": (changed(files=[FILE, FILE]), "expected each version once"),
    "files is a text": (changed(files="all"), "files: expected a list"),
    "no zip": (changed(files=[{**FILE, "url": "https://x.example/a.tar.gz"}]), "url: expected a zip file"),
    "no url": (changed(files=[{**FILE, "url": ""}]), "url: expected a zip file, found nothing"),
    "scheme": (changed(files=[{**FILE, "url": "file:///etc/a.zip"}]), "origin.url: expected an http(s) URL"),
    "credentials": (changed(files=[{**FILE, "url": "https://me:pw@x.example/a.zip"}]), "origin.url: expected an http(s) URL"),
    "sha1 alone": (changed(files=[{**FILE, "sha256": ""}]), "what is fetched could not be checked"),
    "short sha256": (changed(files=[{**FILE, "sha256": "abc"}]), "origin.sha256: expected 64 hex digits"),
    "file field": (changed(files=[{**FILE, "run": "rm"}]), "files[0].'run'"),
    "no object": ("- a\n- b\n", "expected an object of fields"),
    "empty": ("", "expected one YAML document, found 0"),
    "two documents": (CARD + "---\na: 1\n", "expected one YAML document, found 2"),
    "no yaml": ("a: [1, 2\nb: }", "not YAML at line"),
    "twice": (CARD + "author: Eve\n", "key 'author' stands twice"),
    "tag": (CARD + "name: !!python/object/apply:os.system ['touch /tmp/x']\n", "tags are not read"),
    "bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "anchors, aliases and tags are not read (line 1)"),
    "merge": (CARD + "<<: {author: Eve}\n", "expected plain texts as keys"),
    "deep": ("a: " + "[" * 100_000, "nested more than 8 levels deep"),
    "deep blocks": ("\n".join(" " * n + "a:" for n in range(400)), "nested more than 8 levels deep"),
    "big": (CARD + "#" * (256 * 1024), "expected at most 262,144 bytes"),
    "escape": (CARD + 'name: "\\e[31mred"\n', "character \\x1b is not allowed"),
    "raw control": (CARD + "name: \x1b[31m\n", "character \\x1b is not allowed"),
    "direction": (CARD + "name: a\u202eb\n", "character \\u202e is not allowed"),
    "latin": (CARD.encode() + b"name: \xe9\n", "expected UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_card_that_is_no_entry_says_why(case: str, tmp_path: Path) -> None:
    card, reason = BAD[case]
    report = only(tmp_path, card)
    assert report["imported"] == [] and not (tmp_path / "out").exists()
    (row,) = report["left_out"]
    assert reason in row["reason"] and row["card"] == CARD_PATH
    assert row["reason"].isprintable()


def test_words_stay_words(tmp_path: Path) -> None:
    """`no` is Norwegian, and 1 a version."""
    card = (
        CARD.replace('type: "text_task"', "type: text_lang")
        .replace("task: sentiment", "task: no")
        .replace("'1'", "1")
        .replace('"1"', "1")
    )
    only(tmp_path, card)
    (release,) = json.loads((tmp_path / "out/acme/tiny-bert_sst-2_pfeiffer.json").read_bytes())["releases"]
    assert release["language"] == ["no"] and release["origin"]["version"] == "1" and release["task"] is None


def test_good_versions_of_a_card_are_kept_beside_bad_ones(tmp_path: Path) -> None:
    report = only(tmp_path, changed(files=[FILE, {**FILE, "version": "2", "url": "https://x.example/a.exe"}]))
    assert [row["version"] for row in report["imported"]] == ["1.0.0"]
    assert [(row["version"], row["reason"][:4]) for row in report["left_out"]] == [("2", "url:")]


def test_files_that_are_no_cards(tmp_path: Path) -> None:
    folder = put(tmp_path / "cards", CARD)
    put(folder, CARD, "deeper/down/x.yaml")
    put(folder, CARD, "top.yaml")
    (folder / "adapters/acme/link.yaml").symlink_to(folder / CARD_PATH)
    report = index_import("adapterhub", folder, tmp_path / "out")
    assert len(report["imported"]) == 1
    reason = "expected a regular file adapters/<group>/<name>.yaml or .yml"
    assert [(row["card"], row["reason"]) for row in report["left_out"]] == [
        (f"adapters/{path}", reason) for path in ("acme/link.yaml", "deeper/down/x.yaml", "top.yaml")
    ]


def test_what_is_there_stays_and_what_is_new_is_added(tmp_path: Path) -> None:
    only(tmp_path, CARD)
    file = tmp_path / "out/acme/tiny-bert_sst-2_pfeiffer.json"
    document = json.loads(file.read_bytes())
    document["releases"][0] |= {"yanked": yank("wrong labels"), "status_reason": "by hand"}
    file.write_bytes(dump(document))
    report = only(tmp_path, changed(files=[FILE, {**FILE, "version": "2"}]))
    assert [(row["version"], row["changed"]) for row in report["imported"]] == [("1.0.0", False), ("2.0.0", True)]
    after = json.loads(file.read_bytes())
    assert (
        after["releases"][0] == document["releases"][0]
        and len(after["releases"]) == 2
        and index_check(tmp_path / "out")["ok"]
    )
    report = only(tmp_path, changed(files=[{**FILE, "sha256": "ef" * 32}]))
    assert (
        report["left_out"][0]["reason"]
        == "acme/tiny-bert_sst-2_pfeiffer 1.0.0 is there with another origin.sha256: it stays"
    )
    assert json.loads(file.read_bytes()) == after


@pytest.mark.parametrize("similar", ["null", "[1]", '[["a/b"]]', "{}"])
def test_faulty_pairs_of_names_are_named_and_left_alone(tmp_path: Path, similar: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/_index.json").write_text(f'{{"similar": {similar}}}')
    before = tree(tmp_path / "out")
    with pytest.raises(EntryError, match=r"_index\.json: similar: expected pairs of names"):
        only(tmp_path, CARD)
    assert tree(tmp_path / "out") == before


def test_a_faulty_entry_is_left_alone(tmp_path: Path) -> None:
    only(tmp_path, CARD)
    file = tmp_path / "out/acme/tiny-bert_sst-2_pfeiffer.json"
    file.write_text("{}")
    assert only(tmp_path, CARD)["left_out"][0]["reason"].endswith("is there, and has faults")
    assert file.read_text() == "{}"


# The command


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(put(tmp_path / "cards", CARD, "acme/one.yaml"), CARD, "acme/another.yaml")
    written = importing.write_whole

    def fails(file: Path, data: bytes) -> None:
        if file.name == "one.json":
            raise KeyboardInterrupt
        written(file, data)

    monkeypatch.setattr(importing, "write_whole", fails)
    with pytest.raises(KeyboardInterrupt):
        index_import("adapterhub", folder, tmp_path / "deep/out")
    assert [path.name for path in tmp_path.iterdir()] == ["cards"]


def test_the_command(tmp_path: Path) -> None:
    folder = put(put(tmp_path / "cards", CARD), "a: 1", "acme/bad.yaml")
    arguments = ("index", "import", "adapterhub", str(folder), "--out", str(tmp_path / "out"))
    planned = hubcli(*arguments, "--dry-run", "--json")
    assert planned.code == 0 and planned.document["written"] == 1 and not (tmp_path / "out").exists()
    done = hubcli(*arguments)
    assert done.code == 0 and "left out: adapters/acme/bad.yaml: type: expected a value" in done.out
    assert done.out.splitlines()[-1] == f"1 release of 1 entry, 1 left out; wrote 1 to {tmp_path / 'out'}"
    assert hubcli("index", "import", "elsewhere", str(folder), "--out", "x").code == 2


def test_no_cards(tmp_path: Path) -> None:
    for source, expected in (("adapterhub", NotFoundError), ("elsewhere", HubcliError)):
        with pytest.raises(expected):
            index_import(source, tmp_path, tmp_path / "out")
