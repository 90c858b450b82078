"""The training loop of CycleGAN, on two folders of unpaired pictures.

Shapes: B images, C channels, S x S pixels.
"""

import random
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_dir
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import ResolvedConfig
from dlkit.gan_sample.data import (
    SquareImages,
    choose_shape,
    from_uint8,
    identity_collate,
    list_pictures,
    to_uint8,
)
from dlkit.gan_sample.fid import FidEvaluator, fid_evaluator, sample_path
from dlkit.gan_sample.generate import BATCH
from dlkit.gan_sample.grid import save_grid
from dlkit.gan_sample.loss import discriminator_loss, generator_loss
from dlkit.gan_sample.model import CycleGan, build
from dlkit.gan_sample.prepare import MIN_STEPS, build_optimizer, fill_in_size, given_settings
from dlkit.gan_sample.steps import GanStats, freeze, random_flip, stop_if_diverged

DOMAINS = ("trainA", "trainB")
POOL_SIZE = 50  # earlier images for the discriminators (section 4)
MIN_SIDE = 32  # from which on the discriminators have more than one logit
COLUMNS = 6  # pictures of each domain in the grid
CAPTIONS = [
    "A, a picture", "translated to B", "and back to A",
    "B, a picture", "translated to A", "and back to B",
]  # fmt: skip


class UnpairedImages(Dataset[list[Tensor]]):
    """Batches of pictures of A, and as many random ones of B."""

    def __init__(self, first: SquareImages, second: SquareImages, length: int) -> None:
        self.first, self.second, self.length = first, second, length

    def __len__(self) -> int:
        return self.length

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        others = torch.randint(len(self.second.pixels), (len(indices),))
        ours = torch.tensor(indices) % len(self.first.pixels)
        return [self.first.pixels[ours], self.second.pixels[others]]


class ImagePool:
    """A pool of earlier images, which replace new ones with probability 1/2."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def query(self, images: Tensor) -> Tensor:
        """Detached images (B, C, S, S), some exchanged for earlier ones."""
        out = []
        for image in images.detach():
            if len(self.kept) < POOL_SIZE:
                self.kept.append(image)
            elif random.random() < 0.5:
                place = random.randrange(POOL_SIZE)
                image, self.kept[place] = self.kept[place], image
            out.append(image)
        return torch.stack(out)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = state["kept"]


def train_cyclegan(config: ResolvedConfig, process: Process) -> Path:
    """Train a CycleGAN (Zhu et al. 2017), and return the path of the best checkpoint."""
    first, second = read_domains(config)
    shape = first.shape
    config = fill_in_size(config, shape.image_size, shape.channels)
    settings = given_settings(config, shape, ("width", "blocks"))
    model: CycleGan = build("cyclegan", **settings)
    assert model.discriminator is not None
    to_b, to_a = process.wrap(model.a_to_b), process.wrap(model.b_to_a)
    critic_a, critic_b = (process.wrap(model.discriminator[domain]) for domain in ("a", "b"))
    run = Run(config, process, model, Header("gan-sample", "cyclegan", settings, []))
    generator_optimizer = build_optimizer(run, nn.ModuleList([model.a_to_b, model.b_to_a]))
    discriminator_optimizer = build_optimizer(run, model.discriminator)
    steps = max(len(first.pixels), len(second.pixels)) // config.batch_size
    steps = config.steps_per_epoch or max(steps, MIN_STEPS)
    data = UnpairedImages(first, second, steps * config.batch_size)
    batches = run.loader(data, identity_collate, workers=0)
    evaluators = [fid_evaluator(config, part, [], process) for part in (second, first)]

    for epoch in run.epochs(BestMetric(config.best_metric, lower=True, losses_compare=False)):
        stats = run.track(GanStats())
        pool_a, pool_b = run.track(ImagePool()), run.track(ImagePool())
        for pair in run.batches(batches):
            a, b = (random_flip(from_uint8(pixels), config.flip) for pixels in pair)
            with freeze(model.discriminator):
                with run.autocast():
                    fake_b, fake_a = to_b(a), to_a(b)
                    back_a, back_b = model.b_to_a(fake_b), model.a_to_b(fake_a)
                    on_fake = [model.discriminator["a"](fake_a), model.discriminator["b"](fake_b)]
                    pairs = [(back_a, a, 1.0), (back_b, b, 1.0)]
                    if config.identity:
                        pairs += [(model.b_to_a(a), a, config.identity)]
                        pairs += [(model.a_to_b(b), b, config.identity)]
                cycle_losses = [
                    weight * F.l1_loss(output.float(), x) for output, x, weight in pairs
                ]
                adversarial = [generator_loss(config.loss, out.float()) for out in on_fake]
                loss = (
                    torch.stack(adversarial).sum() + config.cycle * torch.stack(cycle_losses).sum()
                )
                run.step(loss, generator_optimizer)
            stats.generator.append(loss.detach())

            with run.autocast():
                on_a, on_b = critic_a(a).float(), critic_b(b).float()
                on_fake_a = model.discriminator["a"](pool_a.query(fake_a)).float()
                on_fake_b = model.discriminator["b"](pool_b.query(fake_b)).float()
            # Halved to slow down the discriminators (section 4).
            loss = 0.5 * discriminator_loss(config.loss, on_a, on_fake_a)
            loss = loss + 0.5 * discriminator_loss(config.loss, on_b, on_fake_b)
            run.step(loss, discriminator_optimizer)
            stats.add(loss, torch.stack([on_a, on_b]), torch.stack([on_fake_a, on_fake_b]))

        stop_if_diverged(run)
        trained = cast(CycleGan, run.eval_model.eval())
        there = score_translations(trained, first, False, evaluators[0], run)
        back = score_translations(trained, second, True, evaluators[1], run)
        scores = {name: (there[name] + back[name]) / 2 for name in there}
        if process.is_main:
            save_translations(trained, [first, second], run, epoch)
        run.finish_epoch(**stats.means(), **scores)
    return run.best


def read_domains(config: ResolvedConfig) -> tuple[SquareImages, SquareImages]:
    """The pictures of trainA and trainB, of one size and number of channels."""
    folders = [config.data / name for name in DOMAINS]
    if missing := [folder for folder in folders if not is_dir(folder)]:
        raise DlkitError("no such folder; cyclegan trains on trainA and trainB", missing[0])
    listed = [list_pictures(folder, "train") for folder in folders]
    paths = [*listed[0].paths, *listed[1].paths]
    shape = choose_shape(paths, config.image_size, config.color)
    if shape.image_size % 4 or shape.image_size < MIN_SIDE:
        raise DlkitError(
            f"--image-size {shape.image_size}: not for cyclegan; give a multiple of 4,"
            f" {MIN_SIDE} or more"
        )
    domains = [SquareImages(part, shape) for part in listed]
    for part, folder in zip(domains, folders, strict=True):
        part.ledger.name = folder.name
        part.report(folder, config.allowed)
    return domains[0], domains[1]


@torch.no_grad()
def translate_all(model: CycleGan, pixels: Tensor, back: bool, run: Run) -> Tensor:
    """Translate uint8 pictures (N, C, S, S) of one domain to the other."""
    outputs = []
    for part in pixels.split(BATCH):
        with run.autocast():
            translated = model.translate(from_uint8(part.to(run.process.device)), back)
        outputs.append(to_uint8(translated).cpu())
    return torch.cat(outputs)


def score_translations(
    model: CycleGan, source: SquareImages, back: bool, evaluator: FidEvaluator, run: Run
) -> dict[str, float]:
    """Scores of translated pictures against the real ones of the other domain."""
    shared = list(run.process.share(range(min(len(source.pixels), evaluator.config.eval_samples))))
    descriptors, _ = evaluator.describe_all(translate_all(model, source.pixels[shared], back, run))
    return evaluator.compare(descriptors)


def save_translations(model: CycleGan, domains: list[SquareImages], run: Run, epoch: int) -> None:
    """Write samples/epoch-0001.png: pictures, their translations, and these translated back."""
    rows: list[Tensor] = []
    for part, back in zip(domains, (False, True), strict=True):
        source = part.pixels[:COLUMNS]
        translated = translate_all(model, source, back, run)
        rows += [*source, *translated, *translate_all(model, translated, not back, run)]
    save_grid(rows, sample_path(run.folder, epoch), COLUMNS, CAPTIONS)
