"""Stands in for `hubcli train` where a test is about what is around it: writes the run folder of a training that never was.

python fake_train.py RECIPE FOLDER [--resume] MODE
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tomllib
from pathlib import Path

recipe_file, folder, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[-1]
recipe = tomllib.loads(recipe_file.read_text())
method, seed = recipe["method"]["name"], recipe["seed"]
data = Path(recipe["data"]["train"][0])
if mode == f"fail:{method}-{seed}":
    print("error: the disk is on fire", file=sys.stderr)
    print("hint: put it out", file=sys.stderr)
    sys.exit(1)
if mode == f"die:{method}-{seed}":
    os.kill(os.getpid(), signal.SIGKILL)
folder.mkdir(exist_ok=True)
shutil.copy(recipe_file, folder / "recipe.toml")
(folder / "run.json").write_text(json.dumps({"v": 1, "status": "running", "recipe_sha256": ""}))
if mode.startswith(f"wait:{method}-{seed}"):
    try:
        os.kill(os.getppid(), int(mode.rpartition("=")[2]))
        signal.pause()
    except KeyboardInterrupt:
        print("broken off", file=sys.stderr)
        sys.exit(130)
chance = random.Random(f"{method}-{seed}")
figures = [
    {
        "name": name,
        "value": chance.uniform(0.5, 0.9),
        "n": 50,
        "interval": [0.1, 0.95],
        "split": part,
        "dataset": "films",
        "seed": seed,
    }
    for part in ("validation", "test")
    for name in ("accuracy", "f1")
]
document = {
    "v": 1,
    "status": "done",
    "recipe_sha256": "",
    "method": method,
    "base": {"id": recipe["base"]["id"], "revision": None, "weights_sha256": "0" * 64},
    "seed": seed,
    "rows": {"train": 40, "validation": 10, "test": 50},
    "data": [
        {
            "part": "train",
            "path": str(data),
            "size": data.stat().st_size,
            "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
            "rows": len(data.read_text().splitlines()) - 1,
        }
    ],
    "parameters": {"trainable": {"full": 100_000}.get(method, chance.randint(200, 4000)), "head": 50, "base": 100_000},
    "seconds_per_epoch": round(chance.uniform(1, 9), 3),
    "peak_memory": chance.randint(10**8, 10**9),
    "linears": {"modules": 4, "bytes": chance.randint(100, 1000), "full_precision": 4000},
    "metrics": figures,
    "files": [
        {"path": "weights.safetensors", "size": chance.randint(1000, 9000), "sha256": "0" * 64},
        {"path": "head.safetensors", "size": 500, "sha256": "0" * 64},
        {"path": "config.json", "size": 77, "sha256": "0" * 64},
    ],
    "versions": {"hubcli": "0", "torch": "9", "platform": f"moon-{seed}"},
}
(folder / "run.json").write_text(json.dumps(document))
