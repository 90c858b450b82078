"""Speed of `dlkit tokenize`: `python -m tests.benchmarks.tokenize TEXT...`.

Whole processes on the same text: training, and encoding a file line by line, against Hugging Face
tokenizers, tiktoken, rustbpe, gigatoken and sentencepiece (its own BPE of the same size, trained on
the first 20 MB), if they are installed; then their memory. dlkit also writes its ids; the others
only compute theirs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dlkit.tokenize import load, train
from dlkit.tokenize.convert import convert
from dlkit.tokenize.pretokenize import PATTERNS
from tests.benchmarks import harness

TRAIN_HUGGING_FACE = """
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
path, kind, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
settings = dict(vocab_size=size, min_frequency=2, show_progress=False)
if kind == "byte-bpe":
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **settings)
elif kind == "bpe":
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        special_tokens=["<unk>"], end_of_word_suffix="</w>", **settings)
else:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]"], **settings)
tokenizer.train([path], trainer)
"""
TRAIN_RUSTBPE = """
import rustbpe
path, size, pattern = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rustbpe.Tokenizer().train_from_iterator(open(path, newline="\\n"), size, pattern=pattern)
"""
TRAIN_GIGATOKEN = """
import gigatoken
gigatoken.train_bpe(sys.argv[1], int(sys.argv[2]), [])
"""
ENCODE_HUGGING_FACE = """
import itertools
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
lines = (line.rstrip("\\n") for line in open(sys.argv[2], newline="\\n"))
while batch := list(itertools.islice(lines, 10000)):
    for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
        encoding.ids
"""
ENCODE_TIKTOKEN = """
import tiktoken
from tiktoken.load import load_tiktoken_bpe
ranks = load_tiktoken_bpe(sys.argv[1])
encoding = tiktoken.Encoding("own", pat_str=sys.argv[3], mergeable_ranks=ranks, special_tokens={})
for line in open(sys.argv[2], newline="\\n"):
    encoding.encode_ordinary(line.rstrip("\\n"))
"""
ENCODE_GIGATOKEN = """
import gigatoken
tokenizer = gigatoken.Tokenizer.from_json(open(sys.argv[1]).read())
tokenizer.encode_batch(open(sys.argv[2], "rb").read().split(b"\\n"))
"""
ENCODE_SENTENCEPIECE = """
import itertools, sentencepiece
processor = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
lines = (line.rstrip("\\n") for line in open(sys.argv[2], newline="\\n"))
while batch := list(itertools.islice(lines, 10000)):
    processor.Encode(batch, num_threads=2)
"""

TRAININGS = [
    ("byte-bpe", 8000),
    ("byte-bpe", 32000),
    ("bpe", 8000),
    ("bpe", 32000),
    ("wordpiece", 30000),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument(
        "--megabytes", type=int, default=20, help="megabytes of text, repeated as needed"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--only", default="", help="benchmarks with this in their name")
    arguments = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "2"  # the number that dlkit uses
    harness.machine(2, "tokenizers", "tiktoken", "rustbpe", "gigatoken", "sentencepiece", "numba")
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        text = b"".join(path.read_bytes() for path in arguments.texts)
        size = arguments.megabytes * 1_000_000
        harness.note(megabytes=arguments.megabytes, distinct_megabytes=round(len(text) / 1e6, 1))
        corpus.write_bytes((text * (size // len(text) + 1))[:size].rpartition(b"\n")[0] + b"\n")
        for kind, vocab_size in TRAININGS:
            compare(f"train {kind} {vocab_size}", training(corpus, kind, vocab_size), arguments)
        compare("encode english-8k", encoding(corpus, Path(folder)), arguments)
        start = {"dlkit": [*dlkit(), "--text", "hello"], "python": [sys.executable, "-c", ""]}
        compare("answer to hello", start, arguments)


def compare(name: str, commands: dict[str, list[str]], arguments: argparse.Namespace) -> None:
    if arguments.only not in name:
        return
    peer = "hugging face" if "hugging face" in commands else "python"
    harness.compare_processes(name, commands, arguments.clock, arguments.repeats, peer)
    for label, command in commands.items():
        harness.note(benchmark=name, contender=label, peak_megabytes=round(peak(command)))


def peak(command: Sequence[str]) -> float:
    """Return the peak resident memory of a process, in megabytes.

    A small process starts it, since memory inherited by a fork is counted, too.
    """
    code = """
import resource, subprocess
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
    return int(subprocess.check_output(script(code, *command))) / 1000


def dlkit(*command: str) -> list[str]:
    return [sys.executable, "-m", "dlkit", "tokenize", *command]


def script(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", f"import sys\n{code}", *map(str, arguments)]


def training(corpus: Path, kind: str, size: int) -> dict[str, list[str]]:
    out = str(corpus.with_name("trained.json"))
    settings = ["-a", kind, "--vocab-size", str(size), "-o", out, "--force"]
    commands = {
        "dlkit": dlkit("train", str(corpus), *settings),
        "hugging face": script(TRAIN_HUGGING_FACE, corpus, kind, size),
    }
    if kind == "byte-bpe" and find_spec("rustbpe"):
        commands["rustbpe"] = script(TRAIN_RUSTBPE, corpus, size, PATTERNS["gpt2"])
    if kind == "byte-bpe" and find_spec("gigatoken"):
        commands["gigatoken"] = script(TRAIN_GIGATOKEN, corpus, size)
    return commands


def encoding(corpus: Path, folder: Path) -> dict[str, list[str]]:
    theirs, ranks = folder / "theirs.json", folder / "own.tiktoken"
    convert(["english-8k"], theirs, "huggingface")
    # tiktoken needs ranks from 0: ids without the special tokens before them.
    convert(["english-8k"], ranks, "tiktoken")
    first = len(load().special)
    lines = (line.split(" ") for line in ranks.read_text().splitlines())
    ranks.write_text("".join(f"{token} {int(rank) - first}\n" for token, rank in lines))
    commands = {
        "dlkit": dlkit(str(corpus), "--ids"),
        "hugging face": script(ENCODE_HUGGING_FACE, theirs, corpus),
    }
    if find_spec("tiktoken"):
        commands["tiktoken"] = script(ENCODE_TIKTOKEN, ranks, corpus, PATTERNS["gpt2"])
    if find_spec("gigatoken"):
        commands["gigatoken"] = script(ENCODE_GIGATOKEN, theirs, corpus)
    with corpus.open(encoding="utf-8", newline="\n") as file:
        some = file.readlines(20_000_000)
    tokenizer = train(some, algorithm="sentencepiece-bpe", vocab_size=8192)
    own, model = folder / "sentencepiece.json", folder / "sentencepiece.model"
    own.write_text(tokenizer.to_json(), encoding="utf-8")
    convert([str(own)], model, "sentencepiece")
    commands["sentencepiece"] = script(ENCODE_SENTENCEPIECE, model, corpus)
    return commands


if __name__ == "__main__":
    main()
