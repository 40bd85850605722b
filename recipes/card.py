"""The model card of a run: what it is, what it reaches, how to load it, how it was trained, what it can't do."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hubcli.publishing.card import whole
from hubcli.publishing.facts import rounded
from hubcli.recipe import FUSION, Recipe

LIMITS = {
    "text-classification": "Every text gets one of its labels, also one that none of them fits.",
    "token-classification": "It knows the slots of five booking services in one town, and no others.",
    "text-generation": "It is a small model: what it writes may be wrong, and is in the manner of its data.",
}


def card(recipe: Recipe, run: dict[str, Any]) -> str:
    """The card as Markdown with its metadata on top."""
    told = recipe.release
    parts = [
        f"# {recipe.name}",
        told["description"],
        _figures(run),
        _use(recipe, run),
        _peft(recipe, run),
        _training(recipe, run),
        f"## Limits\n\n- {LIMITS[run['pipeline']]}\n- Trained on one seed and one source; on other subjects, longer texts "
        "or other languages it is untested.\n- The intervals cover the choice of test rows, not the choice of seed.",
        told.get("citation", "").strip(),
    ]
    return whole(_data(recipe, run), filter(None, parts))


def _data(recipe: Recipe, run: dict[str, Any]) -> ModelCardData:
    metric = next(found for found in run["metrics"] if found["split"] == "test")
    language = list(recipe.release.get("language", ()))
    return ModelCardData(
        base_model=recipe.base.id,
        base_model_relation="adapter",
        library_name=_library(run),
        license=recipe.release["license"],
        language=(language[0] if len(language) == 1 else language) or None,
        pipeline_tag=run["pipeline"],
        tags=["hubcli", recipe.method.name],
        model_name=recipe.name,
        eval_results=[
            EvalResult(
                task_type=run["pipeline"],
                dataset_type=recipe.data.train[0].split("/")[-2],
                dataset_name=metric["dataset"],
                dataset_split="test",
                metric_type=metric["name"],
                metric_value=rounded(metric["value"]),
            )
        ],
    )


def _library(run: dict[str, Any]) -> str:
    return "peft" if any(file["path"] == "adapter_model.safetensors" for file in run["files"]) else "hubcli"


def _figures(run: dict[str, Any]) -> str:
    lines = ["| on held-out rows | value | 95 % interval | rows |", "| --- | --- | --- | --- |"]
    for found in run["metrics"]:
        if found["split"] == "test":
            interval = "" if found["interval"] is None else "{:.3f} to {:.3f}".format(*found["interval"])
            lines.append(f"| {found['name']} | {found['value']:.3f} | {interval} | {found['n']:,} |")
    return "\n".join(lines)


def _use(recipe: Recipe, run: dict[str, Any]) -> str:
    code = f'from hubcli import load_adapter\n\nadapted = load_adapter("{recipe.name}")\n{_call(recipe, run)}'
    return f"## Use\n\n```python\n{code}\n```"


def _call(recipe: Recipe, run: dict[str, Any]) -> str:
    if "messages" in recipe.columns:
        return 'adapted.pipeline()([{"role": "user", "content": "..."}], max_new_tokens=48)'
    if run["pipeline"] == "text-generation":
        return 'adapted.pipeline()("To be, or not", max_new_tokens=40)'
    return 'adapted.predict(["..."])'


def _peft(recipe: Recipe, run: dict[str, Any]) -> str:
    if _library(run) != "peft":
        return ""
    return f"The folder is peft's: `PeftModel.from_pretrained(base, folder)` loads it onto `{recipe.base.id}`."


def _training(recipe: Recipe, run: dict[str, Any]) -> str:
    rows, train, told = run["rows"], recipe.train, recipe.release
    over = f" over {', '.join(recipe.method.adapters.values())}" if recipe.method.name == FUSION else ""
    return "\n".join(
        [
            "## Training",
            "",
            f"- Data: {recipe.data.name} (licence: {told['data_license']}). {rows['train']:,} rows to train on, "
            f"{rows['validation']:,} to validate, {rows['test']:,} to test; split by hash of the content.",
            f"- {recipe.method.name}{over}: {run['parameters']['trainable']:,} parameters train, the base is frozen.",
            f"- {train.optimiser}, learning rate {train.learning_rate:g}, {train.schedule} schedule, {train.precision}, "
            f"batches of {train.batch_size}, at most {train.max_length} tokens, {run['epochs']:g} epochs, seed {run['seed']}.",
            f"- Everything that decides it stands in `recipes/{recipe.name}.toml`; `python -m recipes.again {recipe.name}` "
            "trains it again.",
        ]
    )
