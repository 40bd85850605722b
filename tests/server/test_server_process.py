"""Whole processes: the server as a command would run it, `hf download`, and peft."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from hubcli.errors import MissingExtraError, NetworkError, NotFoundError
from hubcli.server import create_app, serve
from tests.server.served import FIRST, SECOND, TOKEN, Served, ask, read_tree, write_tree
from tests.support.hub_server import LiveHub, client_environment

SERVE = """
import sys
from pathlib import Path
from hubcli.server import serve
serve(Path(sys.argv[1]), port=0, token=sys.argv[2], ready=lambda url: print(url, flush=True))
"""


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_serving_a_plain_folder_until_a_signal(tmp_path: Path) -> None:
    write_tree(tmp_path / "hub/acme/demo", FIRST)
    write_tree(tmp_path / "hub/acme", {"stray\x1b[31m.txt": b"x"})
    command = [sys.executable, "-c", SERVE, str(tmp_path / "hub"), TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert (
            ask(url, "GET", "/acme/demo/resolve/main/README.md", Authorization=f"Bearer {TOKEN}").body
            == FIRST["README.md"]
        )
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert "stray\\x1b[31m.txt" in errors and TOKEN not in errors and "Traceback" not in errors


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NetworkError, match="can't listen") as caught:
        serve(tmp_path, port=taken.getsockname()[1])
    assert "--port" in str(caught.value.hint)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        create_app(tmp_path / "none")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name == missing else ModuleSpec(name, None)

    monkeypatch.setattr("hubcli.server.find_spec", find)
    for start in (lambda: create_app(tmp_path), lambda: serve(tmp_path, port=0)):
        with pytest.raises(MissingExtraError, match=missing) as caught:
            start()
        assert caught.value.hint == "pip install 'hubcli[server]'"


def test_importing_needs_no_extra() -> None:
    script = "import sys; sys.modules.update(starlette=None, uvicorn=None)\nimport hubcli.server; print(hubcli.server.import_folder.__name__)"
    done = run([sys.executable, "-c", script], dict(os.environ))
    assert (done.stdout.strip(), done.returncode) == ("import_folder", 0), done.stderr


@pytest.mark.slow
def test_hf_download(live: Served, tmp_path: Path) -> None:
    hf = str(Path(sys.executable).with_name("hf"))
    for repo, token, state in [("acme/demo", None, SECOND), ("acme/secret", TOKEN, FIRST)]:
        environment = client_environment(live.hub, tmp_path / repo, token=token)
        done = run([hf, "download", repo, "--local-dir", str(tmp_path / repo / "out")], environment)
        assert done.returncode == 0, done.stderr
        found = read_tree(tmp_path / repo / "out")
        assert {name: content for name, content in found.items() if not name.startswith(".cache")} == state
    refused = run([hf, "download", "acme/secret"], client_environment(live.hub, tmp_path / "refused"))
    assert refused.returncode == 1 and "'acme/secret' not found" in refused.stderr


LOAD = """
import sys, torch
from transformers import AutoModelForSequenceClassification
from peft import PeftModel
base = AutoModelForSequenceClassification.from_pretrained("acme/base", revision="v1")
model = PeftModel.from_pretrained(base, "acme/lora", revision=sys.argv[1]).eval()
with torch.no_grad():
    torch.save(model(input_ids=torch.arange(12).reshape(2, 6)).logits, sys.argv[2])
"""


@pytest.mark.slow
def test_peft_loads_base_and_adapter_from_the_hub(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    base = BertForSequenceClassification(BertConfig(vocab_size=50, **size))
    base.save_pretrained(tmp_path / "base")
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2, init_lora_weights=False)
    model = get_peft_model(base, config).eval()
    model.save_pretrained(tmp_path / "lora")
    with torch.no_grad():
        expected = model(input_ids=torch.arange(12).reshape(2, 6)).logits
    with LiveHub(tmp_path / "hub") as hub:
        hub.import_folder("acme/base", tmp_path / "base", tag="v1")
        commit = hub.import_folder("acme/lora", tmp_path / "lora")
        environment = client_environment(hub, tmp_path / "home")
        done = run([sys.executable, "-c", LOAD, commit, str(tmp_path / "logits.pt")], environment)
    assert done.returncode == 0, done.stderr
    assert hub.seen("GET", f"/acme/lora/resolve/{commit}/") and hub.seen("GET", "/acme/base/resolve/")
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
