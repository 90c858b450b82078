"""Making a bundled model of a run's checkpoint, for `dlkit publish`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dlkit.core.cli.command import Task
from dlkit.core.errors import DlkitError
from dlkit.core.io.scores import Score
from dlkit.core.store import checkpoint
from dlkit.core.store.weights import folder


def publish(
    task: Task,
    run: Path,
    name: str,
    test: Sequence[Path],
    metric: str,
    data: str,
    terms: str,
    split: str = "test",
    measure: str | None = None,
    bits: int = 16,
    about: Mapping[str, str] | None = None,
) -> list[Score]:
    """Measure a run's best checkpoint on held-out data, and add it to the task's bundled models.

    The weights are stored in 32, 16 or 8 `bits`, and the model card with the score of `metric` is
    written into the header, so that `dlkit models` and the pages can quote it; `about` has more
    entries of the card: knows, limits, license. Returns all scores.
    """
    if bits not in (32, 16, 8):
        raise DlkitError(f"--bits {bits} is not supported; choose from 32, 16, 8")
    header, weights = checkpoint.load(run / "best.safetensors", task.name)
    weights = task.shipped(weights)
    target = folder(task.name) / f"{name}.safetensors"
    # Saved first, so that the measured model is the shipped one, with its quantized weights.
    checkpoint.save(target, weights, header, bits)
    scores = list(task.evaluate([str(path) for path in test], split, str(target)))
    values = {score.metric: score.value for score in scores if score.label == "all"}
    definitions = {score.metric: score.definition for score in scores}
    splits = [split] if split else []
    options = " ".join([*map(str, test), *(f"--split {part}" for part in splits), f"-m {name}"])
    card = {
        **header.card,
        **(about or {}),
        "data": data,
        "terms": terms,
        "score": f"{metric} {values[metric]:.3f} on"
        f" {' '.join([*(path.name for path in test), *splits])}",
        "definition": definitions[metric],
        "measure": measure or f"dlkit {task.name} evaluate {options}",
    }
    checkpoint.save(target, weights, replace(header, metrics=values, card=card), bits)
    return scores
