"""Hugging Face's tokenizer.json, encoded as its library does: the parts of such a file in turn.

Added tokens are found in the text, the parts between them are normalized, cut into pre-tokens, and
encoded by the model; offsets follow every step. What a file has and these modules do not know is
named (`NotUnderstood`), and encoded by the library itself.
"""
