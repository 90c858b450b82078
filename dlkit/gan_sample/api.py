"""`load`, `gan_sample`, `train` and `evaluate` in Python. Loads no torch until they are called."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from dlkit.core import api
from dlkit.core.api import Model, Scores
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.gan_sample.config import DEFAULT_MODEL, GanTrainConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dlkit.gan_sample.infer import Sampler
    from dlkit.gan_sample.samples import Samples

Config = GanTrainConfig
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model["Sampler"], "Sampler"]
COUNT = 16  # pictures that are drawn by default


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
) -> Model["Sampler"]:
    """Load a model that samples from noise by name, file or URL.

    It is called like `gan_sample`, and is not loaded twice. `labels` are its classes, if any.

    >>> from dlkit.gan_sample import load
    >>> sampler = load("faces")
    >>> len(sampler(9, seed=1)), sampler.labels
    (9, [])
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), gan_sample)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> "Sampler":
    from dlkit.gan_sample import infer

    return infer.load(model, device, precision)


def gan_sample(
    count: int | None = None,
    model: AnyModel = DEFAULT_MODEL,
    *,
    seed: int = 0,
    classes: str | Sequence[str] | None = None,
    truncation: float | None = None,
    latents: "np.ndarray | Tensor | None" = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> "Samples":
    """Generate pictures from noise: `count` of them, 16 by default.

    The options are those of `dlkit gan-sample`. Picture i depends only on the seed and i; a model
    with classes draws them in turn, or those of `classes`. `latents` are vectors (N, Z) to use
    instead of random ones, such as the `latents` of another result. `model` is a name, a file or
    what `load` returned.

    The result is a sequence of PIL images, with their `labels` and `latents`.

    >>> from dlkit.gan_sample import gan_sample
    >>> some = gan_sample(4, "cifar10", classes=["cat", "ship"])
    >>> some.labels, some.pixels.shape
    (['cat', 'ship', 'cat', 'ship'], torch.Size([4, 3, 32, 32]))
    >>> same = gan_sample(model="cifar10", classes=["cat", "ship"], latents=some.latents)
    >>> bool((same.pixels == some.pixels).all())
    True
    """
    api.check_ranges(count=(count, 1, None), seed=(seed, 0, None), truncation=(truncation, 0, None))
    if latents is not None and (seed or truncation is not None):
        raise DlkitError("seed and truncation are for random vectors; remove them, or latents")
    names = [classes] if isinstance(classes, str) else classes
    sampler = api.loaded_model(model, load_once, device, precision)

    import numpy as np

    from dlkit.gan_sample import infer, vector_files
    from dlkit.gan_sample.samples import draw_samples

    indices = infer.class_indices(sampler, names)
    if latents is None:
        vectors = infer.seeded_vectors(sampler, seed, truncation)
        return draw_samples(sampler, count or COUNT, vectors, indices)
    rows = vector_files.checked(np.asarray(latents), sampler.network.latent)
    if count is not None and count > len(rows):
        raise DlkitError(f"count={count}: there are {len(rows)} latents; give fewer")
    return draw_samples(sampler, count or len(rows), infer.stored_vectors(rows), indices)


def train(config: GanTrainConfig) -> Path:
    """Train a model; return the path of its best checkpoint, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.gan_sample import Config, gan_sample, train
    >>> best = train(Config(data="bars", arch="gan", hidden=20, epochs=1, eval_samples=20))
    >>> gan_sample(4, best).pixels.shape
    torch.Size([4, 1, 16, 16])
    """
    from dlkit.gan_sample.train import train

    return api.train_with(train, config)


def evaluate(
    data: str | os.PathLike[str],
    split: str = "test",
    model: str | os.PathLike[str] | Model["Sampler"] = DEFAULT_MODEL,
    *,
    samples: int | None = None,
    network: str = "auto",
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    allow_skipped: float | None = None,
) -> Scores:
    """The distances of a model's pictures from real ones, such as the FID.

    `samples` is the largest number of pictures to compare, `network` the classifier whose features
    are compared. A DlkitError is raised where more than the share `allow_skipped` of the real
    pictures cannot be used.

    >>> from dlkit.gan_sample import evaluate
    >>> scores = evaluate("bars", "test", "digits", samples=10)
    >>> scores["fid"] > 0
    True
    """
    from dlkit.gan_sample.evaluate import evaluate_checkpoint

    return api.evaluate_with(
        evaluate_checkpoint,
        data,
        split,
        model,
        None,
        0,
        device,
        precision,
        samples=samples,
        network=network,
        seed=seed,
        allow_skipped=allow_skipped,
    )
