"""Settings of decoding and their command-line options: beam search, sampling. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from dlkit.core.errors import DlkitError

if TYPE_CHECKING:
    from dlkit.core.generation.sampling import Sampling

BEAM, ALPHA = 5, 0.6  # default beam size and length penalty

LengthPenalty = Annotated[
    float | None,
    typer.Option(
        help="Wu's alpha: 0 ranks by probability, larger values prefer longer texts; default:"
        f" {ALPHA}.",
        min=0,
        rich_help_panel="Search and sampling",
    ),
]
Sample = Annotated[
    bool,
    typer.Option(
        "--sample",
        help="Sample tokens at random instead of searching.",
        rich_help_panel="Search and sampling",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Divisor of the logits: below 1 less random, above 1 more; default: 1.",
        rich_help_panel="Search and sampling",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        help="Sample from this number of most probable tokens only.",
        rich_help_panel="Search and sampling",
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Sample from the fewest tokens that have this probability together.",
        rich_help_panel="Search and sampling",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="The same seed samples the same texts; default: 0.",
        min=0,
        rich_help_panel="Search and sampling",
    ),
]
Scores = Annotated[
    bool,
    typer.Option(
        "--scores",
        help="Also print the log-probability over the length penalty.",
        rich_help_panel="Search and sampling",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of decoding: beam search, or with `sampling` random sampling.

    `count` is the number of texts for each source, which the option `count_option` sets;
    `max_length` the most tokens of one, None for the task's own limit.
    """

    count_option: ClassVar[str]

    beam: int = BEAM
    alpha: float = ALPHA
    count: int = 1
    max_length: int | None = None
    sampling: "Sampling | None" = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampling is None and self.count > self.beam:
            raise DlkitError(
                f"{self.count_option} {self.count}: more than --beam {self.beam}; give --beam"
                f" {self.count} or more"
            )

    @property
    def rows(self) -> int:
        """The number of rows (beams or samples) of a source in a batch."""
        return self.count if self.sampling else self.beam


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
