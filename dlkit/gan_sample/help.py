"""The help pages of `dlkit gan-sample`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "count model classes seed truncation output separate scale",
        (
            "dlkit gan-sample",
            "dlkit gan-sample -m faces -n 40 --scale 4 -o faces.jpg",
            "dlkit gan-sample -n 30 --class 3 --class 7 -o some.png",
        ),
    ),
    "interpolate": Page(
        "seeds model classes steps output",
        (
            "dlkit gan-sample interpolate 1 2 0:5 -o way.png",
            "dlkit gan-sample interpolate 1 2 3 -m faces -o way.gif",
        ),
    ),
    "reconstruct": Page(
        "images model steps output separate format",
        ("dlkit gan-sample reconstruct digits/ -m digits-vae -o pairs.png",),
    ),
    "translate-images": Page(
        "images model back image_size save",
        ("dlkit gan-sample translate-images photos/ -m run/best.safetensors --save out/",),
    ),
    "train": Page(
        "data image_size arch latent width init_from epochs steps_per_epoch batch_size lr out"
        " resume",
        (
            "dlkit gan-sample train photos/ --out run",
            "dlkit gan-sample train DATA --arch cgan --out run",
            "dlkit gan-sample -m run/best.safetensors -o grid.png",
        ),
    ),
    "evaluate": Page(
        "data split model samples features format output",
        ("dlkit gan-sample evaluate DATA --split test -m run/best.safetensors",),
    ),
    "models": Page(examples=("dlkit gan-sample models", "dlkit gan-sample models faces")),
}
