"""Tokenizers: text to ids and back, without torch.

>>> from dlkit.tokenize import load, tokenize
>>> tokenize("hello").ids
[260, 807, 81]
>>> load().decode([260, 807, 81])
'hello'

`load` takes a tokenizer's name, file or URL, `read` reads other tools' files, `train` learns a
tokenizer from texts, and `evaluate` scores one on text files. A `DecoderVocabulary` adds padding,
start, end and unknown tokens.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.tokenize.api import Config, evaluate, load, tokenize, train
    from dlkit.tokenize.config import TokenizeTrainConfig
    from dlkit.tokenize.convert import read
    from dlkit.tokenize.evaluate import TextScores
    from dlkit.tokenize.infer import EncodedLine
    from dlkit.tokenize.model import Tokenizer
    from dlkit.tokenize.vocabulary import DecoderVocabulary

__all__ = [
    "Config",
    "DecoderVocabulary",
    "EncodedLine",
    "TextScores",
    "TokenizeTrainConfig",
    "Tokenizer",
    "evaluate",
    "load",
    "read",
    "tokenize",
    "train",
]
install(
    __name__,
    __all__,
    config=["TokenizeTrainConfig"],
    convert=["read"],
    evaluate=["TextScores"],
    infer=["EncodedLine"],
    model=["Tokenizer"],
    vocabulary=["DecoderVocabulary"],
)
