"""The ten tasks: their summaries, and their modules, imported when they are needed."""

import importlib
from typing import Any

# The summary of each task, so that `dlkit --help` imports none of them.
TASKS = {
    "caption": "Describe images in sentences.",
    "classify": "Classify images and texts.",
    "detect": "Find objects in images.",
    "embed": "Word vectors: nearest words, analogies, training.",
    "gan-sample": "Generate pictures from noise with GANs and VAEs.",
    "lm-generate": "Language models: continue, score and fill in text; training.",
    "segment": "Label every pixel of images.",
    "style-transfer": "Paint photographs in the style of a picture.",
    "tokenize": "Cut text into tokens.",
    "translate": "Translate sentences, or answer them (sequence to sequence).",
}


def task_package(task: str) -> Any:
    """The package of a task, with its public functions."""
    return importlib.import_module(f"dlkit.{task.replace('-', '_')}")


def task_module(task: str) -> Any:
    """The module with the command group `app` and the record `TASK` of a task."""
    return importlib.import_module(f"dlkit.{task.replace('-', '_')}.cli")
