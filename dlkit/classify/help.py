"""The help pages of `dlkit classify`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "inputs text model top save format output",
        (
            "dlkit classify photo.jpg",
            "dlkit classify photos/ -m caltech101 --top 3 -o labels.csv",
            'dlkit classify -m reviews --text "never boring"',
        ),
    ),
    "train": Page(
        "data image_size arch init_from epochs batch_size lr val_share out resume",
        (
            "dlkit classify train DATA --arch resnet18 --epochs 30 --out run",
            "dlkit classify train DATA --arch resnet50 --pretrained --out run",
            "dlkit classify photo.jpg -m run/best.safetensors",
        ),
    ),
    "evaluate": Page(
        "data split model folds save format output",
        ("dlkit classify evaluate DATA -m run/best.safetensors --save scores/",),
    ),
    "explain": Page(
        "inputs text model label boxes save format output",
        (
            "dlkit classify explain photo.jpg --save out/",
            'dlkit classify explain -m reviews --text "never boring"',
        ),
    ),
    "features": Page(
        "images model layer pca format output",
        (
            "dlkit classify features photo.jpg --layer list",
            "dlkit classify features photos/ -o photos.npy",
        ),
    ),
    "search": Page(
        "queries folder model top save format output",
        ("dlkit classify search photo.jpg --in photos/ --save hits.png",),
    ),
    "models": Page(examples=("dlkit classify models", "dlkit classify models cifar10")),
}
