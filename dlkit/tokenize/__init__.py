"""Tokenizers: text to ids and back, without torch.

>>> from dlkit.tokenize import load
>>> load().encode("hello")
[260, 807, 81]

`load` takes a tokenizer's name, file or URL, `read` reads other tools' files, and `train` learns a
tokenizer from texts. A `DecoderVocabulary` adds padding, start, end and unknown tokens.
"""

from dlkit.tokenize.convert import read
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import Tokenizer
from dlkit.tokenize.train import train
from dlkit.tokenize.vocabulary import DecoderVocabulary

__all__ = ["DecoderVocabulary", "Tokenizer", "load", "read", "train"]
