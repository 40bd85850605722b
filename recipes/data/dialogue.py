"""What people say to a booking service: MultiWOZ turns, with what they ask for as slots and values.

The package keeps the turns with placeholders where the values stood. They are filled again with values of the same
service's database, drawn by hash, so that what a turn asks for is known exactly.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from recipes.data.archive import Archive, Archives, Opened
from recipes.data.dataset import Dataset, Made
from recipes.data.rows import Row, gist, normalised, number_of, once, split

PACKAGE = Archive(
    "convlab",
    "3.0.1",
    "convlab-3.0.1.tar.gz",
    "911ee742a84885542db9404d82cb9162c37aa22e38f569ba6d8735aaf8677c2b",
    "Apache-2.0",
)
ROOT = "convlab-3.0.1/convlab/"
TURNS = f"{ROOT}nlg/template/multiwoz/auto_user_template_nlg.json"
DATABASE = f"{ROOT}human_eval/db/"
DOMAINS = ("attraction", "hotel", "restaurant", "taxi", "train")
COLUMNS = {"price": "pricerange", "depart": "departure", "dest": "destination"}  # a slot's name in the database
TIMES = [f"{hour:02}:{minute:02}" for hour in range(5, 24) for minute in (0, 15, 30, 45)]
COUNTS = ("people", "stay")
TIMES_OF_DAY = ("arrive", "leave", "time")
PLACES = ("attraction", "hotel", "restaurant")  # where a taxi goes
SLOTS = {
    "attraction": ("area", "name", "type"),
    "hotel": ("area", "day", "name", "people", "price", "stars", "stay", "type"),
    "restaurant": ("area", "day", "food", "name", "people", "price", "time"),
    "taxi": ("arrive", "depart", "dest", "leave"),
    "train": ("arrive", "day", "depart", "dest", "leave", "people"),
}

_PLACE = re.compile(r"#[A-Z]+-INFORM-([A-Z]+)#")
_ANY_VALUE = (
    r"\d|\b(north|south|east|west|centre|center|cheap|expensive|moderate|moderately|\w+day|wi-?fi|internet|parking)\b"
    r"|\b(one|two|three|four|five|six|seven|eight)\b"
)


class Turn(NamedTuple):
    domain: str
    words: list[str]  # between them, in turn, the values
    slots: list[str]


def turns(opened: Opened, values: dict[tuple[str, str], list[str]], dropped: Counter[str]) -> Iterator[Turn]:
    """The turns that state something, of which every slot that was noted stands in the text, and no other value."""
    standing = {domain: _standing(values, domain) for domain in DOMAINS}
    for act, by_slots in json.loads(opened.read(TURNS)).items():
        domain, kind = act.lower().split("-")
        for noted, texts in by_slots.items():
            if domain not in DOMAINS or kind != "inform":
                dropped["no statement to one of the five services"] += len(texts)
                continue
            wanted = {slot.lower() for slot in noted.split(";") if slot}
            for text in texts:
                words = _PLACE.split(text)
                slots = [slot.lower() for slot in words[1::2]]
                if not slots or set(slots) != wanted:
                    dropped["a slot without a value"] += 1
                elif standing[domain].search(" ".join(words[::2])):
                    dropped["a value of another slot"] += 1
                else:
                    yield Turn(domain, words[::2], slots)


def _standing(values: dict[tuple[str, str], list[str]], domain: str) -> re.Pattern[str]:
    """A value left standing in the words: its slot may be one that nobody noted."""
    known = {word for (of, slot), pool in values.items() if of == domain and slot not in COUNTS for word in pool}
    return re.compile(_ANY_VALUE + "".join(rf"|\b{re.escape(value)}s?\b" for value in sorted(known)), re.IGNORECASE)


def pools(opened: Opened) -> dict[tuple[str, str], list[str]]:
    """(domain, slot) -> the values of the service's database, sorted."""
    tables = {name: json.loads(opened.read(f"{DATABASE}{name}_db.json")) for name in DOMAINS if name != "taxi"}
    return {(domain, slot): _pool(tables, domain, slot) for domain in DOMAINS for slot in SLOTS[domain]}


def _pool(tables: dict[str, list[Row]], domain: str, slot: str) -> list[str]:
    if slot in TIMES_OF_DAY:
        return TIMES
    if slot in COUNTS:
        return [str(count) for count in range(1, 9)]
    if domain == "taxi":
        rows, column = [row for name in PLACES for row in tables[name]], "name"
    else:
        rows, column = tables["train" if slot == "day" else domain], COLUMNS.get(slot, slot)
    return sorted({str(row[column]).replace("mutliple", "multiple") for row in rows})


def fill(turn: Turn, values: dict[tuple[str, str], list[str]]) -> dict[str, str]:
    """Slot -> value, each value once, drawn by the hash of the turn."""
    said = "|".join([turn.domain, *turn.words])
    chosen: dict[str, str] = {}
    for slot in sorted(set(turn.slots)):
        pool = [value for value in values[turn.domain, slot] if value not in chosen.values()]
        chosen[slot] = pool[number_of(f"{said}|{slot}") % len(pool)]
    return chosen


def spoken(words: list[str], values: list[str]) -> str:
    """One line, as a person writes it: `do n't`, ` .` and `a expensive` put right."""
    text = words[0]
    for value, after in zip(values, words[1:], strict=True):
        article = re.search(r"\b([Aa])n?\s+$", text)
        if article:
            text = text[: article.start()] + article[1] + ("n " if value[0] in "aeiou8" else " ")
        text += value + after
    text = re.sub(r"\s+([.,?!;:])", r"\1", " ".join(text.split()))
    return re.sub(r"\s*'\s*(s|m|d|ll|re|ve)\b", r"'\1", re.sub(r"\s+n't\b", "n't", text))


def tagged(words: list[str], slots: list[str], chosen: dict[str, str]) -> tuple[list[str], list[str]]:
    """The tokens and their BIO tags."""
    tokens, tags = _tokens(words[0]), ["O"] * len(_tokens(words[0]))
    for slot, after in zip(slots, words[1:], strict=True):
        value, rest = chosen[slot].split(), _tokens(after)
        tokens += value + rest
        tags += [f"B-{slot}"] + [f"I-{slot}"] * (len(value) - 1) + ["O"] * len(rest)
    return tokens, tags


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)*|[^\w\s]", text.replace(" n't", "n't").replace(" ' ", "'"))


def answer(chosen: dict[str, str]) -> str:
    return "; ".join(f"{slot}={value}" for slot, value in sorted(chosen.items()))


def _answered(turn: Turn, chosen: dict[str, str]) -> Row:
    text = spoken(turn.words, [chosen[slot] for slot in turn.slots])
    return {
        "messages": [
            {"role": "user", "content": f"[{turn.domain}] {text}"},
            {"role": "assistant", "content": answer(chosen)},
        ]
    }


def _labelled(turn: Turn, chosen: dict[str, str]) -> Row:
    tokens, tags = tagged(turn.words, turn.slots, chosen)
    return {"tokens": tokens, "tags": tags}


def builder(row_of: Callable[[Turn, dict[str, str]], Row]) -> Callable[[Archives], Made]:
    """Rows in the order of their keys' hashes; turns that are the same once filled count as one, like those before."""

    def build(archives: Archives) -> Made:
        opened, dropped = archives.open(PACKAGE), Counter[str]()
        values = pools(opened)
        found = (_filled(turn, fill(turn, values), row_of) for turn in turns(opened, values, dropped))
        keyed = once(found, lambda one: str(one["key"]), dropped, label="key")
        ranked = sorted(keyed.values(), key=lambda one: number_of(one["key"]))
        distinct = once(ranked, lambda one: normalised(one["text"]), dropped)
        return Made(split({one["key"]: one["row"] for one in distinct.values()}), dropped)

    return build


def _filled(turn: Turn, chosen: dict[str, str], row_of: Callable[[Turn, dict[str, str]], Row]) -> Row:
    text = spoken(turn.words, [chosen[slot] for slot in turn.slots])
    return {"key": _key(turn), "text": text, "label": answer(chosen), "row": row_of(turn, chosen)}


def _key(turn: Turn) -> str:
    first, *rest = turn.words
    return f"{turn.domain}: " + gist(
        first + "".join(f" _{slot}_ {text}" for slot, text in zip(turn.slots, rest, strict=True))
    )


_FILLED = "placeholders filled with values of its database, drawn by hash; in the order of their hashes"
_CITATION = (
    "Budzianowski, P. et al. (2018). MultiWOZ: A Large-Scale Multi-Domain Wizard-of-Oz Dataset for Task-Oriented "
    "Dialogue Modelling. EMNLP. Zhu, Q. et al. (2023). ConvLab-3: A Flexible Dialogue System Toolkit. EMNLP (demos)."
)
_KEY = "the service and the turn's words in lower case, with the slots' names for their values"

DATASETS = (
    Dataset(
        "dialogue",
        f"A turn to a booking service, and the slots it states as 'slot=value; slot=value': {_FILLED}.",
        (PACKAGE,),
        "Apache-2.0",
        _CITATION,
        ("messages",),
        builder(_answered),
        _KEY,
        format="jsonl",
    ),
    Dataset(
        "slots",
        f"The turns of 'dialogue' as tokens with BIO tags of the slots: {_FILLED}.",
        (PACKAGE,),
        "Apache-2.0",
        _CITATION,
        ("tokens", "tags"),
        builder(_labelled),
        _KEY,
        format="jsonl",
    ),
)
