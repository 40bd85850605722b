"""Tasks: what a row is, what a model is asked, how its answers are judged."""

from __future__ import annotations

from hubcli.training.tasks.base import Task, Tools
from hubcli.training.tasks.labelled import ImageClassification, SequenceClassification, TokenClassification
from hubcli.training.tasks.words import CausalLM, TextToText

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (SequenceClassification, TokenClassification, ImageClassification, CausalLM, TextToText)
}

__all__ = ["TASKS", "Task", "Tools"]
