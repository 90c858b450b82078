"""Dialogues with a model that was trained on dialogues: who speaks stands at the start of a line.

    User: How are you?
    Bot: Fine, and you?

Loads no torch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TextIO

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.lm_generate.infer import Generation, Model, Writing, generate


@dataclass(frozen=True)
class Reply:
    """What the model answered to the message of this turn."""

    turn: int
    message: str
    reply: str
    finish: str
    logprob: float | None

    def rows(self) -> list[dict[str, Any]]:
        return [{"turn": self.turn, "message": self.message, "reply": self.reply}]


@dataclass(frozen=True)
class Speakers:
    """What lines begin with: those of the one who writes, and those of the model."""

    user: str = "User:"
    bot: str = "Bot:"


class Dialogue:
    """What was said, and what the model sees of it."""

    def __init__(
        self, model: Model, speakers: Speakers, turns: int | None, max_tokens: int
    ) -> None:
        """The model sees the last `turns` exchanges; by default all that its context holds."""
        self.model, self.speakers, self.turns = model, speakers, turns
        self.max_tokens = max_tokens
        self.exchanges: list[tuple[str, str]] = []

    def prompt(self, message: str) -> str:
        """The dialogue up to where the model is to answer this message.

        What the context cannot hold together with the answer goes exchange by exchange.
        """
        seen = self.exchanges
        if self.turns is not None:
            seen = seen[len(seen) - self.turns :] if self.turns else []
        while seen and not self.fits(self.written(seen, message)):
            seen = seen[1:]
        return self.written(seen, message)

    def fits(self, prompt: str) -> bool:
        context = getattr(self.model.network, "context", None)
        return context is None or len(self.model.prompt_ids(prompt)) + self.max_tokens <= context

    def written(self, exchanges: list[tuple[str, str]], message: str) -> str:
        user, bot = self.speakers.user, self.speakers.bot
        lines = [line for m, r in exchanges for line in (spoken(user, m), spoken(bot, r))]
        return "\n".join([*lines, spoken(user, message), bot])


def spoken(speaker: str, text: str) -> str:
    return f"{speaker} {text}" if speaker else text


class Answer:
    """A reply as it is written: its pieces, then the `result`."""

    def __init__(self, turn: int, message: str, writing: Writing, dialogue: Dialogue) -> None:
        self.turn, self.message = turn, message
        self.writing, self.dialogue = writing, dialogue

    def __iter__(self) -> Iterator[str]:
        """The pieces, without white space around them all."""
        space = ""
        began = False
        for piece in self.writing:
            text = space + piece
            text = text if began else text.lstrip()
            bare = text.rstrip()
            space = text[len(bare) :]
            began = began or bool(bare)
            if bare:
                yield bare

    def result(self) -> Reply:
        whole = self.writing.result()
        reply = whole.text.strip()
        return Reply(self.turn, self.message, reply, whole.finish, whole.logprob)


def chat(
    messages: Iterable[str],
    model: Model,
    how: Generation,
    speakers: Speakers = Speakers(),
    turns: int | None = None,
) -> Iterator[Answer | Failure]:
    """Answer each message, in the light of what was said before."""
    if how.samples != 1:
        raise DlkitError("a dialogue has one answer to a message")
    dialogue = Dialogue(model, speakers, turns, how.max_tokens)
    heard: list[str] = []

    def prompts() -> Iterator[str]:
        for message in messages:
            if message.strip():
                heard.append(message.strip())
                yield dialogue.prompt(heard[-1])

    # One prompt at a time: the next one holds the answer to this one.
    one_by_one = replace(how, batch_size=1, stop=(*how.stop, "\n"))
    for turn, writing in enumerate(generate(prompts(), model, one_by_one)):
        if isinstance(writing, Failure):
            yield writing
            continue
        answer = Answer(turn, heard[-1], writing, dialogue)
        yield answer
        dialogue.exchanges.append((heard[-1], answer.result().reply))


def write_replies(answers: Iterable[Answer | Failure], file: TextIO) -> None:
    """A reply a line, as it is written."""
    for answer in answers:
        if isinstance(answer, Answer):
            for piece in answer:
                file.write(piece)
                file.flush()
            file.write("\n")
            file.flush()


def replies(answers: Iterable[Answer | Failure]) -> Iterator[Reply | Failure]:
    """The replies, each once it is complete."""
    return (a.result() if isinstance(a, Answer) else a for a in answers)
