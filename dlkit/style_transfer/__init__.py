"""Photographs painted in the style of a picture."""
