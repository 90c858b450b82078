"""Make a bundled feature network of a classifier: `python -m dlkit.style_transfer.publish`.

It folds the batch norms of a VGG of `dlkit classify` into its convolutions, repeats the border
where they would see zeros, which the painting would show as a frame, and scales the maps on photos.
Painters are published by `dlkit.core.cli.publish`.
"""

import random
from pathlib import Path
from typing import Annotated

import torch
import typer

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import folder
from dlkit.core.vision import images
from dlkit.style_transfer.models.features import FeatureNetwork, of_classifier

PHOTOGRAPHS, SIDE = 48, 192  # on which maps are scaled, and their pixels a side


def publish(
    run: Annotated[Path, typer.Argument(help="The folder of a run of dlkit classify train.")],
    name: Annotated[str, typer.Argument(help="The bundled network's name.")],
    photographs: Annotated[
        Path, typer.Option("--images", help="Photographs on which maps are scaled.")
    ],
    data: Annotated[str, typer.Option(help="What the classifier was trained on, in words.")],
    terms: Annotated[str, typer.Option(help="The terms of use of that data.")],
) -> None:
    """Add the convolutions of a run's best classifier to the bundled feature networks."""
    best = run / "best.safetensors"
    found = of_classifier(str(best), "average")
    settings = {**found.settings, "padding": "replicate"}
    network = FeatureNetwork(**settings)
    network.load_state_dict(found.state_dict())
    paths = sorted(images.files([str(photographs)]))
    random.Random(0).shuffle(paths)
    squares = [images.read(path, SIDE, "crop").pixels for path in paths[:PHOTOGRAPHS]]
    network.normalize(torch.stack(squares) / 255)

    classifier = checkpoint.read_header(best)
    top1 = classifier.metrics["top1"]
    card = {
        "command": classifier.card["command"],
        "data": f"{data}; maps scaled on {len(squares)} photographs of {photographs.name}",
        "terms": terms,
        "score": f"as a classifier top1 {top1:.3f} on the images held out in training",
        "measure": "the score of the best epoch in the log.jsonl of that command",
    }
    header = Header("style-transfer", "features", network.settings, [], {}, {"top1": top1}, card)
    target = folder("style-transfer") / f"{name}.safetensors"
    checkpoint.save(target, network.state_dict(), header, 8)
    typer.echo(f"{target}: {card['score']}")


if __name__ == "__main__":
    typer.run(publish)
