"""Tokenizers: `load` one by name or file, `read` one of another tool's files, or `train` one.

A `Vocabulary` is one with the ids that frame a text.
"""

from dlkit.tokenize.convert import read
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import Tokenizer, from_json
from dlkit.tokenize.train import train
from dlkit.tokenize.vocabulary import Vocabulary

__all__ = ["Tokenizer", "Vocabulary", "from_json", "load", "read", "train"]
