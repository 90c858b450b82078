"""Image and text classifiers; `backbones` is for the other vision tasks."""

__all__ = ["backbones"]  # imported when asked for: the commands' help loads no torch
