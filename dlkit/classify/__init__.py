"""Image and text classifiers; for the other vision tasks: trained ones, whole (`infer`, `features`)
or as the first part of a network (`backbones`).
"""

__all__ = ["backbones", "features", "infer"]  # imported when asked for: help loads no torch
