"""Speed of counting n-grams: `python -m tests.benchmarks.lm_ngram TEXT --lmplz PROGRAM`.

Whole processes that estimate a modified Kneser-Ney model of order 5 on the same words, against
lmplz of KenLM as its CMakeLists.txt builds it; --megabytes 100 --memory 0.5 shows the memory. Words
that occur once are replaced, since a tokenizer does not learn them. lmplz writes an ARPA file,
dlkit its own format; `dlkit, ARPA too` writes both. Without --lmplz only dlkit is timed.
"""

import argparse
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from dlkit.core.io import text
from tests.benchmarks import harness

ORDER = 5
RARE = "rare-word"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="+")
    parser.add_argument("--lmplz", type=Path)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--memory", type=float, default=2.0, help="gigabytes, for both")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    harness.machine(2, "numba", "numpy")
    with tempfile.TemporaryDirectory() as name:
        measure(options, Path(name))


def measure(options: argparse.Namespace, folder: Path) -> None:
    # In its own process: a command started by a large process would be measured as equally large.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        job = pool.submit(prepare, options.text, options.megabytes, folder / "text.txt")
        harness.note(words=job.result())
    train = (
        f"rm -rf {folder}/run && {shlex.quote(sys.executable)} -m dlkit lm-generate train"
        f" {folder}/text.txt --arch ngram --order {ORDER} --tokenizer whitespace"
        f" --vocab-size 10000000 --val-share 0 --memory {options.memory} --out {folder}/run"
    )
    commands = {"dlkit": train, "dlkit, ARPA too": f"{train} --arpa"}
    if options.lmplz:
        commands["lmplz"] = (
            f"{options.lmplz} -o {ORDER} -S {round(1024 * options.memory)}M -T {folder}"
            f" --text {folder}/text.txt --arpa {folder}/lmplz.arpa"
        )
    contenders = {label: ["sh", "-c", command] for label, command in commands.items()}
    peer = "lmplz" if options.lmplz else None
    name = f"Kneser-Ney of order {ORDER}, {options.megabytes:g} MB"
    measured = harness.compare_processes(name, contenders, options.clock, options.repeats, peer)
    if peer:
        harness.require(measured["dlkit"], at_most=2)
        harness.require(measured["dlkit, ARPA too"], at_most=2)
    for label, command in contenders.items():
        harness.note(contender=label, peak_megabytes=round(peak(command)))


def peak(command: list[str]) -> float:
    """Return the peak resident memory of a command and its children, file pages included."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    return used.ru_maxrss / 1024


def prepare(sources: list[str], megabytes: float, target: Path) -> int:
    """Write `megabytes` of the texts; if they are shorter, also their lines with reversed words.

    A reversed text has the same number of n-grams, but others. Returns the number of words.
    """
    lines = [line.split() for source in text.files(sources) for line in text.lines(source)]
    left = int(megabytes * 1e6)
    written = []
    for line in [*lines, *(line[::-1] for line in lines)]:
        left -= sum(map(len, line)) + len(line)
        if left < 0:
            break
        written.append(line)
    counts = Counter(word for line in written for word in line)
    with target.open("w", encoding="utf-8") as file:
        for line in written:
            file.write(" ".join(word if counts[word] > 1 else RARE for word in line) + "\n")
    return sum(counts.values())


if __name__ == "__main__":
    main()
