"""samples.txt: what the model writes after each epoch of its training."""

from typing import Any

from dlkit.core.output import whole_file
from dlkit.core.training import Run
from dlkit.lm_generate.infer import Generation, Model, Writing, generate
from dlkit.lm_generate.units import Units


def write_sample(run: Run, epoch: int, units: Units, tokens: int) -> None:
    """Add a text by the model to samples.txt, in place of one of the same epoch."""
    path = run.folder / "samples.txt"
    rule = "-" * 20
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    # After a kill, there may be one of an epoch that is done again.
    before = before.partition(f"{rule} epoch {epoch + 1}\n")[0]
    text = sample(run, units, tokens, run.config.seed + epoch)
    with whole_file(path) as partial:
        partial.write_text(f"{before}{rule} epoch {epoch + 1}\n{text}\n", encoding="utf-8")


def sample(run: Run, units: Units, tokens: int, seed: int) -> str:
    """A text that the model draws from its distribution, from a text's start or a line's end.

    Nothing where the tokenizer has neither.
    """
    network: Any = run.evaluated.eval()
    room = min(tokens, network.context or tokens)
    model = Model(str(run.folder), run.header, units, network)
    (written,) = generate([""], model, Generation(max_tokens=room, seed=seed))
    return written.result().text if isinstance(written, Writing) else ""
