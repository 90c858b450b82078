"""Dialogues with a model that was trained on dialogues whose lines begin with the speaker.

    User: How are you?
    Bot: Fine, and you?

Models of Hugging Face's may have a template for dialogues in its place, made of special tokens.

Loads no torch.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TextIO

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.progress import log
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
        self.template = ChatTemplate.of(model) if speakers == Speakers() else None
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
        """The lines of a dialogue, which ends with the model's name; or by the template."""
        if self.template is not None:
            return self.template.render(exchanges, message)
        user, bot = self.speakers.user, self.speakers.bot
        lines = [line for m, r in exchanges for line in (add_speaker(user, m), add_speaker(bot, r))]
        return "\n".join([*lines, add_speaker(user, message), bot])


class ChatTemplate:
    """The template of a model for dialogues, in the language of jinja2."""

    def __init__(self, name: str, template: str, tokens: Mapping[str, str]) -> None:
        """`tokens` are the special tokens that it may name, as bos_token."""
        try:
            from jinja2 import TemplateError
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise DlkitError(
                f"{name}: its chat_template needs jinja2; install it, or give --user and --bot"
            ) from error
        self.name, self.tokens = name, tokens
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = dumps
        environment.globals["raise_exception"] = self.refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self.template = environment.from_string(template)
        except TemplateError as error:
            raise DlkitError(f"{name}: its chat_template is damaged ({error})") from error

    @classmethod
    def of(cls, model: LanguageModel) -> "ChatTemplate | None":
        """The template in the header of a model, if it has one."""
        settings = model.header.settings
        if "chat_template" not in settings:
            return None
        if not model.codec.parse_special:
            raise DlkitError(
                f"{model.name}: its chat_template is made of special tokens; omit"
                " --no-parse-special, or give --user and --bot"
            )
        return cls(model.name, settings["chat_template"], settings.get("chat_tokens", {}))

    def refuse(self, reason: str) -> None:
        """Raise the error of the template itself."""
        raise DlkitError(f"{self.name}: its chat_template refuses the dialogue: {reason}")

    def render(self, exchanges: Iterable[tuple[str, str]], message: str) -> str:
        """The dialogue up to the model's reply to this message."""
        pairs = [*exchanges, (message, None)]
        messages = [
            {"role": role, "content": text}
            for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
            if text is not None
        ]
        try:
            return self.template.render(
                messages=messages, add_generation_prompt=True, tools=None, **self.tokens
            )
        except DlkitError:
            raise
        except Exception as error:  # a template is code
            raise DlkitError(f"{self.name}: its chat_template fails ({error})") from error


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON as templates expect it: characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


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
    stop = config.stop
    if dialogue.template is None:
        stop = (*stop, "\n")
        if "chat_template" in model.header.settings:
            log(f"{model.name}: --user and --bot are used in place of its chat_template")
    else:
        # The template writes the token that begins a text, where there is one.
        model = copy.copy(model)
        model.codec = copy.copy(model.codec)
        model.codec.begin = None
        dialogue.model = model
    received: list[str] = []

    def prompts() -> Iterator[str]:
        for message in messages:
            if message.strip():
                received.append(message.strip())
                yield dialogue.prompt(received[-1])

    # One prompt at a time: the next one contains the reply to this one.
    one_by_one = replace(config, batch_size=1, stop=stop)
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
