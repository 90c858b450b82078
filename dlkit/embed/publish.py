"""Add a run's vectors to the bundled models: `python -m dlkit.embed.publish`.

It measures them on word similarities and analogies and writes the model card into the header, which
`dlkit embed models` and the README quote.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dlkit.core.io.scores import Score
from dlkit.core.io.writers import Format, write
from dlkit.core.store.weights import folder
from dlkit.embed.evaluate import evaluate_checkpoint
from dlkit.embed.model import load_embedding, save_embedding


def publish(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a file of `embed join`.")],
    name: Annotated[str, typer.Argument(help="The bundled model's name.")],
    test: Annotated[list[Path], typer.Option(help="A file of word pairs or of analogies.")],
    data: Annotated[str, typer.Option(help="Description of the training data.")],
    terms: Annotated[str, typer.Option(help="The terms of use of that data.")],
    bits: Annotated[int, typer.Option(help="Bits of a stored number: 32, 16 or 8.")] = 16,
) -> None:
    """Measure a run's vectors and add them to the bundled models."""
    target = folder("embed") / f"{name}.safetensors"
    trained = load_embedding(run / "best.safetensors" if run.is_dir() else run)
    # Saved first, so that the scores are those of the published file.
    save_embedding(target, trained, bits=bits)
    sources = [str(path) for path in test]
    scores = list(evaluate_checkpoint(sources, model=str(target)))
    values = {
        f"{score.label} {score.metric}": score.value
        for score in scores
        if isinstance(score, Score) and score.value is not None
    }
    headline = ", ".join(
        f"{label} {value:.3f}"
        for label, value in values.items()
        if label.endswith(("spearman", "total accuracy"))
    )
    card = {
        **trained.header.card,
        "data": data,
        "terms": terms,
        "score": headline,
        "measure": f"dlkit embed evaluate {' '.join(sources)} -m {name}",
    }
    header = replace(trained.header, metrics={**trained.header.metrics, **values}, card=card)
    save_embedding(target, replace(trained, header=header), bits=bits)
    write(scores, Format.text)


if __name__ == "__main__":
    typer.run(publish)
