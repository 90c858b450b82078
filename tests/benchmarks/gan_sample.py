"""Training speed of `dlkit gan-sample train`: `python -m tests.benchmarks.gan_sample FOLDER`.

Training images per second of a DCGAN against PyTorch's own example (pytorch/examples, dcgan), whose
networks and loop are copied here: the same images, layers, batch size and threads.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dlkit.core.parallel import distributed
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig, by_arch
from dlkit.gan_sample.data import from_uint8, identity_collate, list_pictures
from dlkit.gan_sample.loss import discriminator_loss, generator_loss
from dlkit.gan_sample.model import build
from dlkit.gan_sample.prepare import build_optimizer, prepare
from dlkit.gan_sample.steps import GanStats, freeze
from tests.benchmarks import harness

SIDE = 64
LATENT = 100
WIDTH = 64  # ngf and ndf of the example


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gan_sample", description=__doc__
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    harness.machine(options.threads)
    arguments = (options.data, options.images, options.batch_size, options.device)
    results = harness.compare_apart(
        "gan-sample train",
        {
            "dlkit": partial(ours, *arguments, "auto"),
            "dlkit fp32": partial(ours, *arguments, "fp32"),
            "PyTorch's example": partial(theirs, *arguments),
        },
        "images",
        options.images,
        options.repeats,
        peer="PyTorch's example",
        threads=options.threads,
        clock=options.clock,
    )
    harness.require(results["dlkit"], at_least=3 if options.device == "cpu" else 2)


def ours(
    data: Path, images: int, batch_size: int, device: str, precision: str
) -> Callable[[], str]:
    """One epoch of dlkit.gan_sample.train, without its evaluation."""
    folder = tempfile.TemporaryDirectory()
    config = by_arch(
        GanTrainConfig(
            data=data,
            out=Path(folder.name),
            arch="dcgan",
            image_size=SIDE,
            color="rgb",
            width=WIDTH,
            latent=LATENT,
            flip=0.0,
            batch_size=batch_size,
            steps_per_epoch=images // batch_size,
            device=device,
            precision=precision,  # type: ignore[arg-type]
        )
    )
    config, pictures, settings = prepare(config)
    model: Any = build("dcgan", **settings)
    process = distributed.Process(0, 1, torch.device(device))
    process.wrap(model)
    run = Run(config, process, model, Header("gan-sample", "dcgan", settings, []))
    of_generator = build_optimizer(run, model.generator)
    of_discriminator = build_optimizer(run, model.discriminator)
    batches = run.loader(pictures, identity_collate, workers=0)

    def work() -> str:
        assert folder.name  # lives as long as the work
        balance = GanStats()
        run.done = 0  # each round repeats the first epoch
        for pixels, _ in run.batches(batches):
            real = from_uint8(pixels)
            z = torch.randn(len(real), LATENT, device=process.device)
            with run.autocast():
                fake = model.generator(z)
            with run.autocast():
                on_real = model.discriminator(real).float()
                on_fake = model.discriminator(fake.detach()).float()
            loss = discriminator_loss(config.loss, on_real, on_fake)
            balance.add(loss, on_real, on_fake)
            run.step(loss, of_discriminator)
            with freeze(model.discriminator):
                with run.autocast():
                    on_fake = model.discriminator(fake).float()
                loss = generator_loss(config.loss, on_fake)
                run.step(loss, of_generator)
            balance.generator.append(loss.detach())
        return str(balance.means())

    return work


class Example(Dataset[Tensor]):
    """The example's data set: decode, resize, crop and normalize at each access."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = v2.Compose(
            [
                v2.PILToTensor(),
                v2.Resize(SIDE),
                v2.CenterCrop(SIDE),
                v2.ToDtype(torch.float, scale=True),
                v2.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            pixels: Tensor = self.transform(image.convert("RGB"))
        return pixels


def example_generator() -> nn.Sequential:
    layers: list[nn.Module] = [nn.ConvTranspose2d(LATENT, 8 * WIDTH, 4, 1, 0, bias=False)]
    for maps in (8 * WIDTH, 4 * WIDTH, 2 * WIDTH):
        layers += [nn.BatchNorm2d(maps), nn.ReLU(True)]
        layers.append(nn.ConvTranspose2d(maps, maps // 2, 4, 2, 1, bias=False))
    layers += [nn.BatchNorm2d(WIDTH), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(WIDTH, 3, 4, 2, 1, bias=False), nn.Tanh())


def example_discriminator() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for maps in (WIDTH, 2 * WIDTH, 4 * WIDTH):
        layers.append(nn.Conv2d(maps, 2 * maps, 4, 2, 1, bias=False))
        layers += [nn.BatchNorm2d(2 * maps), nn.LeakyReLU(0.2, True)]
    last = nn.Conv2d(8 * WIDTH, 1, 4, 1, 0, bias=False)
    return nn.Sequential(*layers, last, nn.Sigmoid(), nn.Flatten(0))


def theirs(data: Path, images: int, batch_size: int, device: str) -> Callable[[], str]:
    """One epoch of the example's loop: fp32, binary cross-entropy, Adam."""
    paths = (list_pictures(data, "train").paths * images)[:images]
    loader = DataLoader(Example(paths), batch_size, shuffle=True, drop_last=True)
    generator, discriminator = example_generator().to(device), example_discriminator().to(device)
    criterion = nn.BCELoss()
    of_discriminator = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    of_generator = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))

    def work() -> str:
        for pixels in loader:
            real = pixels.to(device)
            ones = torch.ones(len(real), device=device)
            discriminator.zero_grad()
            on_real = criterion(discriminator(real), ones)
            on_real.backward()
            fake = generator(torch.randn(len(real), LATENT, 1, 1, device=device))
            on_fake = criterion(discriminator(fake.detach()), torch.zeros_like(ones))
            on_fake.backward()
            of_discriminator.step()
            generator.zero_grad()
            loss = criterion(discriminator(fake), ones)
            loss.backward()
            of_generator.step()
        return f"losses {(on_real + on_fake).item():.3f} {loss.item():.3f}"

    return work


if __name__ == "__main__":
    main()
