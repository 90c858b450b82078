"""Dialogues with a model that was trained on dialogues whose lines begin with the speaker.

    User: How are you?
    Bot: Fine, and you?

Loads no torch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TextIO

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.lm_generate.infer import GenerationConfig, StreamedText, generate
from dlkit.lm_generate.language_model import LanguageModel


@dataclass(frozen=True)
class Reply:
    """The model's reply to the message of a turn."""

    turn: int
    message: str
    reply: str
    finish: str
    logprob: float | None

    def rows(self) -> list[dict[str, Any]]:
        return [{"turn": self.turn, "message": self.message, "reply": self.reply}]


@dataclass(frozen=True)
class Speakers:
    """The beginnings of the user's lines and of the model's."""

    user: str = "User:"
    bot: str = "Bot:"


class Dialogue:
    """The exchanges so far, and the part of them that the model sees."""

    def __init__(
        self, model: LanguageModel, speakers: Speakers, turns: int | None, max_tokens: int
    ) -> None:
        """The model sees the last `turns` exchanges; by default all that its context holds."""
        self.model, self.speakers, self.turns = model, speakers, turns
        self.max_tokens = max_tokens
        self.exchanges: list[tuple[str, str]] = []

    def prompt(self, message: str) -> str:
        """The dialogue up to the model's reply to this message.

        The oldest exchanges are dropped until the context holds the dialogue and the reply.
        """
        seen = self.exchanges
        if self.turns is not None:
            seen = seen[len(seen) - self.turns :] if self.turns else []
        while seen and not self.fits(self.format(seen, message)):
            seen = seen[1:]
        return self.format(seen, message)

    def fits(self, prompt: str) -> bool:
        """Whether the context holds the prompt and a reply."""
        context = self.model.context
        return context is None or len(self.model.prompt_ids(prompt)) + self.max_tokens <= context

    def format(self, exchanges: list[tuple[str, str]], message: str) -> str:
        """The lines of a dialogue, which ends with the model's name."""
        user, bot = self.speakers.user, self.speakers.bot
        lines = [line for m, r in exchanges for line in (add_speaker(user, m), add_speaker(bot, r))]
        return "\n".join([*lines, add_speaker(user, message), bot])


def add_speaker(speaker: str, text: str) -> str:
    """A line of a dialogue."""
    return f"{speaker} {text}" if speaker else text


class StreamedReply:
    """A reply that is being generated: iterate over its pieces, then take its `result`."""

    def __init__(self, turn: int, message: str, text: StreamedText, dialogue: Dialogue) -> None:
        self.turn, self.message = turn, message
        self.text, self.dialogue = text, dialogue

    def __iter__(self) -> Iterator[str]:
        """The pieces, without white space at the start and the end of the reply."""
        space = ""
        began = False
        for piece in self.text:
            text = space + piece
            text = text if began else text.lstrip()
            bare = text.rstrip()
            space = text[len(bare) :]
            began = began or bool(bare)
            if bare:
                yield bare

    def result(self) -> Reply:
        whole = self.text.result()
        reply = whole.text.strip()
        return Reply(self.turn, self.message, reply, whole.finish, whole.logprob)


def chat(
    messages: Iterable[str],
    model: LanguageModel,
    config: GenerationConfig,
    speakers: Speakers = Speakers(),
    turns: int | None = None,
) -> Iterator[StreamedReply | Failure]:
    """Reply to each message, given the exchanges before it."""
    if config.samples != 1:
        raise DlkitError("a dialogue has one reply to each message; omit --samples")
    dialogue = Dialogue(model, speakers, turns, config.max_tokens)
    received: list[str] = []

    def prompts() -> Iterator[str]:
        for message in messages:
            if message.strip():
                received.append(message.strip())
                yield dialogue.prompt(received[-1])

    # One prompt at a time: the next one contains the reply to this one.
    one_by_one = replace(config, batch_size=1, stop=(*config.stop, "\n"))
    for turn, text in enumerate(generate(prompts(), model, one_by_one)):
        if isinstance(text, Failure):
            yield text
            continue
        reply = StreamedReply(turn, received[-1], text, dialogue)
        yield reply
        dialogue.exchanges.append((received[-1], reply.result().reply))


def write_replies(replies: Iterable[StreamedReply | Failure], file: TextIO) -> None:
    """Write each reply to a line, piece by piece."""
    for reply in replies:
        if isinstance(reply, StreamedReply):
            for piece in reply:
                file.write(piece)
                file.flush()
            file.write("\n")
            file.flush()


def finished_replies(replies: Iterable[StreamedReply | Failure]) -> Iterator[Reply | Failure]:
    """The replies, each once it is complete."""
    return (r.result() if isinstance(r, StreamedReply) else r for r in replies)
