"""Causal language models: each token is predicted from those before it.

Shapes: B texts, T tokens, N ids of a text.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dlkit.core.parallel.distributed import Process
from dlkit.lm_generate import perplexity, scoring
from dlkit.lm_generate.config import ResolvedConfig
from dlkit.lm_generate.data import Streams, loader
from dlkit.lm_generate.models.language_model import NextTokenNetwork
from dlkit.lm_generate.neural import NeuralLM, Objective, cross_entropy
from dlkit.lm_generate.neural_texts import NeuralTexts
from dlkit.lm_generate.text_codec import TextCodec

VALIDATION_STREAMS = 16  # parts of the text that are read side by side, each with an empty state


def next_token_loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
    """Mean cross-entropy of the tokens after ids."""
    return cross_entropy(network(ids, state), targets)


class CausalLM(NeuralLM):
    """A model of the next token.

    A network with a `context` (gpt) reads windows of a text; one without (recurrent networks and
    bengio) reads a text as a stream.
    """

    network: NextTokenNetwork

    verbs: ClassVar[frozenset[str]] = frozenset({"generate", "score"})
    writes_samples: ClassVar[bool] = True

    @property
    def sliding_context(self) -> int | None:
        return self.context

    def start_texts(self, prompts: Sequence[list[int]], max_tokens: int) -> NeuralTexts:
        return NeuralTexts(self.network, prompts, max_tokens, self.banned)

    def token_logprobs(self, texts: Sequence[list[int]]) -> list[list[float]]:
        return scoring.logprobs(texts, self.network, self.start_ids)

    @torch.inference_mode()
    def losses(self, ids: np.ndarray, stride: int | None) -> np.ndarray:
        if self.context is None:
            return perplexity.stream_losses(self.network, ids, self.process)
        stride = stride or max(self.context // 2, 1)
        return perplexity.window_losses(self.network, ids, self.context, stride, self.process)

    def describe_losses(self, stride: int | None) -> str:
        if self.context is None:
            return "each predicted from all before it"
        least = self.context - (stride or max(self.context // 2, 1))
        return f"each predicted from at least {least} tokens before it, at most {self.context}"

    @classmethod
    def objective(cls, codec: TextCodec, next_sentence: bool = False) -> Objective:
        return next_token_loss

    def batches(
        self, ids: np.ndarray, config: ResolvedConfig, process: Process, epoch: int
    ) -> DataLoader[list[Tensor]]:
        if self.context is not None:
            return super().batches(ids, config, process, epoch)
        step = self.network.stream_step(config.context)
        return loader(Streams(ids, config, process, epoch, step), process)

    def training_state(self, config: ResolvedConfig, process: Process) -> Any:
        if self.context is not None:
            return None
        streams = config.batch_size // process.world_size // config.accumulate
        return self.network.start(streams, config.context)

    def validation_losses(
        self, ids: np.ndarray, config: ResolvedConfig, process: Process
    ) -> np.ndarray:
        """Losses of windows that do not overlap, or of streams."""
        if self.context is None:
            return perplexity.stream_losses(self.network, ids, process, VALIDATION_STREAMS)
        length = config.context
        return perplexity.window_losses(self.network, ids, length, length, process)
