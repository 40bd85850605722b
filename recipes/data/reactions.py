"""Reactions from patents, as SMILES, with the kind of reaction."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator

from recipes.data.archive import Archive, Archives
from recipes.data.dataset import Dataset, Made
from recipes.data.rows import PARTS, Parts, Row, number_of, once, part_of

PACKAGE = Archive(
    "synrbl",
    "1.0.6",
    "synrbl-1.0.6.tar.gz",
    "f3f030edbb8fcb5fd34c72762ff0a371182346c54c0682febc80b13fd9311d7d",
    "MIT",
)
TABLE = "synrbl-1.0.6/Data/Raw_data/USPTO/USPTO_50K.csv"
CLASSES = {  # the ten superclasses of Schneider et al.
    "1": "heteroatom alkylation and arylation",
    "2": "acylation",
    "3": "C-C bond formation",
    "4": "heterocycle formation",
    "5": "protection",
    "6": "deprotection",
    "7": "reduction",
    "8": "oxidation",
    "9": "functional group interconversion",
    "10": "functional group addition",
}
MOST_TOKENS = 150  # 95 % of the reactions; what is longer would be cut, and lose its product
MOST = {"train": 500, "validation": 50, "test": 150}  # rows of one class

# The tokens of a reaction SMILES: Schwaller et al., "Found in Translation" (2018).
TOKEN = re.compile(
    r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>>?|\*|\$|%[0-9]{2}|[0-9]"
)


def build(archives: Archives) -> Made:
    dropped: Counter[str] = Counter()
    raw = archives.open(PACKAGE).text(TABLE)
    keyed = once(_short(raw, dropped), lambda row: order_free(row["text"]), dropped)
    sided: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(keyed.values(), key=lambda row: number_of(row["text"])):
        sided.setdefault((part_of(row["patent"]), row["label"]), []).append(row)
    parts: Parts = {part: [] for part in PARTS}
    for (part, _), rows in sided.items():
        parts[part] += [{"text": row["text"], "label": row["label"]} for row in rows[: MOST[part]]]
        dropped[f"beyond {MOST[part]} of a class in {part}"] += max(0, len(rows) - MOST[part])
    return Made({part: sorted(rows, key=lambda row: number_of(row["text"])) for part, rows in parts.items()}, dropped)


def order_free(reaction: str) -> str:
    """The same for the same molecules in another order."""
    return ">>".join(".".join(sorted(side.split("."))) for side in reaction.split(">>"))


def _short(raw: str, dropped: Counter[str]) -> Iterator[Row]:
    for row in csv.DictReader(io.StringIO(raw, newline="")):
        if len(TOKEN.findall(row["reactions"])) > MOST_TOKENS:
            dropped[f"more than {MOST_TOKENS} tokens"] += 1
        else:
            yield {"text": row["reactions"], "label": CLASSES[row["class"]], "patent": row["id"]}


DATASETS = (
    Dataset(
        "reactions",
        "Reactions from US patents (USPTO-50k: reactants>>product, SMILES, no reagents) and their class, one of ten; at "
        f"most {MOST['train']} of a class to train on, {MOST['validation']} and {MOST['test']} to validate and test, "
        "those with the smallest hashes, in the order of their hashes.",
        (PACKAGE,),
        "MIT (package); the patents' reactions CC0",
        "Lowe, D.M. (2012). Extraction of chemical structures and reactions from the literature. Schneider, N., Stiefl, "
        "N. & Landrum, G.A. (2016). What's What: The (Nearly) Definitive Guide to Reaction Role Assignment. J. Chem. "
        "Inf. Model. 56, 2336. In: Phan, T.-L. et al. (2024). SynRBL. J. Cheminform. 16, 111.",
        ("text", "label"),
        build,
        "the patent's number: one patent's reactions are all in one part",
        label="label",
    ),
)
