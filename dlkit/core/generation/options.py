"""Command-line options of decoders: beam search and random sampling. Loads no torch."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dlkit.core.errors import DlkitError

BEAM, ALPHA = 5, 0.6  # default beam size and length penalty

LengthPenalty = Annotated[
    float | None,
    typer.Option(
        help="Wu's alpha: 0 ranks by probability, larger values prefer longer texts; default:"
        f" {ALPHA}.",
        min=0,
    ),
]
Sample = Annotated[
    bool, typer.Option("--sample", help="Sample tokens at random instead of searching.")
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Divisor of the logits: below 1 less random, above 1 more; default: 1."),
]
TopK = Annotated[
    int | None, typer.Option(help="Sample from this number of most probable tokens only.")
]
TopP = Annotated[
    float | None,
    typer.Option(help="Sample from the fewest tokens that have this probability together."),
]
Seed = Annotated[
    int | None, typer.Option(help="The same seed samples the same texts; default: 0.", min=0)
]
Scores = Annotated[
    bool,
    typer.Option("--scores", help="Also print the log-probability over the length penalty."),
]


def search_settings(
    sample: bool,
    beam: int | None,
    length_penalty: float | None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    default_beam: int = BEAM,
) -> dict[str, Any]:
    """The arguments `beam`, `alpha`, `sampling` and `seed` of a task's `Search`.

    Raises DlkitError for an option that has no effect with, or without, `--sample`.
    """
    from dlkit.core.generation.sampling import Sampling

    search = {"--beam": beam, "--length-penalty": length_penalty}
    sampling = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--seed": seed}
    refuse_given(search if sample else sampling, "--sample", sample)
    return {
        "beam": default_beam if beam is None else beam,
        "alpha": ALPHA if length_penalty is None else length_penalty,
        "sampling": Sampling(
            temperature=1.0 if temperature is None else temperature,
            top_k=top_k or 0,
            top_p=1.0 if top_p is None else top_p,
        )
        if sample
        else None,
        "seed": seed or 0,
    }


def refuse_given(options: Mapping[str, object], other: str, present: bool) -> None:
    """Raise DlkitError for an option that was given, but has no effect with or without `other`."""
    for name, value in options.items():
        if value is not None:
            reason = f"with {other}; remove one" if present else f"without {other}; add it"
            raise DlkitError(f"{name}: has no effect {reason}")
