"""What a recipe can't say though its schema allows it: keys that exclude or need one another."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hubcli.recipe import COLUMNS, FULL, FUSION, LABELLED, MethodSpec, Recipe

ADAPTERS_OWN = ("config", "head", "quantize", "format", "save_dtype")


def problems(recipe: Recipe, trained: Collection[str]) -> Iterable[str]:
    """What is wrong with a recipe, one line each.

    Args:
        trained: the keys of the table `train` that were given: some keys must not be given together, whatever their values.
    """
    data, method = recipe.data, recipe.method
    if bool(data.train) == bool(data.dataset):
        yield "data: expected either train (files) or dataset (a name), found " + ("both" if data.train else "neither")
    for key in ("subset", "revision", "splits"):
        if getattr(data, key) and not data.dataset:
            yield f"data.{key} is for data.dataset"
    for key in ("validation", "test"):
        if getattr(data, key) and data.dataset:
            yield f"data.{key} names files, data.dataset has data.splits"
    yield from _columns(recipe)
    yield from _label_problems(recipe)
    if recipe.split.validation + recipe.split.test > 0.9:
        yield "split: validation and test leave less than a tenth to train on"
    yield from _train_problems(recipe, trained)
    if method.name == FUSION and (method.tokenizer or recipe.base.tokenizer is not None):
        key = "method.tokenizer" if method.tokenizer else "base.tokenizer"
        yield f"{key}: a fusion brings no tokenizer, the adapters that it is over bring theirs"
    yield from _method_problems(method)


def _train_problems(recipe: Recipe, trained: Collection[str]) -> Iterable[str]:
    train, head = recipe.train, recipe.method.head
    if train.batch_size % train.gradient_accumulation:
        yield f"train.batch_size: expected a multiple of gradient_accumulation ({train.gradient_accumulation})"
    if train.early_stopping and train.keep != "best":
        yield 'train.early_stopping needs train.keep = "best"'
    if "epochs" in trained and train.max_steps:
        yield "train: expected epochs or max_steps, found both"
    if recipe.task == "CAUSAL_LM" and train.max_length < 2:
        yield "train.max_length: expected at least 2 tokens, one to read and one to say, found 1"
    if train.head_learning_rate is not None and head == "none":
        yield 'train.head_learning_rate: no head learns with method.head = "none"'
    if train.head_learning_rate is not None and head == "auto" and recipe.task not in LABELLED:
        yield f"train.head_learning_rate: {recipe.task} has no head that learns"


def _label_problems(recipe: Recipe) -> Iterable[str]:
    data = recipe.data
    if (data.labels or data.map) and recipe.task not in LABELLED:
        yield f"data.{'map' if data.map else 'labels'} is for {', '.join(LABELLED)}, found {recipe.task}"
    if unknown := sorted(set(data.map.values()) - set(data.labels)):
        yield f"data.map: {', '.join(unknown)}: not among data.labels"
    if len(data.labels) == 1:
        yield f"data.map: expected at least two labels, found {data.labels[0]} alone: data.labels names all there are"
    if len(set(data.labels)) != len(data.labels):
        yield "data.labels names a label twice"


def _columns(recipe: Recipe) -> Iterable[str]:
    named, groups = set(recipe.data.columns), COLUMNS[recipe.task]
    possible = {name for group in groups for name in group} | ({"text_pair"} if recipe.task == "SEQ_CLS" else set())
    if named - possible:
        wrong = ", ".join(sorted(named - possible))
        yield f"data.columns: {recipe.task} reads {', '.join(sorted(possible))}, not {wrong}"
    elif sum(bool(named & set(group)) for group in groups) > 1:
        ways = " or ".join("+".join(group) for group in groups)
        yield f"data.columns: {recipe.task} reads {ways}, found {', '.join(sorted(named))}"


def _method_problems(method: MethodSpec) -> Iterable[str]:
    if method.name == FUSION:
        of = method.config.get("of", [])
        if not isinstance(of, list) or not all(isinstance(name, str) for name in of):
            yield f"method.config.of: expected a list of names, found {of!r}"
        elif sorted(of) != sorted(method.adapters):
            yield f"method.adapters: expected the names of method.config.of ({', '.join(of) or 'none'}), found " + (
                ", ".join(method.adapters) or "none"
            )
    elif method.adapters:
        yield f"method.adapters is for a fusion, found method {method.name}"
    if isinstance(method.head, str) and method.head not in ("auto", "none"):
        yield f'method.head: expected "auto", "none" or a list of modules, found "{method.head}"'
    if method.name == FULL and _says_more(method):
        yield "method full trains every weight: it takes no config, head, quantize, format or save_dtype"


def _says_more(method: MethodSpec) -> bool:
    """Whether a full fine-tuning is told what an adapter is told."""
    default = MethodSpec(FULL)
    return any(getattr(method, key) != getattr(default, key) for key in ADAPTERS_OWN)
