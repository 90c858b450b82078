"""Comparison of generators at one budget: `python -m tests.benchmarks.gan_table FOLDER`.

Prints a line for each: FID, KID with its interval, precision, recall and diversity against the
test split (on the feature network named in the line), training images per second (scoring
included), and whether it has collapsed. All see the same number of real images, in batches of one
size; finished runs in --out are not repeated.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import metadata
from dlkit.gan_sample import features, latents
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.data import Shape, SquareImages, list_pictures
from dlkit.gan_sample.generate import cycle_classes, generate
from dlkit.gan_sample.metrics import COLLAPSED, distances
from dlkit.gan_sample.model import restore
from dlkit.gan_sample.train import train
from tests.benchmarks import harness

MODELS: dict[str, dict[str, Any]] = {
    "gan": {},
    "dcgan": {},
    "wgan": {},
    "wgan-gp": {},
    "cgan": {},
    "vae": {},
}
SEED = 1234  # of the images that are compared; training evaluates other ones


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gan_table", description=__doc__
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("gan-table"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps-per-epoch", type=int, default=250)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    harness.machine(torch.get_num_threads())
    for arch in options.only:
        harness.note(model=arch, **measure(arch, options))


def measure(arch: str, options: argparse.Namespace) -> dict[str, object]:
    out = options.out / arch
    last = out / "last.safetensors"  # "best" is chosen by the metrics that are measured here
    log = out / "log.jsonl"
    if not log.exists() or len(log.read_text().splitlines()) < options.epochs:
        train(
            GanTrainConfig(
                data=options.data,
                out=out,
                arch=arch,  # type: ignore[arg-type]
                epochs=options.epochs,
                steps_per_epoch=options.steps_per_epoch,
                eval_samples=500,
                device=options.device,
                workers=0,
                resume=True,
                **MODELS[arch],
            )
        )
    records = [json.loads(line) for line in log.read_text().splitlines()]
    header, weights = checkpoint.load(last, "gan-sample")
    model = restore(str(last), header, weights)
    network = features.load("auto", model.image_size, model.channels, options.device)
    listed = list_pictures(options.data, "test", arch == "cgan", header.labels)
    pixels = SquareImages(listed, Shape(model.image_size, model.channels)).pixels
    mixed = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SEED))
    real = pixels[mixed[: options.samples]]
    numbers = range(len(real))
    z = latents.draw(SEED, numbers, model.latent)
    asked = cycle_classes(numbers, model.classes)
    generated, predicted = network.describe(torch.cat(list(generate(model, z, asked))))
    scores = distances(network.describe(real)[0].numpy(), generated.numpy())
    accuracy = (
        {} if asked is None else {"class_accuracy": float((predicted == asked).float().mean())}
    )
    seconds = sum(record["seconds"] for record in records)
    images = options.epochs * options.steps_per_epoch * header.config["batch_size"]
    tensors = metadata(last)[1].values()
    return {
        "features": network.name,
        "pictures": len(real),
        "parameters": sum(math.prod(tensor["shape"]) for tensor in tensors),
        **{name: round(value, 4) for name, value in {**scores, **accuracy}.items()},
        "collapsed": scores["diversity"] < COLLAPSED,
        "images_per_second": round(images / seconds),
        "minutes": round(seconds / 60, 1),
    }


if __name__ == "__main__":
    main()
