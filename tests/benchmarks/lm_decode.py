"""Speed of GPTs in generation and training: `python -m tests.benchmarks.lm_decode [--only NAME]`.

decode: tokens per second against transformers' generate, of a GPT-2 small with random weights, at
batch sizes 1 and 16, both sampling from the 50 most probable tokens. Both load the same folder;
dlkit computes in `--precision auto`, transformers in fp32, its default, and in bf16.
train: tokens per second against nanoGPT's loop (`--nanogpt FOLDER` with its model.py) at the same
shape, in fp32 (the only precision of its loop on a CPU) and in bf16.
first: milliseconds until `dlkit lm-generate` prints something, against `python -c "import torch"`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlkit.core.config import Precision
from dlkit.core.generation.sampling import Sampling
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.lm_generate import data, infer
from dlkit.lm_generate.causal_lm import next_token_loss
from dlkit.lm_generate.config import LmTrainConfig, by_arch
from dlkit.lm_generate.model import build
from dlkit.tokenize import train as train_tokenizer
from tests.benchmarks import harness

VOCAB = 50257
LEAST = {"cpu": 2.0, "cuda": 4.0}  # times transformers' speed
PROMPT = "The quick brown fox"


# ---- decode --------------------------------------------------------------------------------------


def write_gpt2(folder: Path) -> None:
    """Write a GPT-2 small with random weights and a tokenizer of the same vocabulary size."""
    import transformers

    torch.manual_seed(0)
    network = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    network.save_pretrained(folder)
    bytes_only = train_tokenizer([PROMPT], algorithm="byte")
    tokens = {**bytes_only.vocab}
    merges = []
    # Tokens that occur in no text: repeated pairs of letters of growing length.
    for left in list(tokens):
        for right in list(tokens):
            if len(tokens) < VOCAB - 1 and left + right not in tokens:
                tokens[left + right] = len(tokens)
                merges.append(f"{left} {right}\n")
    tokens["<|endoftext|>"] = VOCAB - 1
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(merges))


def of_dlkit(folder: Path, batch: int, tokens: int, device: str) -> Callable[[], object]:
    model = infer.load(folder, device)
    how = infer.GenerationConfig(Sampling(top_k=50), max_tokens=tokens, batch_size=batch)

    def work() -> int:
        texts = list(infer.generate([PROMPT] * batch, model, how))
        return sum(
            len(text.result().tokens) for text in texts if isinstance(text, infer.StreamedText)
        )

    return work


def of_transformers(
    folder: Path, batch: int, tokens: int, device: str, dtype: torch.dtype
) -> Callable[[], object]:
    import transformers

    transformers.logging.set_verbosity_error()
    network: Any = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=dtype)
    network.to(device).eval()
    count = len(infer.load(folder, "cpu").codec.encode(PROMPT))
    ids = torch.full((batch, count), 400, device=device)

    def work() -> int:
        grown = network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=50,
            min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0,
        )  # fmt: skip
        return (grown.shape[1] - count) * batch

    return work


def decode(tokens: int, device: str, repeats: int, threads: int, clock: harness.Clock) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_gpt2(folder)
        for batch in (1, 16):
            contenders = {
                "dlkit": partial(of_dlkit, folder, batch, tokens, device),
                "transformers": partial(
                    of_transformers, folder, batch, tokens, device, torch.float32
                ),
                "transformers bf16": partial(
                    of_transformers, folder, batch, tokens, device, torch.bfloat16
                ),
            }
            found = harness.compare_apart(
                f"decode, batch {batch}", contenders, "tokens", batch * tokens, repeats,
                "transformers", threads, clock,
            )  # fmt: skip
            harness.require(found["dlkit"], at_least=LEAST[torch.device(device).type])


# ---- train ---------------------------------------------------------------------------------------

SHAPE: dict[str, Any] = {
    "layers": 6,
    "heads": 6,
    "width": 384,
    "context": 256,
}  # nanoGPT's settings for Shakespeare
CHARACTERS, BATCH = 65, 8


def text_ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, CHARACTERS, 1_000_000).astype(np.uint16)


def train_dlkit(steps: int, device: str, precision: Precision) -> Callable[[], object]:
    out = Path(tempfile.mkdtemp())
    config = by_arch(
        LmTrainConfig(
            data=[], out=out, batch_size=BATCH, steps_per_epoch=steps, epochs=10_000, dropout=0.0,
            device=device, precision=precision, **SHAPE,
        )
    )  # fmt: skip
    process = Process(0, 1, torch.device(device))
    settings = {"vocab_size": CHARACTERS, "dropout": 0.0, **SHAPE}
    model = build("gpt", **settings)
    run = Run(config, process, process.wrap(model), Header("lm-generate", "gpt", settings, []))
    optimizer = run.optimizer(model)
    ids = text_ids()

    def batches(epoch: int) -> Any:
        windows = data.Windows(ids, config, process, epoch, SHAPE["context"])
        return data.loader(windows, process)

    def work() -> float:
        run.done = 0  # each round repeats the first epoch
        for batch, targets in run.batches(batches(run.epoch)):
            with run.autocast():
                loss = next_token_loss(model, batch, targets, None)
            run.step(loss, optimizer)
        return round(loss.item(), 2)

    return work


def train_nanogpt(folder: Path, steps: int, device: str, precision: str) -> Callable[[], object]:
    """nanoGPT's loop with its batches, model and optimizer."""
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    kind = torch.device(device).type
    config = GPTConfig(
        block_size=SHAPE["context"], vocab_size=CHARACTERS, n_layer=SHAPE["layers"],
        n_head=SHAPE["heads"], n_embd=SHAPE["width"], dropout=0.0, bias=True,
    )  # fmt: skip
    model = GPT(config).to(device).train()
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), kind)
    ids, length = text_ids(), SHAPE["context"]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        starts = torch.randint(len(ids) - length, (BATCH,)).tolist()
        given = [torch.from_numpy(ids[i : i + length].astype(np.int64)) for i in starts]
        wanted = [torch.from_numpy(ids[i + 1 : i + 1 + length].astype(np.int64)) for i in starts]
        return torch.stack(given).to(device), torch.stack(wanted).to(device)

    def work() -> float:
        x, y = batch()
        for _ in range(steps):
            with torch.autocast(kind, dtype, enabled=precision != "fp32"):
                _, loss = model(x, y)
            x, y = batch()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return round(loss.item(), 2)

    return work


def train(
    folder: Path, steps: int, device: str, repeats: int, threads: int, clock: harness.Clock
) -> None:
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        found = harness.compare_apart(
            f"train, {precision}",
            {
                "dlkit": partial(train_dlkit, steps, device, precision),
                "nanoGPT": partial(train_nanogpt, folder, steps, device, precision),
            },
            "tokens", steps * BATCH * SHAPE["context"], repeats, "nanoGPT", threads, clock,
        )  # fmt: skip
        harness.require(found["dlkit"], at_least=1.0)


# ---- the first token -----------------------------------------------------------------------------


@contextmanager
def started(command: list[str]) -> Iterator[Any]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_character(command: list[str]) -> float:
    """Return the seconds until a process writes its first byte or ends."""
    start = time.perf_counter()
    with started(command) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        if not first and process.wait() != 0:
            sys.exit(f"{' '.join(command)} failed:\n{process.stderr.read().decode()}")
    return seconds


def first(model: str | None, repeats: int) -> None:
    options = [] if model is None else ["-m", model]
    commands = {
        "dlkit": [sys.executable, "-m", "dlkit", "lm-generate", "Once upon", *options],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    contenders = {label: partial(first_character, command) for label, command in commands.items()}
    rounds = harness.take_turns(contenders, repeats)
    milliseconds = [{label: 1000 * s for label, s in round_.items()} for round_ in rounds]
    found = harness.report("first token", milliseconds, "ms wall", "import torch")
    harness.require(found["dlkit"], at_most=1.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=["decode", "train", "first"])
    parser.add_argument("--nanogpt", type=Path, help="a folder with nanoGPT's model.py")
    parser.add_argument("--model", help="first: a model other than the bundled one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=64, help="decode: tokens per text")
    parser.add_argument("--steps", type=int, default=4, help="train: steps per turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    args = parser.parse_args()
    harness.machine(args.threads, "transformers")
    if args.only in {None, "decode"}:
        decode(args.tokens, args.device, args.repeats, args.threads, args.clock)
    if args.nanogpt is not None and args.only in {None, "train"}:
        train(args.nanogpt, args.steps, args.device, args.repeats, args.threads, args.clock)
    if args.only in {None, "first"}:
        first(args.model, args.repeats)


if __name__ == "__main__":
    main()
