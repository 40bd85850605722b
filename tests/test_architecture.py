"""The rooms and their arrows: imports point down only, the hub side knows no torch, the core knows no method."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hubcli"
HEAVY = {"torch", "transformers", "numpy", "peft"}
METHODS = {"lora", "qlora", "bottleneck", "prefix", "bitfit"}
PUBLIC_TO_PLUGINS = {"hubcli.method", "hubcli.hookspecs", "hubcli.errors", "hubcli.testing"}
# One method is another's on a quantised base: it shares its files, its settings and its arithmetic.
BUILT_ON = {"hubcli_qlora": "hubcli_lora"}

# A module may import modules of its own room and of rooms in the lists behind it, never of a room that stands above it.
ROOMS: dict[str, list[str]] = {
    "ground": [
        "errors",
        "frozen",
        "fault_points",
        "_version",
        "paths",
        "discovery",
        "refs",
        "manifest",
        "composition",
        "expressions",
        "patterns",
        "targets",
        "strict_json",
        "plain_yaml",
        "schema",
        "schema_compiled",
        "recipe",
        "recipe_rules",
        "recipe_changes",
        "measured",
        "recipe_template",
        "versions",
        "toml_file",
        "progress",
        "pickles",
        "out_folder",
        "whole_file",
        "merge_terms",
        "hashes",
        "sizes",
        "smiles_tokenizer",
    ],
    "plugins": ["hookspecs", "method", "merge_types", "plugins", "packaged_bases", "converted_bases"],
    "hub side": [
        "http",
        "config",
        "safetensors_header",
        "index",
        "hub",
        "store",
        "resolver",
        "project_file",
        "compositions",
        "lockfile",
        "installer",
        "publishing",
        "mirroring",
    ],
    "tensor side": [
        "adapter",
        "fitting",
        "extras",
        "attention",
        "attentions",
        "positions",
        "prefixes",
        "added_heads",
        "answers",
        "engine",
        "entrance",
        "loading",
        "merging",
        "merged_heads",
        "residents",
        "saving",
        "converting",
        "unpickle",
        "gguf_base",
        "own_tokenizers",
        "fusion_converting",
        "shapes",
        "rules",
        "sites",
        "plan",
        "trunk",
        "banks",
        "route",
        "steps",
        "evaluate",
        "heads",
        "fusion",
        "fusion_files",
        "fusion_rules",
        "fusion_settings",
        "families",
        "layouts",
        "formats",
        "exports",
        "predict",
        "bases",
        "base_copies",
        "pretrained",
        "reaching",
        "quantised",
        "fuse",
        "fuse_plan",
        "fold",
        "folded_heads",
        "ordinary",
        "baked",
        "swaps",
        "fused_checkpoint",
        "adapted",
        "trainer",
        "training",
    ],
    "testing": ["testing"],
    "server": ["server"],
    "api": ["api"],
    "cli": ["cli"],
    "door": ["__main__", "__init__"],
}
BELOW = {
    "ground": set(),
    "plugins": {"ground"},
    "hub side": {"ground", "plugins"},
    "tensor side": {"ground", "plugins"},
    "testing": {"ground", "plugins", "tensor side"},
    "server": {"ground"},
    "api": {"ground", "plugins", "hub side", "tensor side", "server"},
    "cli": {"ground", "plugins", "hub side", "api", "server"},
    "door": {"ground", "api", "cli"},
}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def room_of(module: str) -> str:
    top = module.split(".")[1] if "." in module else "__init__"
    rooms = [room for room, members in ROOMS.items() if top in members]
    assert len(rooms) == 1, f"{module} stands in no room: add it to ROOMS"
    return rooms[0]


def imports(file: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = {
        id(n)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for n in ast.walk(node)
    }
    if top_level_only:
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        skipped |= {id(n) for function in functions for n in ast.walk(function)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: absolute imports only"
            folder = ROOT / (node.module or "").replace(".", "/")
            modules = {a.name for a in node.names if (folder / f"{a.name}.py").exists() or (folder / a.name).is_dir()}
            found |= {f"{node.module}.{name}" for name in modules}
            if len(modules) < len(node.names):
                found.add(node.module or "")
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_arrows_point_down(file: Path) -> None:
    here = room_of(module_name(file))
    for target in imports(file):
        if target == "hubcli" or target.startswith("hubcli."):
            there = room_of(target) if target != "hubcli" else "door"
            assert there == here or there in BELOW[here], f"{module_name(file)} ({here}) imports {target} ({there})"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_the_core_imports_no_plugin_and_names_no_method(file: Path) -> None:
    assert not {t for t in imports(file) if t.startswith("hubcli_")}
    constants = {
        n.value
        for n in ast.walk(ast.parse(file.read_text()))
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    assert not constants & METHODS


@pytest.mark.parametrize("file", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda f: f"{f.parent.name}.{f.stem}")
def test_plugins_import_the_public_method_api_alone(file: Path) -> None:
    own = file.relative_to(ROOT / "plugins").parts[0]
    wanted = {t for t in imports(file) if t.split(".")[0].startswith("hubcli") and t.split(".")[0] != own}
    allowed = {t for t in wanted if t.split(".")[0] == BUILT_ON.get(own)}
    assert wanted - allowed <= PUBLIC_TO_PLUGINS


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_the_hub_side_imports_no_torch(file: Path) -> None:
    if room_of(module_name(file)) in ("ground", "plugins", "hub side", "api", "cli", "door"):
        assert not {t.split(".")[0] for t in imports(file, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["search", "sentiment"], ["info", "sentiment/bert-lora"],
                                     ["list"], ["install", "sentiment/bert-lora"], ["verify"]], ids=lambda c: c[0])  # fmt: skip
def test_nothing_heavy_is_imported(command: list[str]) -> None:
    script = (
        "import sys, json\n"
        f"sys.argv = ['hubcli', *{command!r}]\n"
        "from hubcli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "finally: print(json.dumps(sorted(m for m in sys.modules if '.' not in m)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert not loaded & HEAVY


def test_plugin_folders_packages_and_entry_points_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {f"plugins/{p.name}" for p in (ROOT / "plugins").iterdir() if (p / "__init__.py").exists()}
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages == folders | {"hubcli"}
    points = project["project"]["entry-points"]["hubcli.plugins"]
    assert {f"plugins/{m}" for m in points.values() if not m.startswith("hubcli.")} == folders
