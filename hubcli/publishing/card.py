"""The model card of a release: its metadata, what it reaches, code that loads it, how it was trained, what it can't do.

Texts from a folder are escaped, so that they are text and nothing else; metadata goes through huggingface_hub's `ModelCardData`,
whose YAML quotes what has to be. The same release gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hubcli.frozen import frozen
from hubcli.manifest import Json, Metric, Release
from hubcli.publishing.claims import slug
from hubcli.publishing.facts import mapping
from hubcli.publishing.picked import ADAPTERHUB, OWN, PEFT

LIBRARIES = {PEFT: "peft", ADAPTERHUB: "adapter-transformers", OWN: "hubcli"}
SAMPLE = "A short text to try it on."
LIMITS = {
    "text-classification": "Every text gets one of its labels, also one that none of them fits.",
    "image-classification": "Every image gets one of its labels, also one that none of them fits.",
    "token-classification": "It finds what its labels name, and nothing else.",
    "text-generation": "What it writes may be wrong, and is in the manner of its data.",
    "text2text-generation": "What it writes may be wrong, and is in the manner of its data.",
}
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]+")


@frozen
class CardFacts:
    """What a card says. `format` is whose files they are; `auto_class` transformers' class for its task, None: the bare model.

    `repo` is where it will be on the hub, None where that is not known; `plot` a picture beside the card, and what it shows;
    `training` how it was trained, in lines; `dataset_id` the data's own name on a hub; `classes` how many a head tells apart.
    """

    name: str
    kind: str
    format: str
    description: str
    authors: tuple[Json, ...]
    release: Release
    auto_class: str | None = None
    repo: str | None = None
    plot: tuple[str, str] | None = None
    training: tuple[str, ...] = ()
    citation: str = ""
    dataset_id: str | None = None
    own_tokenizer: bool = False
    classes: int = 0
    reads_in_peft: bool = False


def library(format: str) -> str:
    """The library whose files a format is, as hubs call it."""
    return LIBRARIES[format.partition(" ")[0]]


def plain(text: str) -> str:
    """A text from outside as Markdown that shows it and does nothing: one line, no markup, no control character."""
    return _SPECIAL.sub(r"\\\1", _CONTROL.sub(" ", text)).strip()


def metadata(facts: CardFacts) -> ModelCardData:
    """The card's front matter."""
    release = facts.release
    language = list(release.language)
    measured = [figure for figure in release.metrics if release.task]
    return ModelCardData(
        base_model=release.base.id if release.base else None,
        base_model_relation="adapter",
        library_name=library(facts.format),
        license=release.license,
        language=(language[0] if len(language) == 1 else language) or None,
        pipeline_tag=release.task,
        tags=tags(facts),
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        metrics=sorted({figure.name for figure in release.metrics}) or None,
        model_name=facts.name,
        eval_results=[_result(figure, release.task, facts.dataset_id) for figure in measured] or None,
    )


def tags(facts: CardFacts) -> list[str]:
    """What a hub finds it by."""
    return list(dict.fromkeys(["hubcli", facts.release.method or facts.kind]))


def _result(figure: Metric, task: str | None, dataset_id: str | None) -> EvalResult:
    return EvalResult(
        task_type=task or "other",
        dataset_type=dataset_id or slug(figure.dataset),
        dataset_name=figure.dataset,
        dataset_split=figure.split,
        metric_type=figure.name,
        metric_value=figure.value,
    )


def sections(facts: CardFacts) -> dict[str, str]:
    """The parts of the card's text below its title, by name, in order; those with nothing to say are not there."""
    found = {
        "description": plain(facts.description),
        "results": figures(facts.release.metrics),
        "plot": "" if facts.plot is None else f"![{plain(facts.plot[1])}]({facts.plot[0]})",
        "use": _use(facts),
        "training": "\n".join(["## Training", "", *(f"- {line}" for line in facts.training)]) if facts.training else "",
        "limits": _limits(facts),
        "citation": f"## Citation\n\n{plain(facts.citation)}" if facts.citation.strip() else "",
    }
    return {name: text for name, text in found.items() if text}


def card(facts: CardFacts) -> str:
    """The whole card."""
    return whole(metadata(facts), [f"# {facts.name}", *sections(facts).values()])


def whole(data: ModelCardData, parts: Iterable[str]) -> str:
    """Front matter and text as one file."""
    return "\n\n".join([f"---\n{data.to_yaml(line_break=chr(10))}\n---", *parts]).rstrip("\n") + "\n"


def figures(metrics: Iterable[Metric]) -> str:
    """What it reaches, with intervals and rows."""
    rows = [_row(figure) for figure in metrics]
    head = ["## Results", "", "| figure | value | 95 % interval | rows | data |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows]) if rows else ""


def _row(figure: Metric) -> str:
    count = "" if figure.n is None else f"{figure.n:,}"
    of = f"{plain(figure.dataset)} ({plain(figure.split)})"
    return f"| {plain(figure.name)} | {figure.value:.4g} | {_interval(figure)} | {count} | {of} |"


def _interval(figure: Metric) -> str:
    return "" if figure.interval is None else f"{figure.interval[0]:.4g} to {figure.interval[1]:.4g}"


def _use(facts: CardFacts) -> str:
    blocks = [f"## Use\n\nWith hubcli:\n\n{_python(_hubcli_code(facts))}"]
    if facts.repo and facts.kind == "adapter" and not facts.format.startswith(OWN):
        blocks.append(f'Without an index, from this repository: `load_adapter("hf:{facts.repo}")`.')
    if facts.reads_in_peft:
        blocks.append(f"With [peft](https://huggingface.co/docs/peft) alone:\n\n{_python(_peft_code(facts))}")
    if facts.release.requires:
        parts = ", ".join(f"`{name}` ({spec})" for name, spec in facts.release.requires.items())
        blocks.append(f"It works over {parts}, which are installed with it.")
    return "\n\n".join(blocks)


def _python(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _hubcli_code(facts: CardFacts) -> list[str]:
    task = facts.release.task
    if facts.kind == "fusion":
        named = ", ".join(json.dumps(name) for name in facts.release.requires)
        return [
            "from hubcli import Fuse, load_adapter",
            "",
            f"adapted = load_adapter(Fuse({named}, by={json.dumps(facts.name)}))",
            *_asked(task),
        ]
    return ["from hubcli import load_adapter", "", f"adapted = load_adapter({json.dumps(facts.name)})", *_asked(task)]


def _asked(task: str | None) -> list[str]:
    """What is asked of the handle `adapted`."""
    if task in ("text-classification", "token-classification", "text2text-generation"):
        return [f"print(adapted.predict([{json.dumps(SAMPLE)}]))"]
    if task == "text-generation":
        return [f"print(adapted.pipeline()({json.dumps(SAMPLE)}, max_new_tokens=20))"]
    if task == "image-classification":
        return ["print(adapted.adapters)  # adapted.predict reads images by their paths"]
    return [f'inputs = adapted.tokenizer({json.dumps(SAMPLE)}, return_tensors="pt")', "print(adapted(**inputs))"]


def _peft_code(facts: CardFacts) -> list[str]:
    release = facts.release
    assert release.base is not None
    auto, base, where = facts.auto_class or "AutoModel", json.dumps(release.base.id), json.dumps(facts.repo or "FOLDER")
    sized = f", num_labels={facts.classes}" if facts.classes else ""
    lines = [
        "from peft import PeftModel",
        f"from transformers import {auto}",
        "",
        f"base = {auto}.from_pretrained({base}{sized})",
        f"model = PeftModel.from_pretrained(base, {where}).eval()",
    ]
    if release.task == "image-classification":
        return lines
    lines[1] = f"from transformers import {auto}, AutoTokenizer"
    lines.append(f"tokenizer = AutoTokenizer.from_pretrained({where if facts.own_tokenizer else base})")
    lines.append(f'inputs = tokenizer({json.dumps(SAMPLE)}, return_tensors="pt")')
    if release.task in ("text-generation", "text2text-generation"):
        return [*lines, "print(tokenizer.batch_decode(model.generate(**inputs, max_new_tokens=20)))"]
    lines.append("print(model(**inputs).logits)" if facts.classes else "print(model(**inputs))")
    if facts.classes and release.head and release.head.labels:
        lines.append(f"# in this order: {', '.join(json.dumps(label) for label in release.head.labels)}"[:500])
    return lines


def _limits(facts: CardFacts) -> str:
    own = LIMITS.get(facts.release.task or "")
    lines = [f"- {own}"] if own else []
    lines.append("- On other subjects, longer inputs or other languages than those of its data it is untested.")
    if any(figure.interval for figure in facts.release.metrics):
        lines.append("- The intervals cover the choice of test rows, not the choice of seed.")
    return "\n".join(["## Limits", "", *lines])


def training_lines(run: Json, recipe: Any, training: Json) -> tuple[str, ...]:
    """How it was trained, in a few lines: of a run and, where it is there, its recipe."""
    data, rows = mapping(training.get("data")), mapping(run.get("rows"))
    counted = ", ".join(
        f"{rows[part]:,} rows to {what}" for part, what in _PARTS.items() if type(rows.get(part)) is int and rows[part]
    )
    licence = f" (licence: {plain(str(data['license']))})" if data.get("license") else ""
    lines = [f"Data: {plain(str(data.get('name') or 'not named'))}{licence}. {counted}."]
    count = mapping(run.get("parameters")).get("trainable")
    if type(count) is int:
        lines.append(f"{plain(str(run.get('method')))}: {count:,} parameters train, the base is frozen.")
    if recipe is not None:
        train = recipe.train
        length = f"at most {train.max_length} tokens, " if run.get("pipeline") != "image-classification" else ""
        lines.append(
            f"{plain(train.optimiser)}, learning rate {train.learning_rate:g}, {plain(train.schedule)} schedule, "
            f"{plain(train.precision)}, batches of {train.batch_size}, {length}seed {recipe.seed}."
        )
    versions = mapping(training.get("versions"))
    if versions:
        lines.append("Made with " + ", ".join(f"{plain(k)} {plain(str(v))}" for k, v in versions.items()) + ".")
    return tuple(lines)


_PARTS = {"train": "train on", "validation": "validate", "test": "test"}
