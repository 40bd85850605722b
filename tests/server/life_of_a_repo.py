"""A process of its own: everything that a person does with a repo, with the real client; prints what each step gave.

`python life_of_a_repo.py WORK REPO READ_TOKEN`; endpoint and token come from the environment, as a person has them.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

Add, Copy, Delete = CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
CARD = "---\nlicense: mit\nlibrary_name: peft\nbase_model: acme/tiny\ntags:\n- {tag}\n---\n# demo\n"


class Life:
    """The steps, in order; `given` is what each gave."""

    def __init__(self, work: Path, repo: str, read_token: str):
        self.work, self.repo, self.name = work, repo, repo.partition("/")[2]
        self.api, self.reader, self.stranger = HfApi(), HfApi(token=read_token), HfApi(token="nobody")
        self.given: dict[str, Any] = {}
        self.weights = random.Random(0).randbytes(600_000)

    def run(self) -> None:
        for step in (
            self.whole,
            self.commits,
            self.refs,
            self.pulls,
            self.reading,
            self.changes,
            self.errors,
            self.end,
        ):
            step()

    def error(self, call: Callable[[], Any]) -> list[Any]:
        try:
            call()
        except HfHubHTTPError as error:
            return [type(error).__name__, error.response.status_code]
        return ["no error"]

    def kind(self, call: Callable[[], Any]) -> str:
        return str(self.error(call)[0])

    def text(self, path: str, revision: str = "main") -> str:
        return Path(self.api.hf_hub_download(self.repo, path, revision=revision)).read_text()

    def head(self, revision: str = "main") -> str:
        return str(self.api.model_info(self.repo, revision=revision).sha)

    def files(self, revision: str = "main") -> list[str]:
        return sorted(set(self.api.list_repo_files(self.repo, revision=revision)) - {".gitattributes"})

    def add(self, path: str, text: str, **options: Any) -> Any:
        operation = Add(path, text.encode())
        return self.api.create_commit(self.repo, [operation], **{"commit_message": f"add {path}", **options})

    def whole(self) -> None:
        me = self.api.whoami()
        self.given["1 whoami"] = [me["name"], me["auth"]["accessToken"]["role"], isinstance(me["orgs"], list)]
        self.given["2 create"] = self.api.create_repo(self.repo).repo_id
        self.given["3 create again"] = self.error(lambda: self.api.create_repo(self.repo))
        self.given["4 create again, exist_ok"] = self.api.create_repo(self.repo, exist_ok=True).repo_id
        private = f"{self.repo}-private"
        self.api.create_repo(private, repo_type="dataset", private=True)
        self.given["5 create private"] = [
            self.api.dataset_info(private).private,
            self.kind(lambda: self.stranger.dataset_info(private)),
        ]

    def commits(self) -> None:
        card = CARD.format(tag=self.name).encode()
        done = self.api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=self.repo)
        assert done.oid == self.head()
        self.given["6 upload a file"] = self.api.model_info(self.repo).card_data.tags[0]
        folder = self.work / "folder/a"
        folder.mkdir(parents=True)
        (folder / "one.txt").write_text("one")
        (folder / "two.txt").write_text("two")
        push = {"repo_id": self.repo, "folder_path": folder.parent}
        self.api.upload_folder(**push)
        self.given["7 upload a folder"] = [path for path in self.files() if path.startswith("a/")]
        before = self.head()
        self.given["8 the same folder again"] = (
            "no new commit" if self.api.upload_folder(**push).oid == before == self.head() else "a commit"
        )
        operations = [
            Add("adapter_model.safetensors", self.weights),
            Copy("a/two.txt", "a/copy.txt"),
            Delete("a/two.txt"),
        ]
        self.api.create_commit(self.repo, operations, commit_message="three at once")
        self.given["9 add, delete and copy in one commit"] = [self.files(), self.text("a/copy.txt")]
        self.large()
        self.add("b.txt", "somebody else's")
        try:
            self.add("c.txt", "mine", parent_commit=before)
        except HfHubHTTPError as error:
            moved = [
                type(error).__name__,
                error.response.status_code,
                before in str(error) and self.head() in str(error),
            ]
        self.given["11 a parent that has moved"] = moved
        self.given["12 the right parent"] = self.add("c.txt", "mine", parent_commit=self.head()).oid == self.head()

    def large(self) -> None:
        from huggingface_hub.utils._runtime import is_xet_available

        large, before = random.Random(1).randbytes(1_500_000), self.head()
        push = {"path_or_fileobj": large, "path_in_repo": "large.bin", "repo_id": self.repo}
        if is_xet_available():
            with contextlib.suppress(Exception):
                self.api.upload_file(**push)
                raise SystemExit("Xet took a file that this hub has no Xet for")
            self.given["10 a large file by LFS"] = ["refused", "nothing committed" if self.head() == before else "half"]
            return
        self.api.upload_file(**push)
        path = self.api.hf_hub_download(self.repo, "large.bin")
        (info,) = self.api.get_paths_info(self.repo, ["large.bin"])
        self.given["10 a large file by LFS"] = [
            "same bytes" if Path(path).read_bytes() == large else "other bytes",
            "kept by LFS" if info.lfs and info.lfs.size == len(large) else "kept as a regular file",
        ]

    def refs(self) -> None:
        first = self.api.list_repo_commits(self.repo)[-1].commit_id
        self.api.create_branch(self.repo, branch="dev", revision=first)
        self.api.create_branch(self.repo, branch="dev", exist_ok=True)
        error = self.error(lambda: self.api.create_branch(self.repo, branch="dev"))
        self.given["13 branch"] = ["dev", *error, "exist_ok passes"]
        self.given["14 branch of nothing"] = self.error(
            lambda: self.api.create_branch(self.repo, branch="x", revision="nope")
        )
        self.add("only-here.txt", "dev", revision="dev")
        self.given["15 commit on a branch"] = ["only-here.txt" in self.files("dev"), "only-here.txt" in self.files()]
        self.api.create_tag(self.repo, tag="v1", tag_message="the first")
        self.api.create_tag(self.repo, tag="v1", exist_ok=True)
        self.tagged = self.head()
        self.given["16 tag"] = ["v1", *self.error(lambda: self.api.create_tag(self.repo, tag="v1")), "exist_ok passes"]
        refs = self.api.list_repo_refs(self.repo, include_pull_requests=True)
        named = [sorted(ref.name for ref in kind) for kind in (refs.branches, refs.tags, refs.pull_requests or [])]
        self.given["17 refs"] = named

    def pulls(self) -> None:
        done = self.add("pr.txt", "in a pull request", create_pr=True, commit_description="why")
        self.given["18 a pull request by create_pr"] = [done.pr_revision, done.pr_num, "pr.txt" in self.files()]
        talk = self.api.create_discussion(self.repo, title="old title", description="a question")
        draft = self.api.create_pull_request(self.repo, title="later")
        assert (talk.num, talk.is_pull_request, draft.status) == (2, False, "draft")
        details = self.api.get_discussion_details(self.repo, 1)
        self.given["20 details"] = [
            details.status,
            details.is_pull_request,
            details.target_branch,
            [event.type for event in details.events],
            details.conflicting_files,
            details.merge_commit_oid,
        ]
        comment = self.api.comment_discussion(self.repo, 2, "a comment")
        renamed = self.api.rename_discussion(self.repo, 2, "new title")
        closed = self.api.change_discussion_status(self.repo, 2, "closed", comment="enough")
        opened = self.api.change_discussion_status(self.repo, 2, "open")
        self.given["21 comment, rename, close, reopen"] = [
            comment.content,
            [renamed.old_title, renamed.new_title],
            closed.new_status,
            opened.new_status,
        ]
        more = self.add("more.txt", "more", revision="refs/pr/1")
        refs = self.api.list_repo_refs(self.repo, include_pull_requests=True).pull_requests or []
        at = {ref.ref: ref.target_commit for ref in refs}
        self.given["22 commit onto the pull request"] = [
            at["refs/pr/1"] == more.oid,
            "more.txt" in self.files("refs/pr/1"),
        ]
        self.pull = more.oid
        self.api.merge_pull_request(self.repo, 1, comment="thanks")
        merged = self.api.get_discussion_details(self.repo, 1)
        self.given["23 merge"] = [merged.status, merged.merge_commit_oid == self.head(), self.text("pr.txt")]
        self.given["24 merge again"] = self.error(lambda: self.api.merge_pull_request(self.repo, 1))
        self.given["19 discussions"] = self.listed()

    def listed(self) -> list[list[int]]:
        asked: list[dict[str, Any]] = [
            {},
            {"discussion_type": "pull_request"},
            {"discussion_type": "discussion"},
            {"discussion_status": "open"},
            {"discussion_status": "closed"},
            {"author": "nobody"},
        ]
        return [[one.num for one in self.api.get_repo_discussions(self.repo, **how)] for how in asked]

    def reading(self) -> None:
        tagged, commit = (self.text("c.txt", revision) for revision in ("v1", self.tagged))
        pull = self.text("more.txt", "refs/pr/1") == "more" and self.head("refs/pr/1") == self.pull
        self.given["25 download at tag, commit and pull request"] = [tagged == "mine", commit == "mine", pull]
        folder = Path(self.api.snapshot_download(self.repo, revision="v1"))
        here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        whole = (folder / "adapter_model.safetensors").read_bytes() == self.weights
        self.given["26 snapshot"] = whole and here == {*self.files("v1"), ".gitattributes"}
        tree = [item.path for item in self.api.list_repo_tree(self.repo, recursive=True) if item.path.startswith("a")]
        infos = self.api.get_paths_info(self.repo, ["README.md", "nope"])
        (weights,) = self.api.get_paths_info(self.repo, ["adapter_model.safetensors"])
        self.given["27 tree and paths"] = [
            [path for path in tree if path in ("a", "a/one.txt")],
            [info.path for info in infos],
            weights.lfs is not None and weights.size == len(self.weights),
        ]
        found = [[one.id for one in self.api.list_models(filter=tag)] for tag in (self.name, "no-such-tag")]
        self.given["28 list with a filter"] = found

    def changes(self) -> None:
        self.api.update_repo_settings(self.repo, private=True, gated="manual")
        closed = self.api.model_info(self.repo)
        seen = self.kind(lambda: self.stranger.model_info(self.repo))
        self.api.update_repo_settings(self.repo, private=False, gated=False)
        self.given["29 settings"] = [closed.private, closed.gated, seen, self.stranger.model_info(self.repo).private]
        self.api.create_repo(f"{self.repo}-taken")
        moved = f"{self.repo}-moved"
        self.api.move_repo(self.repo, moved)
        old = self.api.model_info(self.repo).id
        taken = self.error(lambda: self.api.move_repo(moved, f"{self.repo}-taken"))
        self.given["30 move"] = [self.api.model_info(moved).id, old, *taken]
        self.api.delete_repo(f"{self.repo}-taken")
        self.repo = moved
        self.api.delete_file("b.txt", self.repo)
        self.api.delete_folder("a", self.repo)
        left = self.files()
        self.given["31 delete a file and a folder"] = [
            "b.txt" in left,
            any(path.startswith("a/") for path in left),
            *self.error(lambda: self.api.delete_file("b.txt", self.repo)),
        ]
        self.without_refs()

    def without_refs(self) -> None:
        self.api.delete_tag(self.repo, tag="v1")
        self.api.delete_branch(self.repo, branch="dev")
        refs = self.api.list_repo_refs(self.repo)
        self.given["32 delete the tag and the branch"] = [
            [ref.name for ref in refs.tags],
            [ref.name for ref in refs.branches],
            self.kind(lambda: self.api.delete_tag(self.repo, tag="v1")),
            self.kind(lambda: self.api.delete_branch(self.repo, branch="dev")),
            self.error(lambda: self.api.delete_branch(self.repo, branch="main"))[1],
        ]

    def errors(self) -> None:
        def push(api: HfApi, content: bytes = b"x", path: str = "x.txt", **where: Any) -> Callable[[], Any]:
            given = {"path_or_fileobj": content, "path_in_repo": path, "repo_id": self.repo, **where}
            return lambda: api.upload_file(**given)

        self.given["errors: a wrong token"] = self.error(push(self.stranger))
        self.given["errors: no right"] = self.error(push(self.reader))
        self.given["errors: an unknown repo"] = self.error(push(self.api, repo_id="acme/nope"))
        self.given["errors: an unknown revision"] = self.error(push(self.api, revision="nope"))
        self.given["errors: super squash"] = self.error(lambda: self.api.super_squash_history(self.repo))
        before = self.head()
        try:
            push(self.api, bytes(4_000_001), "huge.bin")()
        except HfHubHTTPError as error:
            numbers = "4000001" in str(error) and "4000000" in str(error) and self.head() == before
            self.given["errors: a file too large"] = [type(error).__name__, error.response.status_code, numbers]
        try:
            push(self.api, b"---\ntags: {a: 1}\n---\n", "README.md")()
        except ValueError as error:
            self.given["errors: bad metadata"] = [type(error).__name__, "tags" in str(error)]

    def end(self) -> None:
        self.api.delete_repo(self.repo)
        gone = self.error(lambda: self.api.delete_repo(self.repo))
        self.api.delete_repo(self.repo, missing_ok=True)
        self.given["33 delete the repo"] = [*gone, "missing_ok passes"]
        assert not self.api.repo_exists(self.repo)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    life = Life(Path(sys.argv[1]), *sys.argv[2:])
    with contextlib.redirect_stdout(sys.stderr):
        life.run()
    print(json.dumps(life.given))
