"""An index entry as a branch of the git checkout that holds the index: working tree, index and current branch stay as they are.

Objects are written first, and one update of a ref that must not be there yet lets the branch appear.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hubcli.errors import NotFoundError, RaceError, UsageError
from hubcli.index.git import commit_of, in_checkout, revision_state
from hubcli.publishing.place import Base, Waiting, Written
from hubcli.publishing.push import title_of
from hubcli.store.faults import reach

SECONDS = 120
_UNSET = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX")
_NOTHING = "0" * 40


class IntoGit:
    """A folder that a commit of a git checkout holds."""

    kind = "git"

    def __init__(self, folder: Path):
        self.folder = folder
        self.where = str(folder)

    @classmethod
    def of(cls, folder: Path) -> IntoGit | None:
        """Where the folder is the checkout itself, or its last commit has it; None for a folder that git knows nothing of."""
        if not in_checkout(folder):
            return None
        made = cls(folder)
        prefix = made._git("rev-parse", "--show-prefix")
        known = made._tried("rev-parse", "--verify", "--quiet", f"HEAD:{prefix.rstrip('/')}") if prefix else "root"
        return made if known else None

    def base(self, name: str) -> Base:
        """The index as the last commit has it.

        Raises:
            NotFoundError: no commit yet. UsageError: git can't be used, or does not know who commits.
        """
        commit = commit_of(self.folder, "HEAD")
        if not self._tried("var", "GIT_COMMITTER_IDENT"):
            hint = "git config --global user.name 'Your Name'; git config --global user.email you@example.org"
            raise UsageError(f"git in {self.folder} does not know who commits", hint=hint)
        state = revision_state(self.folder, commit)
        return Base(tuple(state.entries), state.entries.get(name), state.owners, commit)

    def waiting(self, name: str, version: str) -> Waiting | None:
        """The entry on the branch of this release, where there is one."""
        branch = branch_of(name, version)
        tip = self._tried("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
        if not tip:
            return None
        undo = f"git -C {shlex.quote(str(self.folder))} branch -D {shlex.quote(branch)}"
        entry = revision_state(self.folder, tip).entries.get(name)
        return Waiting(entry, self._written(branch, changed=False), undo)

    def planned(self, name: str, version: str) -> str:
        """The branch, and what it stands on."""
        on = self._tried("rev-parse", "--abbrev-ref", "HEAD")
        return f"branch {branch_of(name, version)} in {self.folder}, on {on}"

    def write(self, base: Base, files: Mapping[str, bytes], name: str, version: str) -> Written:
        """One commit on the base, and the branch that names it.

        Raises:
            RaceError: the branch was made in between. UsageError: git fails, with what it says.
        """
        branch = branch_of(name, version)
        prefix = self._git("rev-parse", "--show-prefix")
        reach("publish-before-index")
        with tempfile.TemporaryDirectory() as place:
            index = {"GIT_INDEX_FILE": str(Path(place) / "index")}
            self._git("read-tree", base.version, env=index)
            lines = [f"100644 {self._git('hash-object', '-w', '--stdin', given=data)}\t{prefix}{path}"
                     for path, data in files.items()]  # fmt: skip
            self._git("update-index", "-z", "--index-info", given="\0".join([*lines, ""]).encode(), env=index)
            tree = self._git("write-tree", env=index)
        commit = self._git("commit-tree", tree, "-p", base.version, "-m", title_of(name, version))
        reach("publish-before-ref")
        if self._tried("update-ref", "-m", "hubcli publish", f"refs/heads/{branch}", commit, _NOTHING) is None:
            if self._tried("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"):
                raise RaceError(f"{self.folder}: the branch {branch} was made in between", hint="run it again")
            self._git("update-ref", f"refs/heads/{branch}", commit, _NOTHING)
        return self._written(branch, changed=True)

    def _written(self, branch: str, *, changed: bool) -> Written:
        remote = (self._tried("remote") or "").split()
        to = "origin" if "origin" in remote or not remote else remote[0]
        push = f"git -C {shlex.quote(str(self.folder))} push {shlex.quote(to)} {shlex.quote(branch)}"
        return Written(branch=branch, next=push, changed=changed)

    def _tried(self, *arguments: str) -> str | None:
        """What git prints, or None where it fails."""
        try:
            return self._git(*arguments)
        except UsageError:
            return None

    def _git(self, *arguments: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What git prints, without the end of its last line.

        Raises:
            NotFoundError: git is not installed. UsageError: it fails, with what it says.
        """
        environment = {key: value for key, value in os.environ.items() if key not in _UNSET}
        environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **(env or {})}
        command = ["git", "--no-pager", "-C", str(self.folder), *arguments]
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, env=environment, timeout=SECONDS, check=False
            )
        except FileNotFoundError:
            raise NotFoundError("git is not installed", hint="install git, or write the index elsewhere") from None
        except subprocess.TimeoutExpired:
            raise UsageError(f"git {arguments[0]} took longer than {SECONDS} s in {self.folder}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            cause = ascii(said)[1:-1][:300] or f"git {arguments[0]} failed"
            raise UsageError(f"git can't write to {self.folder}", cause=cause)
        return os.fsdecode(done.stdout).removesuffix("\n")


def branch_of(name: str, version: str) -> str:
    """The branch of a release."""
    return f"publish/{name.replace('/', '-')}-{version}"
