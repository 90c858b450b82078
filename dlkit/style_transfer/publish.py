"""Publish a classifier as a bundled feature network: `python -m dlkit.style_transfer.publish`.

This folds the batch norms of a VGG of `dlkit classify` into its convolutions, replaces zero padding
by replicate padding, which avoids a frame in paintings, and normalizes the maps on photographs.
`dlkit publish` publishes painters.
"""

import random
from pathlib import Path
from typing import Annotated

import torch
import typer

from dlkit.core.io import image_files
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import folder
from dlkit.core.vision import images
from dlkit.style_transfer.models.features import FeatureNetwork, FeatureSettings, from_classifier

PHOTOGRAPHS, SIDE = 48, 192  # for `normalize`: their number, and their side in pixels


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a run of dlkit classify train.")],
    name: Annotated[str, typer.Argument(help="Name of the bundled network.")],
    photographs: Annotated[
        Path, typer.Option("--images", help="Photographs on which maps are normalized.")
    ],
    data: Annotated[str, typer.Option(help="Description of the classifier's training data.")],
    terms: Annotated[str, typer.Option(help="Terms of use of that data.")],
) -> None:
    """Add the convolutions of a run's best classifier to the bundled feature networks."""
    best = run / "best.safetensors"
    source = from_classifier(str(best), "average")
    settings: FeatureSettings = {**source.settings, "padding": "replicate"}
    network = FeatureNetwork(**settings)
    network.load_state_dict(source.state_dict())
    paths = sorted(image_files.files([str(photographs)]))
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
