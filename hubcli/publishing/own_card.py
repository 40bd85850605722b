"""A README.md that a person wrote: their text stays, metadata is joined with what was checked, and what is missing is added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hubcli import plain_yaml
from hubcli.publishing import claims
from hubcli.publishing.card import CardFacts, library, metadata, sections, tags, whole
from hubcli.publishing.documents import HUB_ID
from hubcli.publishing.findings import Finding
from hubcli.publishing.picked import CARD

MAX_CARD = 1 << 20  # bytes
_BLOCK = re.compile(r"\A(?:\ufeff)?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]")
# A section is there where a heading says so.
_THERE = {
    "results": re.compile(
        r"^#+.*\b(?:results?|evaluation|metrics|performance|scores?)\b", re.IGNORECASE | re.MULTILINE
    ),
    "training": re.compile(r"^#+.*\btraining\b", re.IGNORECASE | re.MULTILINE),
    "limits": re.compile(r"^#+.*\b(?:limit\w*|bias\w*|risks?)\b", re.IGNORECASE | re.MULTILINE),
    "citation": re.compile(
        r"^#+.*\b(?:citation|cite|bibtex)\b|@(?:misc|article|inproceedings)\{", re.IGNORECASE | re.MULTILINE
    ),
}
_EMPTY = "[More Information Needed]"  # what a library's template has where a person should have written


@dataclass(slots=True)
class Theirs:
    """A README as it was found: metadata, text, and what is wrong with it."""

    data: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self, key: str) -> str | None:
        """A text of the metadata."""
        value = self.data.get(key)
        return value if isinstance(value, str) else None

    def lines(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts of the metadata."""
        value = self.data.get(key)
        values = value if isinstance(value, list) else [value]
        return tuple(item for item in values if isinstance(item, str))

    @property
    def figures(self) -> tuple[EvalResult, ...]:
        """What its model-index states."""
        return tuple(ModelCardData(**self.data).eval_results or ())


def read(raw: bytes) -> Theirs:
    """Read a README; a template that nobody filled in counts as none, with a note."""
    theirs = Theirs()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        theirs.findings.append(_wrong("text", "UTF-8", "other bytes"))
        return theirs
    if hidden := _HIDDEN.search(content):
        theirs.findings.append(_wrong("text", "no control characters", ascii(hidden[0])))
        return theirs
    if len(raw) > MAX_CARD:
        theirs.findings.append(_wrong("size", f"at most {MAX_CARD:,} bytes", f"{len(raw):,}"))
        return theirs
    if content.count(_EMPTY) >= 5:
        theirs.notes.append(f"{CARD} is a template that nobody filled in: a new one is written")
        return theirs
    _parse(content, theirs)
    return theirs


def _wrong(what: str, expected: str, found: str) -> Finding:
    return Finding(CARD, what, expected, found, id="E_FORMAT_UNSAFE")


def _parse(content: str, theirs: Theirs) -> None:
    block = _BLOCK.match(content)
    theirs.text = content[block.end() :] if block else content
    if block is None:
        return
    try:
        data = plain_yaml.load(block[1])
        if data is None:
            data = {}
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise ValueError("expected names with values")
        ModelCardData(**data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        theirs.findings.append(_wrong("metadata", "what huggingface_hub's ModelCard reads", ascii(str(error))[1:160]))
        return
    theirs.data = data


def check(theirs: Theirs, facts: CardFacts) -> Iterator[Finding]:
    """What of their metadata is not what was checked. A path of a machine as the base is no word of theirs."""
    base = facts.release.base
    stated = [name for name in theirs.lines("base_model") if HUB_ID.match(name)]
    if base is not None and stated and base.id not in stated:
        yield Finding(CARD, "base_model", base.id, ", ".join(stated), id="E_BASE_MISMATCH")
    relation = theirs.data.get("base_model_relation")
    if relation not in (None, "adapter"):
        yield Finding(CARD, "base_model_relation", "adapter", ascii(relation)[:60])
    own, said = library(facts.format), theirs.data.get("library_name")
    if said not in (None, own, *(("adapters",) if own == "adapter-transformers" else ())):
        yield Finding(CARD, "library_name", own, ascii(said)[:60])
    licence = theirs.data.get("license")
    if licence is not None and facts.release.license and licence != facts.release.license:
        yield Finding(CARD, "license", facts.release.license, ascii(licence)[:60], "say the same in both places")
    task = theirs.data.get("pipeline_tag")
    if task is not None and facts.release.task and task != facts.release.task:
        hint = "say the same in both places; where the adapter's own files say it wrong: task (--task)"
        yield Finding(CARD, "pipeline_tag", facts.release.task, ascii(task)[:60], hint)
    yield from claims.check(theirs.figures, facts.release.metrics, facts.dataset_id, CARD)


def merged(theirs: Theirs, facts: CardFacts) -> str:
    """Their card with what it lacks: metadata that nobody said, the figures as they were checked, and sections that their text
    has not.
    """
    ours: dict[str, Any] = _metadata(theirs, facts).to_dict()  # type: ignore[no-untyped-call]
    data = dict(theirs.data)
    if not any(HUB_ID.match(name) for name in theirs.lines("base_model")):
        data.pop("base_model", None)
    joined = {**data, **{key: value for key, value in ours.items() if key not in data}}
    if "model-index" in ours:
        joined["model-index"] = ours["model-index"]
        joined["metrics"] = list(dict.fromkeys([*theirs.lines("metrics"), *ours.get("metrics", ())]))
    joined["tags"] = list(dict.fromkeys([*theirs.lines("tags"), *tags(facts)]))
    text = theirs.text.strip("\n").replace("\r\n", "\n")
    missing = [part for name, part in sections(facts).items() if _lacks(text, name, part, facts)]
    title = [] if re.match(r"\s*#\s", text) else [f"# {facts.name}"]
    content = whole(ModelCardData(**joined), [*title, *([text] if text else []), *missing])
    return str(ModelCard(content))


def _metadata(theirs: Theirs, facts: CardFacts) -> ModelCardData:
    """Ours, with the figures that they state and the release has not."""
    ours = metadata(facts)
    if ours.eval_results:
        ours.eval_results += claims.others(theirs.figures, facts.release.metrics, facts.dataset_id)
    return ours


def _lacks(text: str, name: str, part: str, facts: CardFacts) -> bool:
    """Whether their text has not what a section of ours says: results are there where it states each figure as it was checked."""
    if name == "description":
        return not text.strip()
    if name == "plot":
        return part.rpartition("(")[2].rstrip(")") not in text
    if name == "use":
        return "load_adapter(" not in text or not any(place in text for place in (facts.name, facts.repo) if place)
    if name == "results" and any(f"{figure.value:.4g}" not in text for figure in facts.release.metrics):
        return True
    return not _THERE[name].search(text)
