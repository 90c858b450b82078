"""The convolutional encoder of `dlkit gan-sample train --arch autoencoder`, as a classifier.

It is the discriminator of DCGAN (Radford, Metz and Chintala 2016): convolutions of stride 2, each
with twice the channels, batch norm after all but the first, leaky ReLU.
"""

from torch import nn

from dlkit.classify.models.network import Architecture, Network, map_shape

MAX_LAST_SIDE = 7  # pixels per side of the last map


def encoder(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    maps: int = 32,
    kernel: int = 4,
) -> Network:
    """Build the encoder with a linear head; `maps` are the channels of the first convolution."""
    features = nn.Sequential()
    inputs, outputs, side = channels, maps, image_size
    while side > MAX_LAST_SIDE:
        has_norm = inputs != channels
        features.append(nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=not has_norm))
        if has_norm:
            features.append(nn.BatchNorm2d(outputs))
        features.append(nn.LeakyReLU(0.2, inplace=True))
        inputs, outputs, side = outputs, 2 * outputs, side // 2
    size, height, width = map_shape(features, channels, image_size)
    head = nn.Sequential(nn.Flatten(), nn.Linear(size * height * width, num_labels))
    return Network(features, head)


ARCHITECTURES = {"encoder": Architecture(encoder)}
