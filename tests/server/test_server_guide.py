"""What docs/hub-server.md tells a person to run: run by a shell, with a free port and tokens of the test's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.server.served import FIRST, SECOND, read_tree, write_tree
from tests.support.hub_server import LiveHub, client_environment

GUIDE = (Path(__file__).parents[2] / "docs/hub-server.md").read_text(encoding="utf-8")
TOKEN = "writes"


def section(title: str) -> str:
    found = re.search(rf"^#+ {title}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


def shell(text: str) -> str:
    """A console block as a script; what the guide leaves out is the test's token."""
    return "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ ")).replace("…", TOKEN)


def with_path(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **more}


@pytest.fixture
def work(tmp_path: Path, online: None) -> Iterator[tuple[Path, LiveHub]]:
    write_tree(tmp_path / "out/legal-lora", FIRST)
    with LiveHub(tmp_path / "hub", token=TOKEN) as hub:
        yield tmp_path, hub


def test_serving(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    for title in ("A hub of your own", "Tokens"):
        block = blocks(title, "console")[0]
        command = [line for line in shell(block).splitlines() if not line.startswith("pip ")]
        command[-1] = f"exec {command[-1].partition('#')[0]}".replace("--port 8080", "--port 0")
        script = "\n".join(command).replace(f"READ_TOKEN={TOKEN}", "READ_TOKEN=reads")
        with subprocess.Popen(
            ["bash", "-c", script], cwd=tmp_path, env=with_path(), stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout
            said = server.stdout.readline()
            server.terminate()
        assert re.sub(r":\d+,", ":8080,", said).strip() == block.splitlines()[-1]


@pytest.mark.slow
def test_importing_and_pushing(work: tuple[Path, LiveHub]) -> None:
    folder, hub = work
    imported, pushed = blocks("The folder", "python")[0], blocks("Pushing", "python")[0]
    environment = with_path(**client_environment(hub, folder / "home", token=TOKEN), HUBCLI_HUB_TOKEN=TOKEN)
    environment["PATH"] = with_path()["PATH"]
    script = shell(blocks("Pushing", "console")[0]).replace("http://127.0.0.1:8080", hub.url)

    def run(command: list[str]) -> None:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run(["bash", "-ec", script])
    write_tree(folder / "out/legal-lora", SECOND)
    run([sys.executable, "-c", pushed])
    api = HfApi(endpoint=hub.url, token=False)
    out = Path(api.snapshot_download("acme/legal-lora", revision="v1.2.0", cache_dir=folder / "cache"))
    assert {name: data for name, data in read_tree(out).items() if name != ".gitattributes"} == SECOND
    assert len(api.list_repo_commits("acme/legal-lora")) == 3
    run([sys.executable, "-c", imported.replace("acme/legal-lora", "acme/imported")])
    assert api.model_info("acme/imported", revision="v1.2.0").sha
