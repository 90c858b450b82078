"""Pictures from noise, with GANs and VAEs.

>>> from dlkit.gan_sample import gan_sample
>>> digits = gan_sample(count=40, model="digits")
>>> digits.save("digits.png", scale=2).name, digits[3].size, digits.labels[3]
('digits.png', (28, 28), '3')

`load` prepares a model that is used many times, `train(Config(...))` trains one, and `evaluate`
scores one against real pictures.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.gan_sample.api import Config, evaluate, gan_sample, load, train
    from dlkit.gan_sample.config import GanTrainConfig
    from dlkit.gan_sample.samples import Samples

__all__ = ["Config", "GanTrainConfig", "Samples", "evaluate", "gan_sample", "load", "train"]
install(__name__, __all__, config=["GanTrainConfig"], samples=["Samples"])
