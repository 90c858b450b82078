"""The help pages of `dlkit segment`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "images model tile tta classes save save_as format output",
        (
            "dlkit segment street.jpg --save out/",
            "dlkit segment photos/ --classes Road,Car -f jsonl",
            "dlkit segment photo.jpg -m maskrcnn-coco --save out/",
        ),
    ),
    "train": Page(
        "data image_size task arch backbone init_from epochs batch_size lr crop out resume",
        (
            "dlkit segment train DATA --epochs 60 --crop 288 --out run",
            "dlkit segment train DATA --epochs 60 --crop 288 --out run --resume",
            "dlkit segment photo.jpg -m run/best.safetensors --save out/",
        ),
    ),
    "evaluate": Page(
        "data split model save format output",
        ("dlkit segment evaluate DATA -m run/best.safetensors --save scores/",),
    ),
    "models": Page(examples=("dlkit segment models", "dlkit segment models street")),
}
