"""An index entry as a branch of the git checkout that holds the index: working tree, index and current branch stay as they are.

Objects are written first, and one update of a ref that must not be there yet lets the branch appear.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hubcli.errors import NotFoundError, RaceError, UsageError
from hubcli.index.git import commit_of, in_checkout, revision_state
from hubcli.index.git_runner import git, git_line
from hubcli.publishing.place import Base, Waiting, Written, refuse_links
from hubcli.publishing.push import title_of
from hubcli.store.faults import reach

HEADS = "refs/heads/"


class IntoGit:
    """A folder that a commit of a git checkout holds."""

    kind = "git"

    def __init__(self, folder: Path, by: str | None = None):
        self.folder, self.by = folder, by
        self.where = str(folder)

    @classmethod
    def of(cls, folder: Path, by: str | None = None) -> IntoGit | None:
        """Where the folder is the checkout itself, or its last commit has it; None for a folder that git knows nothing of."""
        if not in_checkout(folder):
            return None
        made = cls(folder, by)
        prefix = os.fsdecode(made._prefix()).rstrip("/")
        known = git_line(folder, "rev-parse", "--verify", "--quiet", f"HEAD:{prefix}") if prefix else b"root"
        return made if known else None

    def base(self, name: str) -> Base:
        """The index as the last commit has it.

        Raises:
            NotFoundError: no commit yet. UsageError: git can't be used, or does not know who commits.
            EntryError: E_PATH_UNSAFE, the entry is behind a link.
        """
        self._refuse_unborn()
        commit = commit_of(self.folder, "HEAD")
        if not all(git_line(self.folder, "var", f"GIT_{who}_IDENT") for who in ("AUTHOR", "COMMITTER")):
            hint = "git config --global user.name 'Your Name'; git config --global user.email you@example.org"
            raise UsageError(f"git in {self.folder} does not know who commits", hint=hint)
        state = revision_state(self.folder, commit)
        refuse_links(state, name)
        return Base(tuple(state.entries), state.entries.get(name), state.owners, commit, state.meta)

    def waiting(self, name: str, version: str) -> Waiting | None:
        """The entry on the branch of this release, where there is one.

        Raises:
            UsageError: there is none, and none can be made: what stands in its way.
        """
        branch = branch_of(name, version)
        tip = self._commit(branch)
        if tip is None:
            self._refuse_branch(branch)
            return None
        undo = self._command("branch", "-m", branch, f"set-aside/{branch}")
        entry = revision_state(self.folder, tip).entries.get(name)
        return Waiting(entry, self._written(branch, changed=False), undo)

    def proposed(self, name: str) -> list[tuple[str, str]]:
        """(version, branch) of the branches of this entry that HEAD has not taken in."""
        prefix = f"{HEADS}{branch_of(name, '')}"
        found = os.fsdecode(git(self.folder, "for-each-ref", "--no-merged=HEAD", "--format=%(refname)", f"{prefix}*"))
        return [(ref.removeprefix(prefix), f"branch {ref.removeprefix(HEADS)}") for ref in found.splitlines()]

    def planned(self, name: str, version: str) -> str:
        """The branch, and what it stands on."""
        on = os.fsdecode(git_line(self.folder, "rev-parse", "--abbrev-ref", "HEAD") or b"HEAD")
        return f"branch {branch_of(name, version)} in {self.folder}, on {on}"

    def proposer(self) -> str | None:
        """Who is said to: the name in a commit is no account."""
        return self.by

    def write(self, base: Base, files: Mapping[str, bytes], name: str, version: str) -> Written:
        """One commit on the base, and the branch that names it.

        Raises:
            RaceError: the branch was made in between. UsageError: git fails, with what it says.
        """
        branch = branch_of(name, version)
        prefix = self._prefix()
        reach("publish-before-index")
        with tempfile.TemporaryDirectory() as place:
            index = {"GIT_INDEX_FILE": str(Path(place) / "index")}
            self._write("read-tree", base.version, env=index)
            lines = [
                b"100644 %s\t%s%s\0"
                % (self._write("hash-object", "-w", "--stdin", given=data), prefix, os.fsencode(path))
                for path, data in files.items()
            ]
            self._write("update-index", "-z", "--index-info", given=b"".join(lines), env=index)
            tree = self._write("write-tree", env=index).decode()
        commit = self._write("commit-tree", tree, "-p", base.version, "-m", title_of(name, version)).decode()
        reach("publish-before-ref")
        try:
            self._write("update-ref", "-m", "hubcli publish", HEADS + branch, commit, "0" * len(commit))
        except UsageError:
            if self._commit(branch) is None:
                raise
            raise RaceError(f"{self.folder}: the branch {branch} was made in between", hint="run it again") from None
        return self._written(branch, changed=True)

    def _refuse_unborn(self) -> None:
        """Stop at a branch that has no commit."""
        git(self.folder, "rev-parse", "--git-dir")
        head = git_line(self.folder, "symbolic-ref", "--quiet", "HEAD")
        if head and git_line(self.folder, "rev-parse", "--verify", "--quiet", "HEAD") is None:
            branch = os.fsdecode(head).removeprefix(HEADS)
            hint = self._command("commit", "--allow-empty", "-m", "An index of adapters")
            raise NotFoundError(f"the git checkout of {self.folder} has no commit yet on {branch}", hint=hint)

    def _refuse_branch(self, branch: str) -> None:
        """Stop at a name that git takes for no branch, or that a branch stands in the way of: a ref is a file or a folder."""
        if git_line(self.folder, "check-ref-format", HEADS + branch) is None:
            hint = "take another --version, or --index with a folder that no git checkout holds"
            raise UsageError(f"git takes no branch called {branch}", hint=hint)
        parts = branch.split("/")
        above = ["/".join(parts[:end]) for end in range(1, len(parts))]
        taken = next((one for one in above if self._is_there(one)), None)
        inside = git(self.folder, "for-each-ref", "--count=1", "--format=%(refname)", f"{HEADS}{branch}/")
        taken = taken or os.fsdecode(inside.strip()).removeprefix(HEADS)
        if taken:
            hint = self._command("branch", "-m", taken, f"set-aside-{taken}")
            message = f"{self.folder} has a branch {taken}, beside which git can't have a branch {branch}"
            raise UsageError(message, hint=hint)

    def _is_there(self, branch: str) -> bool:
        return git_line(self.folder, "show-ref", "--verify", "--quiet", HEADS + branch) is not None

    def _commit(self, branch: str) -> str | None:
        found = git_line(self.folder, "rev-parse", "--verify", "--quiet", f"{HEADS}{branch}^{{commit}}")
        return found.decode() if found else None

    def _written(self, branch: str, *, changed: bool) -> Written:
        remotes = os.fsdecode(git_line(self.folder, "remote") or b"").split()
        to = "origin" if "origin" in remotes or not remotes else remotes[0]
        return Written(branch=branch, next=self._command("push", to, branch), changed=changed)

    def _command(self, *arguments: str) -> str:
        """A command of git's for people."""
        return f"git -C {shlex.join([str(self.folder), *arguments])}"

    def _prefix(self) -> bytes:
        """Where in the checkout the folder lies, with a / at the end; names of folders need not be text."""
        return git(self.folder, "rev-parse", "--show-prefix").removesuffix(b"\n")

    def _write(self, *arguments: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        return git(self.folder, *arguments, given=given, env=env, doing="write to").removesuffix(b"\n")


def branch_of(name: str, version: str) -> str:
    """The branch of a release."""
    return f"publish/{name}-{version}"
