"""Tokenizers: `load` one by name or file, `read` one of another tool's files, or `train` one.

A `DecoderVocabulary` adds padding, start, end and unknown tokens.
"""

from dlkit.tokenize.convert import read
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import Tokenizer
from dlkit.tokenize.train import train
from dlkit.tokenize.vocabulary import DecoderVocabulary

__all__ = ["DecoderVocabulary", "Tokenizer", "load", "read", "train"]
