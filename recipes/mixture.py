"""Write the composition of the bundled index: a film and a tweet adapter averaged, measured on mixed data beside its parts.

    python -m recipes.mixture

Both parts have to be in the index already. The data are recipes/.data/mixed: as many film snippets as tweets.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from hubcli import Average, api
from hubcli.publishing.facts import rounded
from recipes.again import INDEX, RECIPES
from recipes.release import write_json

NAME, VERSION = "sentiment/films-and-tweets", "1.0.0"
PARTS = ("sentiment/bert-lora", "tweets/bert-polarity")
DATA = RECIPES / ".data" / "mixed" / "test.csv"
DESCRIPTION = (
    "Positive or negative, of films and of tweets: the average of sentiment/bert-lora and tweets/bert-polarity."
)


def figures(expr: Any) -> list[dict[str, Any]]:
    """What `hubcli eval` says of an expression on the mixed data."""
    report = api.eval(expr, DATA, dataset="films and tweets, mixed", max_length=64, write=False)
    about = {"dataset": report["data"]["name"], "split": "test"}
    return [
        {
            "name": found["name"],
            "value": rounded(found["value"]),
            **about,
            "n": found["n"],
            "interval": found["interval"] and [*map(rounded, found["interval"])],
        }
        for found in report["results"][0]["figures"]
    ]


def main() -> int:
    from recipes.data.__main__ import main as fetch

    if code := fetch(["mixed"]):
        return code
    whole = Average(*PARTS)
    measured = {name: figures(expr) for name, expr in (("average", whole), *((part, part) for part in PARTS))}
    for name, found in measured.items():
        print(name, *(f"{figure['name']} {figure['value']} {figure['interval'] or ''}" for figure in found), sep="  ")
    api.index_compose(
        whole,
        INDEX,
        name=NAME,
        version=VERSION,
        description=DESCRIPTION,
        authors=["hubcli contributors"],
        license="apache-2.0",
    )
    file = INDEX / f"{NAME}.json"
    entry = json.loads(file.read_text(encoding="utf-8"))
    release = entry["releases"][-1]
    release["metrics"] = measured["average"]
    release["training"] = {
        "command": "python -m recipes.mixture",
        "data": {"name": "films and tweets, mixed", "license": "mit"},
        "parts": {part: {found["name"]: found["value"] for found in measured[part]} for part in PARTS},
    }
    write_json(file, entry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
