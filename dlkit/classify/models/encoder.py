"""The convolutional encoder that `dlkit gan-sample train --arch autoencoder` learns, as classifier.

It is the discriminator of Radford, Metz and Chintala 2016 ("DCGAN"): convolutions of stride 2, each
with twice the maps, batch norm everywhere but at the input, leaky ReLU.
"""

from torch import nn

from dlkit.classify.models.network import Network, map_shape

COARSEST = 7  # pixels of the last map's side, at most


def encoder(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    maps: int = 32,
    kernel: int = 4,
) -> Network:
    """`maps` are those of the first convolution."""
    features = nn.Sequential()
    inputs, outputs, side = channels, maps, image_size
    while side > COARSEST:
        normed = inputs != channels
        features.append(nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=not normed))
        if normed:
            features.append(nn.BatchNorm2d(outputs))
        features.append(nn.LeakyReLU(0.2, inplace=True))
        inputs, outputs, side = outputs, 2 * outputs, side // 2
    size, height, width = map_shape(features, channels, image_size)
    head = nn.Sequential(nn.Flatten(), nn.Linear(size * height * width, num_labels))
    return Network(features, head)
