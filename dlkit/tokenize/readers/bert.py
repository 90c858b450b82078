"""vocab.txt of BERT: a token in each line. The switches of the text are in no such file."""

from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log
from dlkit.tokenize.config import ReadOptions
from dlkit.tokenize.model import Tokenizer, TokenizerSettings
from dlkit.tokenize.normalize import parse_steps
from dlkit.tokenize.readers.hugging_face import build_tokenizer
from dlkit.tokenize.readers.settings import ModelSettings

CASED = ["clean", "space-cjk"]
UNCASED = [*CASED, "strip-nonspacing", "lower"]
CAPITALS = 0.2  # the share of words with capitals from which a vocabulary is taken for a cased one


def read_bert(
    text: str, path: Path, options: ReadOptions, settings: ModelSettings | None = None
) -> Tokenizer:
    """The tokenizer of a vocabulary; the last of two equal lines has the id, as in BERT."""
    tokens = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    vocab = {token: i for i, token in enumerate(tokens)}
    special = {t: i for t, i in vocab.items() if t.startswith("[") and t.endswith("]") and t[1:-1]}
    if settings is not None:
        names = {settings.token(role, "") for role in ("unk", "sep", "pad", "cls", "mask")}
        special |= {name: vocab[name] for name in names if name in vocab}
        special |= {t["content"]: t["id"] for t in settings.added_tokens(vocab, special)}
    unknown = settings.token("unk", "[UNK]") if settings else "[UNK]"
    if unknown not in special:
        raise DlkitError(
            f"not a tokenizer (as a vocabulary of BERT it has no token {unknown}); give a "
            "tokenizer.json, vocab.json and merges.txt, vocab.txt, .tiktoken or .model",
            path,
        )
    steps = choose_steps(vocab, special, path, options, settings)
    plain: TokenizerSettings = {"normalize": steps, "unk": unknown, "mark": "inside"}
    plain["split"] = options.split or "bert"
    card = {"data": f"converted from {path.name}"}
    return build_tokenizer("wordpiece", plain, vocab, special, (), card)


def choose_steps(
    vocab: dict[str, int],
    special: dict[str, int],
    path: Path,
    options: ReadOptions,
    settings: ModelSettings | None,
) -> list[str]:
    """BERT's switches as normalization steps: of the option, of the folder, or as taken."""
    if options.normalize is not None:
        return parse_steps(options.normalize)
    if settings is not None and "do_lower_case" in settings.config:
        lower = settings.take("do_lower_case", True)
        accents = settings.take("strip_accents", lower)
        chinese = settings.take("tokenize_chinese_chars", True)
        switches = {"clean": True, "space-cjk": chinese, "strip-nonspacing": accents}
        return [step for step, on in {**switches, "lower": lower}.items() if on]
    cased = is_cased([token for token in vocab if token not in special])
    steps = CASED if cased else UNCASED
    other = UNCASED if cased else CASED
    log(
        f"{path}: taken for a {'cased' if cased else 'lower-case'} vocabulary, by its tokens: "
        f"--normalize {','.join(steps)} (the other kind is --normalize {','.join(other)})"
    )
    return list(steps)


def is_cased(tokens: list[str]) -> bool:
    """Whether words with capitals are too frequent to be exceptions."""
    words = [token for token in tokens if token.lower() != token.upper()]
    capitals = sum(word != word.lower() for word in words)
    return capitals > CAPITALS * len(words)
