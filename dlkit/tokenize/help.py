"""The help pages of `dlkit tokenize`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "infer": Page(
        "texts text model ids offsets format output force",
        (
            'dlkit tokenize --text "Tokenizers cut text into tokens."',
            "dlkit tokenize sentences.txt --ids -o ids.txt",
            "dlkit tokenize sentences.txt -m english-wordpiece-8k -f jsonl",
        ),
    ),
    "decode": Page(examples=('dlkit tokenize decode --text "53 291 294"',)),
    "show": Page(examples=("dlkit tokenize show hugs", "dlkit tokenize show --merges")),
    "train": Page(
        "corpus algorithm vocab_size split normalize special out force",
        (
            "dlkit tokenize train corpus.txt --vocab-size 8000 -o tokenizer.json",
            "dlkit tokenize sentences.txt -m tokenizer.json",
        ),
    ),
    "count": Page(
        "texts model whole format output",
        (
            "dlkit tokenize count sentences.txt -m english-8k -m english-wordpiece-8k",
            "dlkit tokenize count sentences.txt --whole -f jsonl",
        ),
    ),
    "evaluate": Page(
        "texts model format output",
        ("dlkit tokenize evaluate sentences.txt -m english-8k",),
    ),
    "convert": Page(
        examples=(
            "dlkit tokenize convert english-8k --to huggingface -o theirs.json",
            "dlkit tokenize convert vocab.json merges.txt -o gpt2.json",
        )
    ),
    "extend": Page(
        "model add file network out force",
        ("dlkit tokenize extend english-8k --add electrolyte -o larger.json",),
    ),
    "prune": Page(
        "model corpus size network out force",
        ("dlkit tokenize prune english-8k sentences.txt --size 2000 -o smaller.json",),
    ),
    "models": Page(examples=("dlkit tokenize models", "dlkit tokenize models english-8k")),
}
