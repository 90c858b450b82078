"""The help pages of `dlkit translate`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "files text model beam n_best sample alignment format output",
        (
            'dlkit translate --text "Two dogs run on the beach."',
            "dlkit translate sentences.txt -m en-fr -o french.txt",
            "dlkit translate sentences.txt -f jsonl",
        ),
    ),
    "align": Page(
        examples=('dlkit translate align "Two dogs run on the beach." --save alignment.png',)
    ),
    "train": Page(
        "data source target val_source val_target tokenizer arch init_from"
        " epochs batch_size lr out resume",
        (
            "dlkit translate train pairs.tsv --out run",
            "dlkit translate train --source train.en --target train.de --out run --resume",
            "dlkit translate sentences.txt -m run/best.safetensors",
        ),
    ),
    "evaluate": Page(
        "source ref hyp model beam worst format output",
        ("dlkit translate evaluate --source test.en --ref test.de -m en-de",),
    ),
    "models": Page(examples=("dlkit translate models", "dlkit translate models en-de")),
}
