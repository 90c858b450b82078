"""Tokenizers: `load` one by name or file, or `train` one on texts of your own."""

from dlkit.tokenize.infer import load
from dlkit.tokenize.model import Tokenizer, from_json
from dlkit.tokenize.train import train

__all__ = ["Tokenizer", "from_json", "load", "train"]
