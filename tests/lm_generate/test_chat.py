"""Dialogues."""

from collections.abc import Iterator

from dlkit.lm_generate.chat import Dialogue, Speakers, chat
from dlkit.lm_generate.infer import GenerationConfig
from dlkit.lm_generate.neural import NeuralLM
from tests.lm_generate.helpers import random_network, wrap


def test_a_dialogue_remembers_as_many_exchanges_as_asked_for(gpt: NeuralLM) -> None:
    speakers = Speakers("You:", "Me:")
    for turns, remembered in ((None, 2), (1, 1), (0, 0)):
        dialogue = Dialogue(wrap(random_network(context=500)), speakers, turns, 10)
        dialogue.exchanges = [("a", "b"), ("c", "d")]
        lines = ["You: a", "Me: b", "You: c", "Me: d"][4 - 2 * remembered :]
        assert dialogue.prompt("e") == "\n".join([*lines, "You: e", "Me:"])
    short = Dialogue(gpt, speakers, None, 4)  # the context holds 32 tokens
    short.exchanges = [("a", "b"), ("c", "d")]
    assert short.prompt("e") == "You: c\nMe: d\nYou: e\nMe:"


def test_answers_follow_messages(gpt: NeuralLM) -> None:
    seen: list[str] = []

    def messages() -> Iterator[str]:
        yield from ("To be?", "", " or not ")

    answers = []
    for answer in chat(messages(), gpt, GenerationConfig(max_tokens=12), Speakers("", "")):
        pieces = "".join(answer)  # type: ignore[arg-type]
        reply = answer.result()  # type: ignore[union-attr]
        assert pieces == reply.reply == reply.reply.strip()
        assert "\n" not in reply.reply
        answers.append(reply)
        seen.append(reply.message)
    assert seen == ["To be?", "or not"]
    assert [reply.turn for reply in answers] == [0, 1]
