"""k nearest neighbors (Fix and Hodges 1951): the training images are the model."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_PROBABILITY = 1e-6  # of a label that no neighbor has


class Neighbors(nn.Module):
    """Log share of the votes (B, L) of the k nearest of N stored descriptors.

    Distances are Euclidean. Training fills `descriptors` (N, D) and `labels` (N,).
    """

    def __init__(self, num_labels: int, neighbors: int, stored: int, size: int) -> None:
        super().__init__()
        self.num_labels, self.neighbors = num_labels, neighbors
        self.descriptors: Tensor
        self.labels: Tensor
        self.register_buffer("descriptors", torch.zeros(stored, size))
        self.register_buffer("labels", torch.zeros(stored, dtype=torch.long))

    def forward(self, features: Tensor) -> Tensor:
        distances = torch.cdist(features.flatten(1).float(), self.descriptors.float())
        nearest = distances.topk(min(self.neighbors, len(self.labels)), largest=False).indices
        votes = F.one_hot(self.labels[nearest], self.num_labels).float().mean(dim=1)
        return votes.clamp(min=MIN_PROBABILITY).log()
