"""The help pages of `dlkit detect`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "images model threshold labels count track save format output",
        (
            "dlkit detect photo.jpg",
            "dlkit detect photos/ --labels cat,dog --save out/",
            "dlkit detect clip.mp4 --track -f jsonl",
        ),
    ),
    "train": Page(
        "data image_size arch size init_from epochs batch_size lr patience out resume",
        (
            "dlkit detect train DATA --epochs 50 --out run",
            "dlkit detect train DATA --epochs 50 --out run --resume",
            "dlkit detect photo.jpg -m run/best.safetensors",
        ),
    ),
    "evaluate": Page(
        "data split model save format output",
        ("dlkit detect evaluate DATA -m run/best.safetensors --save scores/",),
    ),
    "models": Page(examples=("dlkit detect models", "dlkit detect models animals")),
}
