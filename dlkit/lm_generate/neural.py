"""Base class of the neural kinds of language models: what use and training need of each kind."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate.config import ResolvedConfig
from dlkit.lm_generate.data import Windows, loader
from dlkit.lm_generate.language_model import LanguageModel
from dlkit.lm_generate.perplexity import objective_losses
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import Tokenizer

# From a network, ids and targets (B, T), and a carried state, to the mean loss in nats.
Objective = Callable[[Any, Tensor, Tensor, Any], Tensor]


@dataclass
class NeuralLM(LanguageModel):
    """A language model that is a network of torch."""

    name: str
    header: Header
    codec: TextCodec
    network: Any

    writes_samples: ClassVar[bool] = False  # whether training saves texts that it generates

    @property
    def device(self) -> torch.device:
        device: torch.device = self.network.embedding.weight.device
        return device

    @property
    def device_name(self) -> str | None:
        return str(self.device)

    @property
    def process(self) -> Process:
        """This process alone, on the model's device."""
        return Process(0, 1, self.device)

    @property
    def context(self) -> int | None:
        context: int | None = self.network.context
        return context

    @cached_property
    def size(self) -> int:
        rows: int = self.network.embedding.num_embeddings
        return rows

    @torch.inference_mode()
    def losses(self, ids: np.ndarray, stride: int | None) -> np.ndarray:
        length, objective = self.window(self.network.context), self.objective(self.codec)
        return objective_losses(self.network, ids, length, objective, self.process)

    def describe_losses(self, stride: int | None) -> str:
        return "of which a fixed part was masked; windows do not overlap"

    @classmethod
    def special_ids(cls, tokenizer: Tokenizer) -> dict[str, int]:
        """The ids of the special tokens that this kind needs, which the tokenizer may lack."""
        return {}

    @classmethod
    def vocab_size(cls, codec: TextCodec) -> int:
        """Number of ids that a network needs: those of the codec and of `special_ids`."""
        return max([codec.size - 1, *cls.special_ids(codec.tokenizer).values()]) + 1

    @classmethod
    @abstractmethod
    def objective(cls, codec: TextCodec, next_sentence: bool = False) -> Objective:
        """The loss that a network of this kind is trained with."""

    @classmethod
    def window(cls, context: int, next_sentence: bool = False) -> int:
        """Number of ids of the text in a context, which may also hold special tokens."""
        return context

    def batches(
        self, ids: np.ndarray, config: ResolvedConfig, process: Process, epoch: int
    ) -> DataLoader[list[Tensor]]:
        """The batches of an epoch: ids and targets (B, T)."""
        length = self.window(config.context, config.next_sentence)
        return loader(Windows(ids, config, process, epoch, length), process)

    def training_state(self, config: ResolvedConfig, process: Process) -> Any:
        """The state that an epoch carries from batch to batch; None for windows."""
        return None

    def validation_losses(
        self, ids: np.ndarray, config: ResolvedConfig, process: Process
    ) -> np.ndarray:
        """Losses in nats on held-out ids (N): a fast measure while training."""
        length = self.window(config.context, config.next_sentence)
        objective = self.objective(self.codec, config.next_sentence)
        return objective_losses(self.network, ids, length, objective, process)


def special_ids(tokenizer: Tokenizer, names: Sequence[str]) -> dict[str, int]:
    """The tokenizer's ids of these special tokens; missing ones are numbered after its last id."""
    missing = (name for name in names if name not in tokenizer.special)
    own = {name: tokenizer.special[name] for name in names if name in tokenizer.special}
    return own | {name: i for i, name in enumerate(missing, start=max(tokenizer.names) + 1)}


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of targets (B, T) under logits (B, T, V)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
