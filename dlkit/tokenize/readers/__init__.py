"""Readers of other tools' tokenizer files: one module for each format.

A file is read in full, or refused by the name of the part that is not understood. An assumption
about something that the file does not contain is printed, with the option that changes it.
"""
