"""What reaches a terminal, what works without a network, and what plugins can break (rows 7, 53, 56)."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hubcli.plugins
from hubcli import api
from hubcli.cli.table import COMMANDS
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli as command_line
from tests.support.hostile_server import Hostile, Request, Send, reply
from tests.threats.conftest import REPO
from tests.threats.doors import Door, Outcome, is_plain, threat
from tests.threats.payloads import FILES

Refused = Callable[..., Outcome]
LOUD = "\x1b[31m\x07\u202eloud\x9b"

# Row 7


@pytest.fixture
def loud(index: IndexFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Escape sequences in every text from outside: entries, names of files, a plugin's error, a hub's answers."""
    index.add("acme/demo", files=FILES)
    document = index.add("acme/loud")
    document["description"] = LOUD
    document["releases"][0]["yanked"] = {"reason": LOUD, "date": "2026-02-02T00:00:00Z"}
    index.write("acme/loud", document)
    (index.folder / "acme" / f"{LOUD}.json").write_text("{}")
    folder = Path(api.install("acme/demo")["installed"][0]["path"])
    (folder / f"{LOUD}.md").write_text("more")
    make_plugin(tmp_path / "site", "noisy", f"raise ValueError({LOUD!r})", "acme-noisy")
    index.add("acme/noisy", method="noisy")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    hubcli.plugins.plugins.cache_clear()

    def answer(request: Request, send: Send) -> None:
        body = json.dumps({"sha": LOUD, "siblings": [{"rfilename": LOUD}]}).encode()
        send(reply(200, body, X_Error_Message="\x1b[31m", ETag='"\x1b[31m"'))

    with Hostile(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield index.folder


SAYING: dict[str, tuple[str, ...]] = {
    "install": ("install", "acme/loud"),
    "install an odd name": ("install", f"acme/{LOUD}"),
    "install from the hub": ("install", "hf:acme/demo"),
    "install with a plugin": ("install", "acme/noisy"),
    "info": ("info", "acme/loud"),
    "search": ("search", "loud"),
    "verify": ("verify",),
    "list": ("list",),
    "index check": ("index check", "INDEX"),
    "index update": ("index update",),
    "plugins info": ("plugins info", "noisy"),
    "uninstall": ("uninstall", f"acme/{LOUD}"),
    "run": ("run", f"acme/{LOUD}"),
}


@threat(7, SAYING)
def test_escape_sequences_never_reach_a_terminal(door: Door, case: tuple[str, ...], loud: Path) -> None:
    command, *arguments = (str(loud) if word == "INDEX" else word for word in case)
    texts = [door(command, *arguments, **({"texts": ["x"]} if command == "run" and door.name == "python" else {})).text]
    if door.name == "cli":
        answer = command_line(*command.split(), *arguments)
        texts += [answer.out, answer.err]
    for text in texts:
        assert is_plain(text), ascii(text)


# Row 53

SWITCHES = ("--offline", "HUBCLI_OFFLINE", "HF_HUB_OFFLINE")
WORKS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "install": (("acme/here",), {}),
    "uninstall": (("acme/demo",), {}),
    "list": ((), {}),
    "info": (("acme/here",), {}),
    "search": (("demo",), {}),
    "outdated": ((), {}),
    "upgrade": ((), {}),
    "verify": ((), {}),
    "lock": ((), {}),
    "sync": ((), {}),
    "index list": ((), {}),
    "index add": (("more", "https://index.example"), {}),
    "index remove": (("far",), {}),
    "index check": (("INDEX",), {}),
    "index build": (("INDEX", "site"), {}),
    "yank": (("acme/here@1.0.0",), {"reason": "wrong labels", "index": "acme"}),
    "deprecate": (("acme/here",), {"reason": "old", "index": "acme"}),
    "mirror": (("mirrored", "acme/here"), {}),
    "plugins list": ((), {}),
    "plugins info": (("lora",), {}),
    "cache dir": ((), {}),
    "cache size": ((), {}),
    "cache prune": ((), {}),
}
STOPS: dict[str, tuple[str, ...]] = {
    "install by name": ("install", "acme/remote"),
    "install an unknown name": ("install", "acme/nosuch"),
    "install from an index": ("install", "far:acme/demo"),
    "install from the hub": ("install", "hf:acme/demo"),
    "info of the hub": ("info", "hf:acme/demo"),
    "index update": ("index update", "far"),
    "run": ("run", "acme/remote"),
    "fuse": ("fuse", "acme/remote"),
    "merge": ("merge", "acme/remote"),
    "convert": ("convert", "acme/remote"),
    "export": ("export", "acme/remote"),
    "eval": ("eval", "acme/remote"),
    "train": ("train", "recipe.toml"),
    "mirror": ("mirror", "mirrored", "acme/remote"),
    "verify with repair": ("verify",),
    "publish": ("publish", "."),
}
WRITTEN = {"fuse": {}, "merge": {}, "convert": {"to": "hubcli"}, "export": {"to": "pt2"}}
# a server of this machine; a script; every other command's state; a `train` each
NEITHER = {"hub", "completion", "doctor", "compare"}
RECIPE = """v = 1
task = "SEQ_CLS"
base = { id = "acme/nowhere" }
method = { name = "bitfit" }
data = { train = "rows.csv", test = "rows.csv", validation = "rows.csv" }
"""


@pytest.fixture
def blocked(index: IndexFolder, monkeypatch: pytest.MonkeyPatch) -> IndexFolder:
    """Something installed and locked, an index that was never fetched, and no socket at all."""
    index.add("acme/demo", hub=REPO)
    index.add("acme/here")
    kept = set((index.folder / "_files").iterdir())
    index.add("acme/remote", hub=REPO)
    for blob in set((index.folder / "_files").iterdir()) - kept:
        blob.unlink()
    api.install("acme/demo")
    Path("adapters.toml").write_text('[adapters]\n"acme/demo" = "^1.0"\n')
    api.lock()
    api.index_add("far", "https://index.example", unseen=True)

    def no_network(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    return index


def offline(door: Door, switch: str, command: str, arguments: tuple[str, ...], **options: Any) -> Outcome:
    """The call with the network switched off by one switch."""
    given = door.name == "cli" or command in OFFLINE_OPTION
    with pytest.MonkeyPatch.context() as patch:
        if switch != "--offline":
            patch.setenv(switch, "1")
        elif given:
            options["offline"] = True
        return door(command, *arguments, **options)


OFFLINE_OPTION = (
    "install", "info", "search", "outdated", "upgrade", "verify", "lock", "sync", "run", "index list", "index update", "index add",
    "fuse", "merge", "convert", "export", "eval", "train", "publish", "yank", "deprecate",
    "mirror",
)  # fmt: skip


@threat(53, {f"{command}, {switch}": (command, switch) for command, switch in itertools.product(WORKS, SWITCHES)})
def test_what_works_without_a_network(door: Door, case: tuple[str, str], blocked: IndexFolder) -> None:
    command, switch = case
    arguments, options = WORKS[command]
    arguments = tuple(str(blocked.folder) if a == "INDEX" else a for a in arguments)
    if command == "index build":
        arguments, options = arguments[:1], {"out": arguments[1]}
    outcome = offline(door, switch, command, arguments, **options)
    assert (outcome.id, outcome.code) == (None, 0), outcome.text


@threat(53, {f"{what}, {switch}": (what, switch) for what, switch in itertools.product(STOPS, SWITCHES)})
def test_what_names_the_switch(door: Door, case: tuple[str, str], blocked: IndexFolder, home: Path) -> None:
    what, switch = case
    command, *arguments = STOPS[what]
    options: dict[str, Any] = {}
    if what == "run":
        options = {"texts": ["x"]} if door.name == "python" else {}
        arguments += ["x"] if door.name == "cli" else []
    if what in ("eval", "train"):
        Path("rows.csv").write_text("text,label\na,positive\nb,negative\n")
        Path("recipe.toml").write_text(RECIPE)
        options = {"data": "rows.csv"} if what == "eval" else {"out": str(home / "run")}
    if what == "publish":
        options = {"repo": "acme/demo", "name": "acme/more", "version": "1.0.0", "no_index": True}
    if what in WRITTEN:
        options = {"out": str(home / "made"), **WRITTEN[what]}
    if what == "verify with repair":
        (Path(api.list()["adapters"][0]["path"]) / "README.md").unlink()
        forget(blocked, home)
        options = {"repair": True}
    outcome = offline(door, switch, command, tuple(arguments), **options)
    assert (outcome.id, outcome.code) == ("E_OFFLINE", 7), outcome.text
    assert switch in outcome.text


def forget(index: IndexFolder, home: Path) -> None:
    """Take away what the store could repair from: only the hub has the files now."""
    for blob in (*(index.folder / "_files").iterdir(), *(home / "store/v1/blobs").glob("??/*")):
        blob.unlink()


@threat(53)
def test_no_command_is_left_out(door: Door) -> None:
    told = {command.split()[0] for command in [*WORKS, *(words[0] for words in STOPS.values())]}
    assert told | NEITHER == set(COMMANDS)


# Row 56

HEAD = "from hubcli.hookspecs import hookimpl\nHUBCLI_API = 1\n"
METHOD = HEAD + "@hookimpl\ndef hubcli_register_methods(register):\n    "
REGISTER = "register('bad', {'type': 'object'}, load='json:JSONDecoder')\n"
BROKEN = {
    "import error": "import a_module_that_is_not_there",
    "exits": "raise SystemExit(3)",
    "another API": METHOD.replace("API = 1", "API = 2") + REGISTER,
    "wrong signature": METHOD.replace("(register)", "(register, nosuch)") + REGISTER,
    "exception in the hook": METHOD + "raise ValueError('boom')\n",
    "exits in the hook": METHOD + "raise SystemExit(3)\n",
    "prints and fails": "print('{')\n" + METHOD + "print('noise'); raise ValueError('boom')\n",
}
numbers = itertools.count()


def make_plugin(site: Path, name: str, code: str, distribution: str) -> None:
    """A package that declares one plugin; its module has a name that no other test has."""
    module = f"plugin_{next(numbers)}"
    info = site / f"{distribution.replace('-', '_')}-0.2.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(f"[hubcli.plugins]\n{name} = {module}\n")
    (site / f"{module}.py").write_text(code)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path for packages of plugins."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


@threat(56, BROKEN)
def test_a_method_that_does_not_load(
    door: Door, case: str, index: IndexFolder, site: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_plugin(site, "bad", case, "acme-bad")
    index.add("acme/demo")
    index.add("acme/bad", method="bad")
    outcome = door.install("acme/bad")
    assert (outcome.id, outcome.code) == ("E_PLUGIN", 1), outcome.text
    assert "acme-bad 0.2" in outcome.text and "plugins doctor" in outcome.text
    for command, arguments in (("list", ()), ("search", ("demo",)), ("install", ("acme/demo",)), ("verify", ())):
        assert door(command, *arguments).code == 0
    assert "noise" not in capfd.readouterr().out


EVENTS = {
    "raises": "raise ValueError('boom')",
    "exits": "raise SystemExit(3)",
    "prints": "print('noise')",
}


@threat(56, EVENTS)
def test_an_event_that_fails(door: Door, case: str, index: IndexFolder, site: Path) -> None:
    make_plugin(site, "event-bad", HEAD + f"@hookimpl\ndef hubcli_after_install(installed):\n    {case}\n", "acme-bad")
    index.add("acme/demo")
    outcome = door.install("acme/demo")
    assert outcome.code == 0 and outcome.document["installed"][0]["changed"]
    if "raise" in case:
        assert [failure.phase for failure in hubcli.plugins.plugins().failures] == ["hubcli_after_install"]
        assert door.name == "python" or "warning: plugin event-bad (acme-bad 0.2)" in outcome.text


@threat(56, ["lora", "cli-list"])
def test_a_plugin_that_takes_a_name_of_ours(door: Door, case: str, index: IndexFolder, site: Path) -> None:
    make_plugin(site, case, "raise SystemExit(3)", "aaa-shadow")
    index.add("acme/demo")
    assert door.install("acme/demo").code == 0
    assert [row["name"] for row in door("list").document["adapters"]] == ["acme/demo"]


@threat(56)
def test_a_plugin_that_never_ends(door: Door, site: Path) -> None:
    make_plugin(site, "slow", "import threading; threading.Event().wait(60)", "acme-slow")
    document = door("list").document
    assert document["adapters"] == [], "what is not needed is not loaded"
    (row,) = door("plugins doctor", "slow", timeout=1).document["plugins"]
    assert not row["ok"] and "still loading" in row["cause"]
