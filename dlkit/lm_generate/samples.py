"""samples.txt: a text that the model generates after each epoch of its training."""

from dataclasses import replace

from dlkit.core.failures import Failure
from dlkit.core.train.run import Run
from dlkit.lm_generate.infer import GenerationConfig, generate
from dlkit.lm_generate.neural import NeuralLM


def write_sample(run: Run, epoch: int, model: NeuralLM, tokens: int) -> None:
    """Add a text by the model to samples.txt, in place of one of the same epoch."""
    run.add_sample(sample(replace(model, network=run.eval_model), tokens, run.config.seed + epoch))


def sample(model: NeuralLM, tokens: int, seed: int) -> str:
    """Sample a text from the model's distribution, after the start of a text or the end of a line.

    The text is empty where the tokenizer has a token for neither.
    """
    model.network.eval()
    room = min(tokens, model.context or tokens)
    (text,) = generate([""], model, GenerationConfig(max_tokens=room, seed=seed))
    return "" if isinstance(text, Failure) else text.result().text
