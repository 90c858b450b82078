"""Sentences as ids: one tokenizer for both languages, and the tokens that frame a sentence."""

from collections.abc import Sequence

from dlkit import tokenize


class Vocabulary(tokenize.DecoderVocabulary):
    """What a translator reads and writes."""

    def encode_sources(self, sources: Sequence[Sequence[str]], workers: int = 1) -> list[list[int]]:
        """The ids of sources, each the turns of a dialogue, or one sentence; </s> ends each turn.

        The turns stand in their order, the newest last.
        """
        texts = [turn for turns in sources for turn in turns]
        encoded = iter(self.tokenizer.encode_batch(texts, workers))
        return [[i for _ in turns for i in (*next(encoded), self.eos)] for turns in sources]
