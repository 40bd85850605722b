"""Turn a finished run into an entry of the bundled index: card, files by hash, entry. Same run, same bytes.

    python recipes/write_entry.py --run runs/bert-lora --published 2026-11-21T00:00:00Z

Reads RUN/adapter and RUN/metrics.json (train_movie_sentiment.py writes them) and the recipe with its card beside it;
writes registry-index/<group>/<name>.json, registry-index/_files/<sha256> and the group's owner in _owners.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import string
import tomllib
from pathlib import Path
from typing import Any

from hubcli.manifest import ENTRY_V, BaseModel, Entry, FileSpec, Head, Metric, Release

ROOT = Path(__file__).parent.parent
ROLES = {"adapter_config.json": "config", "adapter_model.safetensors": "weights", "README.md": "card"}
OWNERS_V = 1


def card(recipe: dict[str, Any], measured: dict[str, Any], template: str) -> str:
    """The model card: the template's $names filled from the recipe and the measurements."""
    percent = {
        "accuracy": measured["accuracy"],
        "low": measured["interval"][0],
        "high": measured["interval"][1],
        "probe": measured["probe"]["accuracy"],
        "majority": measured["majority"],
    }
    return string.Template(template).substitute(
        {name: f"{value:.3f}" for name, value in percent.items()},
        **{f"rows_{part}": f"{n:,}" for part, n in measured["rows"].items()},
        base=recipe["base"]["id"],
        base_sha256=recipe["base"]["weights_sha256"],
        dataset=recipe["data"]["name"],
        citation=recipe["data"]["citation"],
        epoch=measured["epoch"],
        seed=measured["seed"],
        **recipe["method"]["config"] | {"target_modules": ", ".join(recipe["method"]["config"]["target_modules"])},
        **{name: recipe["train"][name] for name in ("epochs", "batch_size", "learning_rate", "max_length")},
    )


def training_note(recipe: dict[str, Any], recipe_path: Path, measured: dict[str, Any]) -> dict[str, Any]:
    """What `info` tells about the origin: recipe, data with its licence, and the bar that the adapter cleared."""
    data, probe = recipe["data"], measured["probe"]
    return {
        "recipe": recipe_path.resolve().relative_to(ROOT.resolve()).as_posix(),
        "recipe_sha256": hashlib.sha256(recipe_path.read_bytes()).hexdigest(),
        "data": {"name": data["name"], "license": data["license"], "citation": data["citation"]},
        "base_license": recipe["base"]["license"],
        "rows": measured["rows"],
        "epoch": measured["epoch"],
        "seed": measured["seed"],
        "baselines": [
            {
                "name": f"logistic regression on the frozen base ({probe['features']} features)",
                "accuracy": rounded(probe["accuracy"]),
                "interval": [rounded(bound) for bound in probe["interval"]],
            },
            {"name": "majority class", "accuracy": rounded(measured["majority"])},
        ],
    }


def rounded(value: float) -> float:
    return round(value, 4)


def entry_of(
    recipe: dict[str, Any], measured: dict[str, Any], training: dict[str, Any], files: list[FileSpec], published: str
) -> Entry:
    base = recipe["base"]
    metric = Metric(
        name="accuracy",
        value=rounded(measured["accuracy"]),
        dataset=recipe["data"]["name"],
        split=f"test: sha256(text) % {recipe['split']['test_modulus']} == 0",
        n=measured["rows"]["test"],
        seed=measured["seed"],
        interval=(rounded(measured["interval"][0]), rounded(measured["interval"][1])),
    )
    release = Release(
        version=recipe["version"],
        license=recipe["license"],
        published=published,
        method=recipe["method"]["name"],
        method_config=recipe["method"]["config"],
        base=BaseModel(id=base["id"], architecture=base["architecture"], weights_sha256=base["weights_sha256"]),
        task=recipe["task"],
        language=tuple(recipe["language"]),
        files=tuple(files),
        head=Head(labels=tuple(recipe["labels"]), modules=tuple(recipe["head_modules"])),
        metrics=(metric,),
        training=training,
    )
    authors = tuple({"name": name} for name in recipe["authors"])
    return Entry(ENTRY_V, "adapter", recipe["name"], recipe["description"], authors, (release,))


def keep_files(folder: Path, index: Path) -> list[FileSpec]:
    """Copy the adapter's files to `_files/<sha256>`; an unknown file is an error, not a passenger."""
    specs = []
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        specs.append(FileSpec(path.name, len(raw), hashlib.sha256(raw).hexdigest(), ROLES[path.name]))
        (index / "_files").mkdir(parents=True, exist_ok=True)
        (index / "_files" / specs[-1].sha256).write_bytes(raw)
    if {spec.path for spec in specs} != set(ROLES):
        raise ValueError(f"{folder}: expected {sorted(ROLES)}, found {[spec.path for spec in specs]}")
    return specs


def write_json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def add_owner(path: Path, group: str, owner: str) -> None:
    owners: dict[str, Any] = {"v": OWNERS_V, "groups": {}}
    if path.exists():
        owners = json.loads(path.read_text(encoding="utf-8"))
    owners["groups"].setdefault(group, [owner])
    owners["groups"] = dict(sorted(owners["groups"].items()))
    write_json(path, owners)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the training script's --out")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parent / "sentiment" / "bert-lora.toml")
    parser.add_argument("--index", type=Path, default=ROOT / "registry-index")
    parser.add_argument("--published", required=True, help="UTC time, YYYY-MM-DDThh:mm:ssZ")
    args = parser.parse_args()
    recipe = tomllib.loads(args.recipe.read_text(encoding="utf-8"))
    measured = json.loads((args.run / "metrics.json").read_text(encoding="utf-8"))
    template = args.recipe.with_suffix(".card.md").read_text(encoding="utf-8")
    (args.run / "adapter" / "README.md").write_text(card(recipe, measured, template), encoding="utf-8", newline="\n")
    files = keep_files(args.run / "adapter", args.index)
    entry = entry_of(recipe, measured, training_note(recipe, args.recipe, measured), files, args.published)
    write_json(args.index / f"{recipe['name']}.json", entry.to_json())
    add_owner(args.index / "_owners.json", recipe["name"].split("/")[0], recipe["authors"][0])


if __name__ == "__main__":
    main()
