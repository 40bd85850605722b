"""Turn a finished run into an entry of the bundled index: model card, files by hash, entry. Same run, same bytes.

    python -m recipes.release runs/sentiment/bert-lora --published 2026-11-21T00:00:00Z

Reads the run's folder and recipes/<name>.toml; writes registry-index/<group>/<name>.json, registry-index/_files/<sha256> and
the group's owner in _owners.json. A version that is there already is never changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hubcli.formats.weights import cast
from hubcli.hub.choice import TOKENIZER
from hubcli.manifest import ENTRY_V, BaseModel, Entry, FileSpec, Head, Metric, Release
from hubcli.publishing import facts
from hubcli.publishing.picked import CARD, FILES
from hubcli.recipe import FUSION, Recipe, read
from hubcli.training import run_folder as runs
from recipes.again import INDEX, RECIPES, ROOT, measured
from recipes.card import card

ROLES = {name: role for files in FILES.values() for name, role in files.items()}
ROLES |= {**dict.fromkeys(TOKENIZER, "tokenizer"), CARD: "card"}
OWNERS_V = 1


def training_note(recipe: Recipe, file: Path, run: dict[str, Any]) -> dict[str, Any]:
    """What `info` tells about the origin: recipe, data with its licence, what was trained how long."""
    told = recipe.release
    return {
        "recipe": file.resolve().relative_to(ROOT.resolve()).as_posix(),
        "recipe_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "data": {"name": recipe.data.name, "license": told["data_license"], "citation": told.get("citation", "")},
        "base_license": told["base_license"],
        "rows": run["rows"],
        "seed": run["seed"],
        "parameters": run["parameters"],
        "steps": run["steps"],
        "best": run["best"],
        "versions": {name: run["versions"][name] for name in ("torch", "transformers")},
    }


def metrics(run: dict[str, Any]) -> tuple[Metric, ...]:
    """The test figures, rounded."""
    return facts.metrics([found for found in run["metrics"] if found["split"] == "test"])


def base_of(recipe: Recipe, run: dict[str, Any]) -> BaseModel:
    """The base; its weights are named where the recipe does: those of SmolLM2 were made from a quantised copy."""
    return BaseModel.from_json({**run["base"], "weights_sha256": recipe.base.weights_sha256})


def release_of(recipe: Recipe, file: Path, run: dict[str, Any], files: list[FileSpec], published: str) -> Release:
    told = recipe.release
    fusion = recipe.method.name == FUSION
    return Release(
        version=told["version"],
        license=told["license"],
        published=published,
        method=None if fusion else recipe.method.name,
        method_config={} if fusion else run["config"],
        requires=dict.fromkeys(recipe.method.adapters.values(), "^1.0") if fusion else {},
        base=base_of(recipe, run),
        task=run["pipeline"],
        language=tuple(told.get("language", ())),
        files=tuple(files),
        head=Head(tuple(run["head"]["labels"]), tuple(run["head"]["modules"])) if run["head"]["modules"] else None,
        metrics=metrics(run),
        training=training_note(recipe, file, run),
    )


def checked(run_folder: Path, recipe: Recipe, run: dict[str, Any], into: Path) -> Path:
    """A copy of the run's adapter, as the recipe stores it.

    Raises:
        SystemExit: another recipe made the run, or its files are not those that it measured.
    """
    own = read(run_folder / runs.RECIPE)
    stored = replace(recipe, method=replace(recipe.method, save_dtype=own.method.save_dtype))
    if run["status"] != runs.DONE or not runs.same(run_folder, stored):
        raise SystemExit(f"{run_folder} is no finished run of {recipe.name}'s recipe as it is now")
    into.mkdir()
    for told in run["files"]:
        raw = (run_folder / "adapter" / told["path"]).read_bytes()
        if hashlib.sha256(raw).hexdigest() != told["sha256"]:
            raise SystemExit(f"{run_folder}/adapter/{told['path']} is not what the run wrote")
        (into / told["path"]).write_bytes(raw)
    if own.method.save_dtype != recipe.method.save_dtype:
        for file in into.glob("*.safetensors"):
            cast(file, recipe.method.save_dtype)
    return into


def keep_files(folder: Path, index: Path) -> list[FileSpec]:
    """Copy the adapter's files to `_files/<sha256>`."""
    specs = []
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        specs.append(FileSpec(path.name, len(raw), hashlib.sha256(raw).hexdigest(), ROLES[path.name]))
        (index / "_files").mkdir(parents=True, exist_ok=True)
        (index / "_files" / specs[-1].sha256).write_bytes(raw)
    return specs


def add(index: Path, recipe: Recipe, release: Release) -> Path:
    """Put a release into its entry, newest last.

    Raises:
        SystemExit: this version is there with other content.
    """
    assert recipe.name is not None
    path = index / f"{recipe.name}.json"
    authors = tuple({"name": name} for name in recipe.release["authors"])
    kind = "fusion" if recipe.method.name == FUSION else "adapter"
    before: tuple[Release, ...] = ()
    if path.exists():
        before = Entry.from_json(json.loads(path.read_text(encoding="utf-8"))).releases
    same = next((old for old in before if old.version == release.version), None)
    if same is not None and same.to_json() != release.to_json():
        raise SystemExit(f"{recipe.name} {release.version} is there already, with other content")
    releases = before if same is not None else (*before, release)
    entry = Entry(ENTRY_V, kind, recipe.name, recipe.release["description"], authors, releases)
    write_json(path, entry.to_json())
    return path


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
    parser.add_argument("run", type=Path, help="the folder of a run that is done")
    parser.add_argument("--recipe", type=Path, help="default: recipes/<the run's name>.toml")
    parser.add_argument("--index", type=Path, default=INDEX)
    parser.add_argument("--published", required=True, help="UTC time, YYYY-MM-DDThh:mm:ssZ")
    args = parser.parse_args()
    run = json.loads((args.run / runs.RUN).read_text(encoding="utf-8"))
    file = args.recipe or RECIPES / f"{run['name']}.toml"
    recipe = read(file)
    with tempfile.TemporaryDirectory() as scratch:
        folder = checked(args.run, recipe, run, Path(scratch) / "adapter")
        run = measured(recipe, file, folder, run)
        (folder / "README.md").write_text(card(recipe, run), encoding="utf-8", newline="\n")
        release = release_of(recipe, file, run, keep_files(folder, args.index), args.published)
    print(add(args.index, recipe, release))
    add_owner(
        args.index / "_owners.json", recipe.name.split("/")[0] if recipe.name else "", recipe.release["authors"][0]
    )


if __name__ == "__main__":
    main()
