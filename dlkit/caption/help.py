"""The help pages of `dlkit caption`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "images model count beam sample annotate format output",
        (
            "dlkit caption photo.jpg",
            "dlkit caption photo.jpg -n 3 --scores",
            "dlkit caption photos/ --annotate out/",
        ),
    ),
    "attention": Page(
        "image model save format output",
        ("dlkit caption attention photo.jpg --save panels.png",),
    ),
    "train": Page(
        "data image_size arch backbone init_from tokenizer epochs batch_size lr out resume",
        (
            "dlkit caption train DATA --epochs 20 --out run",
            "dlkit caption train DATA --epochs 20 --out run --resume",
            "dlkit caption photo.jpg -m run/best.safetensors",
        ),
    ),
    "evaluate": Page(
        "data split model save format output",
        ("dlkit caption evaluate DATA -m run/best.safetensors --save scores/",),
    ),
    "models": Page(examples=("dlkit caption models", "dlkit caption models flickr8k")),
}
