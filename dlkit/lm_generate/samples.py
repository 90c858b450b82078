"""samples.txt: what the model writes after each epoch of its training."""

from typing import Any

from dlkit.core.train.run import Run
from dlkit.lm_generate.infer import Generation, Model, Writing, generate
from dlkit.lm_generate.text_codec import TextCodec


def write_sample(run: Run, epoch: int, units: TextCodec, tokens: int) -> None:
    """Add a text by the model to samples.txt, in place of one of the same epoch."""
    run.add_sample(sample(run, units, tokens, run.config.seed + epoch))


def sample(run: Run, units: TextCodec, tokens: int, seed: int) -> str:
    """A text that the model draws from its distribution, from a text's start or a line's end.

    Nothing where the tokenizer has neither.
    """
    network: Any = run.eval_model.eval()
    room = min(tokens, network.context or tokens)
    model = Model(str(run.folder), run.header, units, network)
    (written,) = generate([""], model, Generation(max_tokens=room, seed=seed))
    return written.result().text if isinstance(written, Writing) else ""
