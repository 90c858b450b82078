"""`dlkit data`: check, convert, split and fetch data sets.

Tasks do not use it: they read data sets with `dlkit.core.datasets`.
"""
