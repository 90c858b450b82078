"""The training loop of CycleGAN, from two folders of pictures that are no pairs.

Shapes: B images, C channels, S x S pixels.
"""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.data import (
    Pictures,
    as_it_is,
    from_bytes,
    list_pictures,
    shape_of,
    to_bytes,
)
from dlkit.gan_sample.fid import FidEvaluator, judge_of, sample_path, save_grid
from dlkit.gan_sample.generate import BATCH
from dlkit.gan_sample.loss import discriminator_loss, generator_loss
from dlkit.gan_sample.model import build
from dlkit.gan_sample.prepare import LEAST_STEPS, optimizer_of, with_size
from dlkit.gan_sample.steps import GanStats, flipped, frozen, stop_if_diverged

DOMAINS = ("trainA", "trainB")
POOL = 50  # earlier images that the discriminators also learn from (section 4)
SMALLEST = 32  # pixels of which the discriminators make more than one logit
SHOWN = 6  # pictures of each domain in the grid


class Unpaired(Dataset[list[Tensor]]):
    """Batches of pictures of A and as many of B, in another order."""

    def __init__(self, first: Pictures, second: Pictures, length: int) -> None:
        self.first, self.second, self.length = first, second, length

    def __len__(self) -> int:
        return self.length

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        others = torch.randint(len(self.second.pixels), (len(indices),))
        ours = torch.tensor(indices) % len(self.first.pixels)
        return [self.first.pixels[ours], self.second.pixels[others]]


class Pool:
    """Earlier images, of which one in two is shown again, and replaced, in place of a new one."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def exchanged(self, images: Tensor) -> Tensor:
        """Images (B, C, S, S) without a graph, some of them earlier ones."""
        out = []
        for image in images.detach():
            if len(self.kept) < POOL:
                self.kept.append(image)
            elif random.random() < 0.5:
                place = random.randrange(POOL)
                image, self.kept[place] = self.kept[place], image
            out.append(image)
        return torch.stack(out)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = state["kept"]


def train_cyclegan(config: GanTrainConfig, process: Process) -> Path:
    """Zhu et al. 2017; returns the path of the best checkpoint."""
    first, second = two_domains(config)
    shape = first.shape
    config = with_size(config, shape.image_size, shape.channels)
    settings: dict[str, Any] = {"image_size": shape.image_size, "channels": shape.channels}
    chosen = {name: getattr(config, name) for name in ("width", "blocks")}
    settings |= {name: value for name, value in chosen.items() if value is not None}
    model: Any = build("cyclegan", **settings)
    to_b, to_a = process.wrap(model.a_to_b), process.wrap(model.b_to_a)
    judge_a, judge_b = (process.wrap(model.discriminator[domain]) for domain in ("a", "b"))
    run = Run(config, process, model, Header("gan-sample", "cyclegan", settings, []))
    of_generators = optimizer_of(run, nn.ModuleList([model.a_to_b, model.b_to_a]))
    of_discriminators = optimizer_of(run, model.discriminator)
    steps = max(len(first.pixels), len(second.pixels)) // config.batch_size
    steps = config.steps_per_epoch or max(steps, LEAST_STEPS)
    data = Unpaired(first, second, steps * config.batch_size)
    batches = run.loader(data, as_it_is, workers=0)
    compared = [judge_of(config, part, [], process) for part in (second, first)]

    for epoch in run.epochs():
        balance = run.track(GanStats())
        pool_a, pool_b = run.track(Pool()), run.track(Pool())
        for pair in run.batches(batches):
            a, b = (flipped(from_bytes(pixels), config.flip) for pixels in pair)
            with frozen(model.discriminator):
                with run.autocast():
                    fake_b, fake_a = to_b(a), to_a(b)
                    back_a, back_b = model.b_to_a(fake_b), model.a_to_b(fake_a)
                    on_fake = [model.discriminator["a"](fake_a), model.discriminator["b"](fake_b)]
                    pairs = [(back_a, a, 1.0), (back_b, b, 1.0)]
                    if config.identity:
                        pairs += [(model.b_to_a(a), a, config.identity)]
                        pairs += [(model.a_to_b(b), b, config.identity)]
                kept = [weight * F.l1_loss(made.float(), x) for made, x, weight in pairs]
                adversarial = [generator_loss(config.loss, out.float()) for out in on_fake]
                loss = torch.stack(adversarial).sum() + config.cycle * torch.stack(kept).sum()
                run.step(loss, of_generators)
            balance.generator.append(loss.detach())

            with run.autocast():
                on_a, on_b = judge_a(a).float(), judge_b(b).float()
                on_fake_a = model.discriminator["a"](pool_a.exchanged(fake_a)).float()
                on_fake_b = model.discriminator["b"](pool_b.exchanged(fake_b)).float()
            # Halved, so that they learn more slowly than the generators (section 4).
            loss = 0.5 * discriminator_loss(config.loss, on_a, on_fake_a)
            loss = loss + 0.5 * discriminator_loss(config.loss, on_b, on_fake_b)
            run.step(loss, of_discriminators)
            balance.add(loss, torch.stack([on_a, on_b]), torch.stack([on_fake_a, on_fake_b]))

        stop_if_diverged(run)
        made: Any = run.eval_model.eval()
        there = scores_of(made, first, False, compared[0], run)
        back = scores_of(made, second, True, compared[1], run)
        scores = {name: (there[name] + back[name]) / 2 for name in there}
        if process.is_main:
            save_translations(made, [first, second], run, epoch)
        run.finish_epoch(-scores[config.score], **balance.means(), **scores)
    return run.best


def two_domains(config: GanTrainConfig) -> tuple[Pictures, Pictures]:
    """The pictures of trainA and trainB, in one size and with as many colors."""
    folders = [config.data / name for name in DOMAINS]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise DlkitError(f"{missing[0]}: no such folder; cyclegan learns from trainA and trainB")
    listed = [list_pictures(folder, "train") for folder in folders]
    paths = [*listed[0].paths, *listed[1].paths]
    shape = shape_of(paths, config.image_size, config.color)
    if shape.image_size % 4 or shape.image_size < SMALLEST:
        raise DlkitError(
            f"--image-size {shape.image_size}: cyclegan needs a multiple of 4, {SMALLEST} or more"
        )
    domains = [Pictures(part, shape) for part in listed]
    for part in domains:
        part.report()
    return domains[0], domains[1]


@torch.no_grad()
def translated(model: Any, pixels: Tensor, back: bool, run: Run) -> Tensor:
    """uint8 pictures (N, C, S, S) of one domain as ones of the other."""
    done = []
    for part in pixels.split(BATCH):
        with run.autocast():
            made = model.translate(from_bytes(part.to(run.process.device)), back)
        done.append(to_bytes(made).cpu())
    return torch.cat(done)


def scores_of(
    model: Any, source: Pictures, back: bool, judge: FidEvaluator, run: Run
) -> dict[str, float]:
    """How far translated pictures are from the real ones of the other domain."""
    shared = list(run.process.share(range(min(len(source.pixels), judge.config.eval_samples))))
    found, _ = judge.described(translated(model, source.pixels[shared], back, run))
    return judge.compared(found)


def save_translations(model: Any, domains: list[Pictures], run: Run, epoch: int) -> None:
    """samples/epoch-0001.png: pictures, what they become, and these again in their own domain."""
    rows: list[Tensor] = []
    for part, back in zip(domains, (False, True), strict=True):
        there = part.pixels[:SHOWN]
        other = translated(model, there, back, run)
        rows += [*there, *other, *translated(model, other, not back, run)]
    save_grid(rows, sample_path(run.folder, epoch), SHOWN)
