"""The help pages of `dlkit style-transfer`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "photos style more_styles blend preserve_color steps size output",
        (
            "dlkit style-transfer photo.jpg wave.jpg -o painted.jpg",
            "dlkit style-transfer photos/ wave.jpg --style night.jpg -o painted/",
            "dlkit style-transfer apply paintings photo.jpg --style wave.jpg",
        ),
    ),
    "apply": Page(
        "model photos styles blend strength preserve_color size output",
        (
            "dlkit style-transfer apply paintings photo.jpg --style wave.jpg",
            "dlkit style-transfer apply paintings photos/ --style wave.jpg -o out/",
        ),
    ),
    "train": Page(
        "data images image_size style_size arch features style_weight epochs batch_size lr out"
        " resume",
        (
            "dlkit style-transfer train wave.jpg --images photos/ --out run",
            "dlkit style-transfer apply run/best.safetensors photo.jpg",
        ),
    ),
    "evaluate": Page(
        "photos style methods pictures size save format output",
        (
            "dlkit style-transfer evaluate photo.jpg wave.jpg -m paintings",
            "dlkit style-transfer evaluate photo.jpg wave.jpg --picture painted.jpg",
        ),
    ),
    "models": Page(
        examples=("dlkit style-transfer models", "dlkit style-transfer models paintings")
    ),
}
