"""Image and text classification.

Other vision tasks use trained classifiers whole (`infer`, `features`) or as the backbone of their
networks (`backbones`).
"""

__all__ = ["backbones", "features", "infer"]  # imported on demand, so that help loads no torch
