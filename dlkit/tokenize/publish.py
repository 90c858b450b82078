"""Add a trained tokenizer to the bundled ones: `python -m dlkit.tokenize.publish`.

Evaluates the tokenizer on held-out text and writes a card into its header, which
`dlkit tokenize models` and the README quote.
"""

from pathlib import Path
from typing import Annotated

import typer

from dlkit.core.config import option_name
from dlkit.core.io.files import whole_file
from dlkit.core.io.writers import Format, write
from dlkit.core.store.weights import folder
from dlkit.tokenize import load
from dlkit.tokenize.evaluate import TextScores, evaluate_checkpoint


def publish(
    tokenizer: Annotated[Path, typer.Argument(help="A tokenizer's file.")],
    name: Annotated[str, typer.Argument(help="The bundled tokenizer's name.")],
    test: Annotated[Path, typer.Option(help="Held-out text.")],
    data: Annotated[str, typer.Option(help="A description of its training data.")],
    terms: Annotated[str, typer.Option(help="The terms of use of that data.")],
) -> None:
    """Evaluate a tokenizer on held-out text and add it to the bundled ones."""
    trained = load(tokenizer)
    scores = next(evaluate_checkpoint([str(test)], model=str(tokenizer)))
    assert isinstance(scores, TextScores), scores
    trained.header.metrics.update(
        tokens_per_word=scores.tokens_per_word,
        characters_per_token=scores.characters_per_token,
        unknown_rate=scores.unknown_rate,
    )
    settings = dict(trained.header.config)
    corpus = " ".join(map(str, settings.pop("corpus")))
    options = []
    for option, value in settings.items():
        for one in value if isinstance(value, list) else [value]:
            options.append(f"{option_name(option)} '{one}'")
    trained.header.card.update(
        data=data,
        terms=terms,
        command=f"dlkit tokenize train {corpus} {' '.join(options)}",
        seed="none: training draws nothing at random",
        score=f"{scores.tokens_per_word:.3f} tokens a word on {test.name}",
        measure=f"dlkit tokenize evaluate {test} -m {name}",
    )
    target = folder("tokenize") / f"{name}.json"
    with whole_file(target) as partial:
        partial.write_text(trained.to_json(), encoding="utf-8")
    write([scores], Format.text)


if __name__ == "__main__":
    typer.run(publish)
