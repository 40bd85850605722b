"""The bar to clear: logistic regression on what the frozen base already knows, tuned on validation."""

from __future__ import annotations

from typing import Any

import torch
from movie_snippets import Encoded, batch_of, evaluation_batches
from torch.nn import functional
from transformers import BertForSequenceClassification


@torch.no_grad()
def features_of(base: BertForSequenceClassification, data: Encoded, kind: str) -> torch.Tensor:
    """(rows, hidden) of the frozen base: the mean over tokens, or the pooler's output."""
    out = torch.empty(len(data.ids), base.config.hidden_size)
    for picked in evaluation_batches(data):
        batch = batch_of(data, picked)
        encoded = base.bert(**batch)
        mask = batch["attention_mask"][..., None]
        mean = (encoded.last_hidden_state * mask).sum(1) / mask.sum(1)
        out[picked] = mean if kind == "mean" else encoded.pooler_output
    return out.double()


def fit_logistic(x: torch.Tensor, y: torch.Tensor, l2: float) -> torch.Tensor:
    """Weights (features + 1,) of the convex optimum; the last is the bias, which is not penalised."""
    weights = torch.zeros(x.shape[1] + 1, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(x @ weights[:-1] + weights[-1], y.double())
        loss = loss + l2 * weights[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def share_right(weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
    return ((x @ weights[:-1] + weights[-1] > 0) == y.bool()).double().mean().item()


def probe(base: BertForSequenceClassification, parts: dict[str, Encoded], recipe: dict[str, Any]) -> dict[str, Any]:
    """The best frozen linear probe by validation, and what it reaches on test."""
    best: dict[str, Any] = {"validation_accuracy": 0.0}
    for kind in recipe["features"]:
        raw = {name: features_of(base, data, kind) for name, data in parts.items()}
        mean, deviation = raw["train"].mean(0), raw["train"].std(0)
        x = {name: (value - mean) / deviation for name, value in raw.items()}
        for l2 in recipe["l2"]:
            weights = fit_logistic(x["train"], parts["train"].labels, l2)
            score = share_right(weights, x["validation"], parts["validation"].labels)
            if score > best["validation_accuracy"]:
                reached = share_right(weights, x["test"], parts["test"].labels)
                best = {"features": kind, "l2": l2, "validation_accuracy": score, "accuracy": reached}
    return best
