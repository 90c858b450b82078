"""Tokenizers: `load` one by name or file, `read` one of another tool's files, or `train` one."""

from dlkit.tokenize.convert import read
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import Tokenizer, from_json
from dlkit.tokenize.train import train

__all__ = ["Tokenizer", "from_json", "load", "read", "train"]
