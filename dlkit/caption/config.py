"""Settings of `dlkit caption`. Loads no torch."""

DEFAULT_MODEL = "flickr8k"
