"""A thousand LoRAs on one random BERT-base: the memory they take, beside the bytes of their files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import ROOT, Result, Row, Spread
from benchmarks.models import PACKAGES, bert, forward, lora, peft_model, quiet, saved, tokens
from hubcli.adapted import adapt

COUNT, FILES, PEERS = 1000, 24, 20
FIGURES = {
    "registered": ("1,000 LoRAs registered, none used yet: private memory", 0.05, 0.01),
    "resident": ("1,000 LoRAs resident, each activated once: private memory", 1.1, 1.0),
    "mapped": ("the same, with the pages of their files that are mapped", None, None),
    "peft": (f"peft, {PEERS} LoRAs: private memory", None, None),
}


def run(rounds: int, seed: int) -> Result:
    """Measure in processes of their own; in few rounds, for memory varies little."""
    rounds = max(2, rounds // 8)
    result = Result("memory", rounds, seed, packages=PACKAGES)
    with tempfile.TemporaryDirectory() as folder, quiet():
        size = _files(Path(folder))
        seen = [_in_a_process(folder, "hubcli") | _in_a_process(folder, "peft") for _ in range(rounds)]
    for key, (what, bar, stretch) in FIGURES.items():
        each = [one[key] / size for one in seen]
        result.rows.append(Row(what, Spread.of(each), bar=bar, stretch=stretch, against="bytes of their files"))
    result.facts = {"bytes": size, "files": FILES}
    return result


def _files(folder: Path) -> int:
    """Adapters to load; the size of a file."""
    tuned = peft_model(bert(12), {"default": lora()})
    for number in range(FILES):
        with torch.no_grad():
            for key, parameter in tuned.named_parameters():
                if "lora_" in key:
                    parameter.normal_(std=0.02)
        saved(tuned, folder / f"n{number}")
    return (folder / "n0" / "adapter_model.safetensors").stat().st_size


def _in_a_process(folder: str, which: str) -> dict[str, float]:
    """With the allocator as it comes: what it gives back does not count."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", which, folder]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(folder: Path) -> dict[str, float]:
    """Bytes an adapter in hubcli: loaded, activated, and with mapped pages."""
    handle, ids = adapt(bert(12)), tokens(1, 4)
    names = [f"resident{number}" for number in range(COUNT)]
    handle.load(folder / "n0", "first")
    handle.activate("first")
    forward(handle.model, ids)()
    private, resident = _smaps("Anonymous"), _smaps("Rss")
    for number, name in enumerate(names):
        handle.load(folder / f"n{number % FILES}", name)
    registered = _smaps("Anonymous") - private
    for name in names:
        handle.activate(name)
    forward(handle.model, ids)()
    figures = {"registered": registered, "resident": _smaps("Anonymous") - private, "mapped": _smaps("Rss") - resident}
    return {key: value / COUNT for key, value in figures.items()}


def peers(folder: Path) -> dict[str, float]:
    """Bytes an adapter in peft."""
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(bert(12), str(folder / "n0"), adapter_name="first")
    forward(tuned, tokens(1, 4))()
    private = _smaps("Anonymous")
    for number in range(PEERS):
        tuned.load_adapter(str(folder / f"n{number % FILES}"), f"resident{number}")
    return {"peft": (_smaps("Anonymous") - private) / PEERS}


def _smaps(key: str) -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with quiet():
        print(json.dumps({"hubcli": ours, "peft": peers}[sys.argv[1]](Path(sys.argv[2]))))
