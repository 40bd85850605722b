"""Broken and hostile plugins: found by name, loaded in a guard, the rest works (the seven ways other tools fall over)."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from hubcli.api import plugins_doctor
from hubcli.errors import MethodNotFoundError, PluginError
from hubcli.plugins import Plugins

GOOD = """
from hubcli.hookspecs import hookimpl
HUBCLI_API = 1
@hookimpl
def hubcli_register_methods(register):
    register("NAME", {"type": "object"}, load="json:JSONDecoder")
"""
BROKEN = {
    "import error": ("import a_module_that_is_not_there", "import", "ModuleNotFoundError"),
    "exits": ("raise SystemExit(3)", "import", "SystemExit: 3"),
    "no api": (GOOD.replace("HUBCLI_API = 1", ""), "api", "does not state HUBCLI_API"),
    "newer api": (GOOD.replace("HUBCLI_API = 1", "HUBCLI_API = 2"), "api", "API 2, this hubcli has 1: upgrade hubcli"),
    "wrong argument": (GOOD.replace("(register)", "(register, nosuch)"), "register", "nosuch"),
    "unknown hook": (
        GOOD + "@hookimpl\ndef hubcli_register_method(register): ...\n",
        "register",
        "hubcli_register_method",
    ),
    "other name": (GOOD.replace('"NAME"', '"other"'), "register", "registers ['other'], not"),
    "raises": (GOOD + "    raise ValueError('boom')\n", "register", "boom"),
    "no schema": (GOOD.replace('{"type": "object"}', "None"), "register", "expected config_schema"),
    "registers twice": (GOOD + "    register('NAME', {}, load='a:b')\n", "register", "registered twice"),
}


def make_plugin(folder: Path, name: str, code: str, distribution: str = "acme-plugin") -> None:
    module = f"{distribution.replace('-', '_')}_{name.replace('-', '_')}"
    info = folder / f"{distribution.replace('-', '_')}-0.2.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    with (info / "entry_points.txt").open("a") as file:
        file.write(f"[console_scripts]\nx = y:z\n[hubcli.plugins]\n{name} = {module}\n")
    (folder / f"{module}.py").write_text(code.replace("NAME", name))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_scan_agrees_with_importlib_metadata() -> None:
    oracle = {(e.name, e.value.split(":")[0]) for e in entry_points(group="hubcli.plugins")}
    assert {(p.name, p.module) for p in Plugins().found.values()} == oracle


def test_a_good_plugin_registers(site: Path) -> None:
    make_plugin(site, "demo", GOOD)
    plugins = Plugins([str(site)])
    assert plugins.method("demo").config_schema == {"type": "object"}
    assert plugins.method("demo").plugin.version == "0.2"
    assert plugins.method_class("demo").__name__ == "JSONDecoder"
    assert plugins.failures == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_a_record_and_the_rest_works(site: Path, case: str) -> None:
    code, phase, cause = BROKEN[case]
    make_plugin(site, "bad" + str(list(BROKEN).index(case)), code)
    make_plugin(site, "good" + str(list(BROKEN).index(case)), GOOD, "fine-plugin")
    plugins = Plugins([str(site)])
    bad, good = (kind + str(list(BROKEN).index(case)) for kind in ("bad", "good"))
    with pytest.raises(PluginError) as caught:
        plugins.method(bad)
    assert "acme-plugin 0.2" in caught.value.message
    assert plugins.method(good).name == good
    (failure,) = plugins.failures
    assert failure.phase == phase
    assert cause in failure.cause
    assert "plugins doctor" in failure.hint
    with pytest.raises(PluginError):
        plugins.method(bad)
    assert len(plugins.failures) == 1, "reported once"


def test_first_party_wins_a_name_and_the_other_is_reported(tmp_path: Path) -> None:
    make_plugin(tmp_path / "a", "lora", GOOD, "aaa-lora")
    make_plugin(tmp_path / "b", "lora", GOOD, "hubcli")
    plugins = Plugins([str(tmp_path / "a"), str(tmp_path / "b")])
    assert plugins.found["lora"].distribution == "hubcli"
    assert "hubcli already provides 'lora'" in plugins.failures[0].cause


def test_doctor_reads_a_plugin_that_writes_bytes_and_waits_for_input(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "import sys; sys.__stdout__.buffer.write(bytes([255, 10])); sys.stdin.read()\n"
    make_plugin(site, "noisy", noise + GOOD, "noisy-plugin")
    monkeypatch.setattr("hubcli.api.plugin_checks.plugins", lambda: Plugins([str(site)]))
    (row,) = plugins_doctor("noisy", timeout=30)["plugins"]
    assert row["ok"], row


def test_disabled_is_not_imported(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_plugin(site, "loud", "raise SystemExit(3)")
    monkeypatch.setenv("HUBCLI_DISABLE_PLUGINS", "loud")
    with pytest.raises(MethodNotFoundError, match="no plugin provides") as caught:
        Plugins([str(site)]).method("loud")
    assert "HUBCLI_DISABLE_PLUGINS" in (caught.value.hint or "")


def test_unknown_method_suggests(site: Path) -> None:
    make_plugin(site, "prefix", GOOD)
    with pytest.raises(MethodNotFoundError) as caught:
        Plugins([str(site)]).method("prefx")
    assert caught.value.hint == "did you mean 'prefix'?"


def test_a_hook_that_raises_or_prints_stays_inside(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "from hubcli.hookspecs import hookimpl\nHUBCLI_API = 1\n@hookimpl\ndef hubcli_find_base_model(model_id):\n    "
    )
    make_plugin(site, "base-a", code + "raise RuntimeError('boom')", "a")
    make_plugin(site, "base-aa", code + "return True", "aa")
    make_plugin(site, "base-b", code + "print('noise'); return '/x/' + model_id", "b")
    plugins = Plugins([str(site)])
    assert plugins.find_base_model("m", None) == Path("/x/m")
    assert capsys.readouterr().out == "", "what a plugin prints does not reach stdout"
    boom, no_path = plugins.failures
    assert "RuntimeError: boom" in boom.cause
    assert "TypeError" in no_path.cause


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list"], ["verify"], ["search", "sentiment"]])
def test_the_command_line_survives_every_broken_plugin(tmp_path: Path, arguments: list[str]) -> None:
    for number, (code, _, _) in enumerate(BROKEN.values()):
        make_plugin(tmp_path, f"broken{number}", code, f"dist-{number}")
    make_plugin(tmp_path, "cli-list", "raise SystemExit(3)", "shadow")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from hubcli.__main__ import main; main()", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_claim_by_more_keys_comes_first(site: Path) -> None:
    claiming = GOOD.replace('load="json:JSONDecoder"', 'load="json:JSONDecoder", claims={"far": CLAIM}')
    claims = {
        "aaa": "'kind'",
        "bbb": "{'type': 'kind', 'mode': 'scale'}",
        "ccc": "{'type': 'kind', 'mode': 'scale', 'r': 1}",
    }
    for name, claim in claims.items():
        make_plugin(site, name, claiming.replace("CLAIM", claim), f"acme-{name}")
    found = Plugins()
    for config, method in (
        ({"type": "kind"}, "aaa"),
        ({"type": "kind", "mode": "add"}, "aaa"),
        ({"type": "kind", "mode": "scale"}, "bbb"),
        ({"type": "kind", "mode": "scale", "r": 1}, "ccc"),
    ):
        info = found.method_claiming("far", "kind", config)
        assert info is not None and info.name == method
    assert found.method_claiming("far", "other", {"type": "other"}) is None
    assert found.method_claiming("farther", "kind", {}) is None
