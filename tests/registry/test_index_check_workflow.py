"""The workflow file for an index repository: its steps, run here against a repository with good and bad pull requests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubcli import api
from hubcli.publishing.entering import entered
from hubcli.publishing.into_folder import IntoFolder
from tests.publish.pushed import draft_of
from tests.registry.checkout import commit, git

EXAMPLE = Path(__file__).parents[2] / "examples" / "index-repository"
WORKFLOW: dict[str, Any] = yaml.safe_load((EXAMPLE / ".github/workflows/check.yml").read_text())
ON = WORKFLOW[True]  # the key `on`, as YAML 1.1 reads it


def test_rights_and_triggers() -> None:
    assert set(ON) == {"pull_request_target", "push"} and ON["push"] == {"branches": ["main"]}
    assert WORKFLOW["permissions"] == {}, "a job that asks for nothing gets nothing"
    rights = {name: job["permissions"] for name, job in WORKFLOW["jobs"].items()}
    assert rights == {
        "check": {"contents": "read"}, "site": {"contents": "read"}, "publish": {"pages": "write", "id-token": "write"},
    }  # fmt: skip
    text = (EXAMPLE / ".github/workflows/check.yml").read_text()
    assert "secrets" not in text
    for job in WORKFLOW["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "text from outside reaches a shell as a variable alone"
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
    assert (
        WORKFLOW["jobs"]["publish"]["needs"] == "site"
        and WORKFLOW["jobs"]["site"]["if"] == "github.event_name == 'push'"
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The example as a repository of its own, on main."""
    folder = tmp_path / "origin"
    shutil.copytree(EXAMPLE, folder)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "the index")
    return folder


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with `hubcli` on it."""
    script = tmp_path / "bin" / "hubcli"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hubcli "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:{os.environ['PATH']}"


def steps(job: str, workspace: Path, path: str, event: dict[str, str]) -> tuple[int, str]:
    """Run a job's own commands as the runner does, but for what installs hubcli: exit code of the first that fails, output."""
    said = ""
    for step in WORKFLOW["jobs"][job]["steps"]:
        if "run" not in step or "pip install" in step["run"]:
            continue
        given = {name: event[value] for name, value in step.get("env", {}).items()}
        environment = {**os.environ, **given, "PATH": path, "PYTHONPATH": str(EXAMPLE.parents[1])}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
        said += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, said
    return 0, said


def proposed(repository: Path, workspace: Path, change: Callable[[Path], Any], author: str) -> dict[str, str]:
    """A pull request as the runner gets it: the merge commit with its two parents in ./proposal; and what the event says."""
    git(repository, "checkout", "-q", "-b", "pull")
    change(repository)
    head = commit(repository, "proposal")
    git(repository, "checkout", "-q", "-b", "merged", "main")
    (repository / "README.md").write_text("main went on\n")
    commit(repository, "main goes on")
    git(repository, "branch", "-f", "main")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge", "pull")
    git(repository, "update-ref", "refs/pull/1/merge", "HEAD")
    workspace.mkdir()
    git(workspace, "init", "-q", "proposal")
    git(workspace / "proposal", "fetch", "-q", "--depth=2", f"file://{repository}", "refs/pull/1/merge")
    git(workspace / "proposal", "checkout", "-q", "--detach", "FETCH_HEAD")
    return {
        "${{ github.event.pull_request.user.login }}": author,
        "${{ github.event.pull_request.head.sha }}": head,
    }


def films(folder: Path) -> Path:
    return folder / "acme" / "films.json"


def release(folder: Path, **changes: Any) -> None:
    document = json.loads(films(folder).read_text())
    new = {**document["releases"][0], "version": "1.1.0", "published": "2026-02-01T00:00:00Z", **changes}
    document["releases"].append(new)
    films(folder).write_text(json.dumps(document, indent=2) + "\n")


def edit(folder: Path) -> None:
    films(folder).write_text(films(folder).read_text().replace("0.91", "0.99"))


def hook(folder: Path) -> None:
    """Code that a careless step would run, and a folder called like the revision."""
    release(folder)
    (folder / "sitecustomize.py").write_text("raise SystemExit(0)")
    (folder / "adapters.toml").write_text("[")
    shutil.copytree(folder / "acme", folder / "HEAD^1" / "acme")


def first(folder: Path, by: str | None) -> None:
    """The first release of a group, as `hubcli publish --by` writes it."""
    draft, place = draft_of(name="films/bert"), IntoFolder(folder, by)
    release = draft.published("bigcorp/films", "a" * 40, "2026-02-01T00:00:00Z")
    entered(place, draft, release, "bigcorp", dry_run=False, say=lambda _: None)


PULLS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a release of an owner": (release, "alice", ""),
    "a yank of a maintainer": (
        lambda folder: api.yank("acme/films@1.0.0", reason="wrong labels", index=folder), "acme-keeper", "",
    ),
    "nothing": (lambda folder: None, "mallory", ""),
    "the first release of a group": (lambda folder: first(folder, "bob"), "bob", ""),
    "one that another proposes": (lambda folder: first(folder, "bob"), "mallory", "E_OWNER"),
    "one that nobody is said to propose": (lambda folder: first(folder, None), "bob", "E_OWNER"),
    "one by who is called as the namespace is": (lambda folder: first(folder, None), "bigcorp", "E_OWNER"),
    "a release of a stranger": (release, "mallory", "E_OWNER"),
    "another's repository": (
        lambda folder: release(folder, hub={"repo": "mallory/films", "commit": "a" * 40}), "alice", "E_OWNER",
    ),
    "a release that is edited": (edit, "alice", "E_IMMUTABLE"),
    "an entry that goes": (lambda folder: films(folder).unlink(), "acme-keeper", "E_IMMUTABLE"),
    "files beside": (hook, "alice", ""),
    "a hostile name": (release, "$(touch${IFS}ran)", "--by names who proposes"),
}  # fmt: skip


@pytest.mark.parametrize("name", PULLS)
def test_a_pull_request(name: str, repository: Path, tmp_path: Path, path: str) -> None:
    change, author, id = PULLS[name]
    event = proposed(repository, tmp_path / "workspace", change, author)
    code, said = steps("check", tmp_path / "workspace", path, event)
    assert (code == 0) == (not id) and id in said, said
    assert not (tmp_path / "workspace" / "ran").exists()


def test_a_merge_of_something_else_is_refused(repository: Path, tmp_path: Path, path: str) -> None:
    event = proposed(repository, tmp_path / "workspace", release, "alice")
    event["${{ github.event.pull_request.head.sha }}"] = "0" * 40
    assert steps("check", tmp_path / "workspace", path, event)[0] == 1


def test_main_becomes_a_site(repository: Path, tmp_path: Path, path: str) -> None:
    shutil.copytree(repository, tmp_path / "workspace" / "index")
    code, said = steps("site", tmp_path / "workspace", path, {})
    assert code == 0, said
    api.index_add("acme", str(tmp_path / "workspace" / "site"))
    assert api.resolve("acme/films").version == "1.0.0"
    edit(tmp_path / "workspace" / "index")
    (tmp_path / "workspace" / "index" / "acme" / "films.json").write_text("{")
    assert steps("site", tmp_path / "workspace", path, {})[0] == 4
