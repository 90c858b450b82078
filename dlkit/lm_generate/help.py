"""The help pages of `dlkit lm-generate`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "prompt file model samples max_tokens temperature top_p seed format output",
        (
            'dlkit lm-generate "ROMEO:" --max-tokens 100',
            'dlkit lm-generate "The capital of" -m english -n 3',
            "dlkit lm-generate --file prompts.txt -f jsonl",
        ),
        of_files=False,
    ),
    "score": Page(
        "lines text model format output",
        (
            'dlkit lm-generate score --text "To be, or not to be"',
            "dlkit lm-generate score sentences.txt -m english",
        ),
    ),
    "fill": Page(
        "text model count format output",
        ('dlkit lm-generate fill "the [MASK] sat" -m hf:google-bert/bert-base-uncased',),
    ),
    "features": Page(
        "text model layer format output",
        ('dlkit lm-generate features "a text" -m run/best.safetensors -f jsonl',),
    ),
    "chat": Page(
        "model user bot turns max_tokens temperature",
        ("dlkit lm-generate chat -m run/best.safetensors",),
    ),
    "train": Page(
        "data tokenizer arch layers width init_from epochs batch_size lr val out resume",
        (
            "dlkit lm-generate train corpus.txt --arch gpt --epochs 10 --out run",
            "dlkit lm-generate train corpus.txt --arch ngram --tokenizer words --out run",
            'dlkit lm-generate "Once upon" -m run/best.safetensors',
        ),
    ),
    "evaluate": Page(
        "texts model split format output",
        ("dlkit lm-generate evaluate book.txt -m english",),
    ),
    "models": Page(examples=("dlkit lm-generate models", "dlkit lm-generate models english")),
}
