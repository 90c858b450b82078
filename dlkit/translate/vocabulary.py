"""The vocabulary of a translator: one tokenizer for both languages, with special tokens."""

from collections.abc import Sequence

from dlkit.tokenize import DecoderVocabulary


class TranslationVocabulary(DecoderVocabulary):
    """A vocabulary that encodes sources as well as targets."""

    def encode_sources(self, sources: Sequence[Sequence[str]], workers: int = 1) -> list[list[int]]:
        """The ids of sources, each a sentence or the turns of a dialogue, from old to new.

        Each turn ends with </s>.
        """
        texts = [turn for turns in sources for turn in turns]
        encoded = iter(self.tokenizer.encode_batch(texts, workers))
        return [[i for _ in turns for i in (*next(encoded), self.eos)] for turns in sources]
