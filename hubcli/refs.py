"""Refs: what a person types to name an adapter.

group/name            the newest version that the indexes offer
group/name@^1.2       a SemVer range: @1.2 means 1.2.x, @1.2.3 exactly that, ^ ~ >= < as in npm
index:group/name      from this index alone
hf:org/repo@revision  a hub repository without an index entry; revision is a branch, a tag or a commit
./folder              a folder on this machine (also /abs, ~/x, ../x, and an existing folder given by `folder:PATH`)
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from hubcli.errors import RefError
from hubcli.frozen import frozen
from hubcli.paths import expanded, is_there

NAME_PART = r"[a-z0-9][a-z0-9._-]{0,63}"
NAME = re.compile(rf"{NAME_PART}/{NAME_PART}\Z")
INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_HF_REPO = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,127}\Z")
_FOLDER_STARTS = ("./", "../", "/", "~", ".\\", "..\\", "folder:")
EXPECTED = "expected group/name, group/name@^1.2, index:group/name, hf:org/repo@revision or ./folder"


@frozen
class Ref:
    """A parsed ref. `kind` is "index", "hf" or "folder".

    `name` is `group/name`, `org/repo` or the folder as typed; `spec` the version range or revision as typed ("" when none);
    `index` the pinned index's name or None.
    """

    kind: str
    name: str
    spec: str = ""
    index: str | None = None

    def __str__(self) -> str:
        prefix = {"hf": "hf:", "folder": ""}.get(self.kind, f"{self.index}:" if self.index else "")
        return f"{prefix}{self.name}" + (f"@{self.spec}" if self.spec else "")

    @property
    def store_name(self) -> str:
        """The name the store keeps this ref under: `group/name`, or `hf:org/repo`."""
        return f"hf:{self.name}" if self.kind == "hf" else self.name

    @property
    def folder(self) -> Path:
        """The folder a folder ref names. UsageError: it is of a user that this machine has not."""
        return expanded(self.name.removeprefix("folder:"))


def parse_ref(text: str) -> Ref:
    """Read a ref.

    Raises:
        RefError: the text is no ref; the message says what was expected and shows non-ASCII characters escaped.
    """
    shown = ascii(text)[1:-1]
    if not text.strip():
        raise RefError("empty ref", hint=EXPECTED)
    if text in (".", "..") or text.startswith(_FOLDER_STARTS):
        return Ref("folder", text)
    if not text.isascii():
        raise RefError(f"ref '{shown}' has characters outside ASCII", hint=EXPECTED, id="E_NAME_CHARSET")
    if text.startswith("hf:"):
        return _hub_ref(text[3:], shown)
    head, _, spec = text.partition("@")
    index, colon, name = head.rpartition(":")
    if colon and not INDEX_NAME.match(index):
        raise RefError(f"'{shown}': '{index}' is no index name", hint=EXPECTED)
    if not NAME.match(name):
        raise RefError(f"'{shown}' is no ref", hint=folder_meant(text) or EXPECTED)
    if "@" in text and not spec:
        raise RefError(f"'{shown}' ends in @ with no version", hint=EXPECTED)
    return Ref("index", name, spec.strip(), index or None)


def of_folder(path: Path) -> str:
    """The ref of a folder; a relative path that could be read as another ref gets ./ before it."""
    text = str(path)
    return text if text in (".", "..") or text.startswith(_FOLDER_STARTS) else f"./{text}"


def folder_meant(text: str) -> str | None:
    """A hint for who typed a folder without ./ before it; None where no folder is called so."""
    folder = Path(text)
    if not (is_there(folder) and folder.is_dir()):
        return None
    return run_meant(folder) or f"did you mean {of_folder(folder)}?"


def run_meant(folder: Path) -> str | None:
    """A hint for who named a folder of a training instead of its adapter, or one that was broken off; None for another folder."""
    shown = of_folder(folder)
    try:
        said = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if (folder / "adapter").is_dir():
        return f"did you mean {shown}/adapter? {shown} is a run of 'hubcli train'"
    if isinstance(said, dict) and said.get("status") == "running":
        again = f"hubcli train {shown}/recipe.toml --out {shown} --resume"
        return f"this is an unfinished run of 'hubcli train'; to go on with it: {again}"
    return None


def _hub_ref(text: str, shown: str) -> Ref:
    repo, at, revision = text.partition("@")
    if not _HF_REPO.match(repo) or ".." in repo or "--" in repo:
        raise RefError(f"'{shown}': '{repo}' is no hub repository", hint="expected hf:org/repo or hf:org/repo@revision")
    if at and (not _REVISION.match(revision) or ".." in revision):
        raise RefError(f"'{shown}': '{revision}' is no revision", hint="expected a branch, a tag or a commit")
    return Ref("hf", repo, revision)
