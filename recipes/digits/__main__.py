"""A small ViT learns the digits 0 to 4, and a bottleneck adapter on it the digits 5 to 9.

    python -m recipes.digits            # about a minute; the runs go to runs/digits

The base is made here, from scratch: no pretrained ViT of this size is in any package.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from hubcli import api

HERE = Path(__file__).parent
RUNS = HERE.parent.parent / "runs" / "digits"


def blank(folder: Path) -> None:
    """An untrained ViT for images of 8 by 8 points, with its image processor."""
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=5,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(
        folder
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RUNS, help="the folder of the runs; what is there is replaced")
    out = parser.parse_args().out
    from recipes.data.__main__ import main as fetch

    if code := fetch(["digits-low", "digits-high"]):
        sys.exit(code)
    blank(out / "blank")
    for name, base in (("vit-low", out / "blank"), ("vit-high", out / "vit-low" / "model")):
        changes = {"base.id": str(base.absolute())}
        report = api.train(HERE / f"{name}.toml", out / name, changes=changes, force=True, say=print)
        for metric in report["metrics"]:
            if metric["split"] == "test":
                print(f"{name} {metric['name']}: {metric['value']:.4f} {metric['interval'] or ''}")


if __name__ == "__main__":
    main()
