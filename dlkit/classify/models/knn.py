"""k nearest neighbors (Fix and Hodges 1951): the training images themselves are the model."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST = 1e-6  # probability of a label that no neighbor has


class Neighbors(nn.Module):
    """Log of the share of votes (B, L) that labels have among the k nearest of N descriptors.

    Distances are Euclidean. `descriptors` (N, D) and `labels` (N,) are filled by training.
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
        return votes.clamp(min=LEAST).log()
