"""The help pages of `dlkit embed`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

SIMILAR = Page(
    "words model top format output",
    (
        "dlkit embed king",
        "dlkit embed train corpus.txt --out run",
    ),
    of_files=False,
)
PAGES = {
    "infer": SIMILAR,
    "similar": Page(SIMILAR.main, ("dlkit embed similar king queen --top 5",)),
    "analogy": Page(
        "a b c model cosmul top format output", ("dlkit embed analogy paris france italy --top 3",)
    ),
    "vector": Page(
        "words model format output",
        (
            'dlkit embed vector king "a sentence in quotes" -f jsonl',
            "dlkit embed vector king queen -o vectors.npy",
        ),
    ),
    "odd-one-out": Page(examples=("dlkit embed odd-one-out breakfast cereal dinner lunch",)),
    "plot": Page(
        examples=(
            'dlkit embed plot --words "king queen man woman" -o words.png',
            "dlkit embed plot --groups capitals.txt --lines -o capitals.png",
        )
    ),
    "train": Page(
        "corpus min_count lower words phrases method dim window epochs lr out threads resume",
        (
            "dlkit embed train corpus.txt --out run",
            "dlkit embed train corpus.txt --method fasttext --dim 200 --out run",
            "dlkit embed king -m run/best.safetensors",
        ),
    ),
    "evaluate": Page(examples=("dlkit embed evaluate wordsim353.txt -m run/best.safetensors",)),
    "phrases": Page(examples=("dlkit embed phrases corpus.txt --lower -o joined.txt",)),
    "convert": Page(
        examples=(
            "dlkit embed convert english --to word2vec -o vectors.txt",
            "dlkit embed convert glove.6B.100d.txt -o glove.safetensors --half",
        )
    ),
    "join": Page(
        "models dim weights bucket bits out",
        (
            "dlkit embed join english run/best.safetensors -o c.safetensors",
            "dlkit embed join a.vec run/best.safetensors --dim 50 -o c.safetensors",
        ),
    ),
    "models": Page(examples=("dlkit embed models", "dlkit embed models english")),
}
