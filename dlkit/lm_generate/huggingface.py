"""GPT-2, BERT and T5 in Hugging Face's format: a folder, or `hf:owner/name` on its hub.

The files read are config.json, model.safetensors (or its shards) and those of the tokenizer.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.nn.rebuild import Building
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header, metadata
from dlkit.core.store.hub import PREFIX, repository
from dlkit.lm_generate.masked_lm import SPECIAL
from dlkit.lm_generate.model import build
from dlkit.lm_generate.models.t5 import BUCKETS, MAX_DISTANCE
from dlkit.tokenize import Tokenizer, read

TEMPLATE = "chat_template.jinja"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# The tokens that each kind needs.
NEEDED = {"gpt2": (), "bert": SPECIAL, "t5": ("<pad>", "</s>", "<extra_id_0>")}
MAX_PADDING = 128  # rows of the network without a token: padding of the vocabulary
ACTIVATIONS = {
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu": "gelu",
    "relu": "relu",
}

Json = dict[str, Any]


def find(model: str) -> Path | None:
    """The folder of a model: a local one, or that of a name on the hub; None for neither."""
    if model.startswith(PREFIX):
        return fetch(model)
    return Path(model) if Path(model).is_dir() else None


def fetch(model: str) -> Path:
    """The folder of `hf:owner/name` in the cache; its missing files are downloaded."""
    with repository(model) as found:
        found.need("config.json")
        read_config(found.folder)  # an error now for a model that dlkit cannot read
        found.need_tokenizer()
        for file in ("generation_config.json", TEMPLATE):
            found.has(file)
        if found.has(INDEX):
            for file in shards(found.folder):
                found.need(file)
        else:
            found.need(WEIGHTS)
    return found.folder


# ---- the folder ----------------------------------------------------------------------------------


def load(folder: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read a folder as header and weights (fp32), like one of our checkpoints."""
    config = read_config(folder)
    kind: str = config["model_type"]
    family = FAMILIES[kind]
    found = read_tensors(folder)
    try:
        seen = Seen(config)
        settings = family.settings(seen, found)
        check_fields(config, seen.fields)
        with Building():
            state = build(family.arch, **settings).state_dict()
    except DlkitError as error:
        raise DlkitError(str(error), folder / "config.json") from error
    except KeyError as error:
        raise DlkitError(f"it has no {error}", folder / "config.json") from error
    except (TypeError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise DlkitError(f"its values make no {kind}: {cause}", folder / "config.json") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    weights = {}
    for name, shape in shapes.items():
        weights[name] = take_tensor(folder, found, family, name, shape)
    if left := [name for name in found if not re.search(family.unused, name)]:
        raise DlkitError(
            f"the tensor {left[0]} has no place in a {kind} of this config.json", folder
        )
    tokenizer = read_tokenizer(folder, kind)
    fit_vocabulary(folder, tokenizer, settings, weights)
    described: Json = {"network": settings, "tokenizer": tokenizer.to_settings()}
    described |= {"parse_special": True}
    if kind == "gpt2" and (begin := named_tokens(folder, config, tokenizer, "bos")):
        described["begin"] = begin[0]
    if kind != "bert":
        described["ends"] = named_tokens(folder, config, tokenizer, "eos")
    if kind == "t5":
        start = named_tokens(folder, config, tokenizer, "decoder_start")
        described["decoder_start"] = (start or [tokenizer.special["<pad>"]])[0]
    described |= read_chat(folder) | read_generation(folder, config)
    source = {"source": str(config.get("_name_or_path") or folder)}
    return Header("lm-generate", family.arch, described, [], card=source), weights


def read_config(folder: Path) -> Json:
    """config.json of a model that dlkit can read."""
    config = read_json(folder / "config.json")
    if (kind := config.get("model_type")) not in FAMILIES:
        raise DlkitError(
            f"a model of type {kind}; choose one of {', '.join(FAMILIES)}", folder / "config.json"
        )
    return config


def read_text(path: Path) -> str:
    """The text of a file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error
    except UnicodeDecodeError as error:
        raise DlkitError("not UTF-8, or damaged", path) from error


def read_json(path: Path) -> Json:
    """The JSON object of a file."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DlkitError("not JSON, or damaged", path) from error
    if not isinstance(content, dict):
        raise DlkitError("not a JSON object", path)
    return content


def shards(folder: Path) -> list[str]:
    """The files that the index lists."""
    table = read_json(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or any(Path(str(name)).name != name for name in table.values()):
        raise DlkitError("no table of tensors and files in this folder", folder / INDEX)
    return sorted(set(table.values()))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors by name, mapped into memory."""
    import safetensors.torch

    files = shards(folder) if (folder / INDEX).exists() else [WEIGHTS]
    if files == [WEIGHTS] and not (folder / WEIGHTS).exists() and any(folder.glob("*.bin")):
        raise DlkitError(f"no {WEIGHTS}; convert its .bin files to safetensors", folder)
    tensors: dict[str, Tensor] = {}
    for file in files:
        metadata(folder / file)  # raises an error with the reason for a damaged file
        try:
            tensors |= safetensors.torch.load_file(folder / file)
        except (safetensors.SafetensorError, OSError) as error:
            raise DlkitError(f"a damaged model file ({error})", folder / file) from error
    return tensors


def take_tensor(
    folder: Path,
    found: dict[str, Tensor],
    family: "Family",
    name: str,
    shape: tuple[int, ...],
) -> Tensor:
    """Take our tensor of a name and shape out of theirs in `found`, transposed or concatenated."""
    sources = list(family.sources(name))
    rows = shape[0] // len(sources)
    parts = []
    for source in sources:
        spelling = next((s for s in family.spellings(source) if s in found), None)
        if spelling is None:
            raise DlkitError(f"the tensor {source} is missing", folder)
        tensor = found.pop(spelling)
        part = (rows, *shape[1:])
        expected = part[::-1] if family.is_transposed(source) else part
        if tuple(tensor.shape) != expected:
            raise DlkitError(
                f"the tensor {spelling} is {tuple(tensor.shape)}, not {expected}, as config.json"
                " requires",
                folder,
            )
        parts.append(tensor.T if family.is_transposed(source) else tensor)
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole.float().contiguous()


def read_tokenizer(folder: Path, kind: str) -> Tokenizer:
    """The tokenizer of a folder, with the settings and added tokens beside it."""
    tokenizer = read([str(folder.resolve())])
    if lacking := set(NEEDED[kind]) - set(tokenizer.special):
        raise DlkitError(f"no token {min(lacking)}, which a {kind} needs", folder)
    return tokenizer


def named_tokens(folder: Path, config: Json, tokenizer: Tokenizer, role: str) -> list[int]:
    """The ids of the tokens that begin (bos) or end (eos) a text, by the files of the folder.

    generation_config.json comes before config.json, and this before the files of the tokenizer.
    """
    generation = read_if_there(folder / "generation_config.json")
    for source in (generation, config):
        found = source.get(f"{role}_token_id")
        ids = found if isinstance(found, list) else [] if found is None else [found]
        if not all(type(i) is int and i in tokenizer.names for i in ids):
            raise DlkitError(f"{role}_token_id {found!r} is no token of its tokenizer", folder)
        if ids:
            return ids
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        token = read_if_there(folder / file).get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token in tokenizer.special:
            return [tokenizer.special[token]]
    return []


def read_chat(folder: Path) -> Json:
    """The chat template of a folder and the special tokens that it names; {} without one."""
    beside = read_if_there(folder / "tokenizer_config.json")
    named = read_if_there(folder / "special_tokens_map.json") | beside
    template = beside.get("chat_template")
    if (folder / TEMPLATE).exists():
        template = read_text(folder / TEMPLATE)
    if isinstance(template, list):  # several, by name
        templates = {one.get("name"): one.get("template") for one in template}
        template = templates.get("default")
        if template is None:
            raise DlkitError(
                "chat_template has none with the name default", folder / "tokenizer_config.json"
            )
    if template is None:
        return {}
    if not isinstance(template, str):
        raise DlkitError("chat_template is no text", folder / "tokenizer_config.json")
    tokens = {role: named[role] for role in CHAT_TOKENS if named.get(role)}
    names = {k: v.get("content") if isinstance(v, dict) else v for k, v in tokens.items()}
    return {"chat_template": template, "chat_tokens": names}


def read_generation(folder: Path, config: Json) -> Json:
    """The settings of generation that a folder names, to be printed; {} without any."""
    path = folder / "generation_config.json"
    source = read_if_there(path) if path.exists() else config
    names = source if path.exists() else GENERATION
    found = {
        name: source[name]
        for name in names
        if source.get(name) is not None and not NO_SAMPLING.fullmatch(name)
    }
    return {"generation": found} if found else {}


def read_if_there(path: Path) -> Json:
    """The JSON object of a file; an empty one if there is none."""
    return read_json(path) if path.exists() else {}


def fit_vocabulary(
    folder: Path, tokenizer: Tokenizer, settings: Json, weights: dict[str, Tensor]
) -> None:
    """Drop rows that pad the vocabulary; raise DlkitError for a tokenizer of another model."""
    tokens, rows = max(tokenizer.names) + 1, settings["vocab_size"]
    if not rows - MAX_PADDING < tokens <= rows:
        raise DlkitError(
            f"its tokenizer has {tokens} tokens, but its network {rows}; they belong to different"
            " models",
            folder,
        )
    if tokens < rows:
        log(f"{folder}: dropped {rows - tokens} rows of the network that have no token")
        settings["vocab_size"] = tokens
        for name in ("embedding.weight", "head.weight", "output_bias"):
            if name in weights:
                weights[name] = weights[name][:tokens].contiguous()


class Seen(dict[str, Any]):
    """A configuration that notes the fields that were asked for."""

    def __init__(self, config: Json) -> None:
        super().__init__(config)
        self.fields: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.fields.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.fields.add(name)
        return super().get(name, default)


# ---- GPT-2, BERT and T5 --------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """The conversion of a kind of Hugging Face's models to ours."""

    arch: str
    settings: Callable[[Json, Mapping[str, Tensor]], Json]
    names: dict[str, str | tuple[str, ...]]  # ours: theirs, which are concatenated
    prefix: str  # of their names, which some files omit
    transposed: str  # a pattern of their names
    unused: str  # a pattern of their names

    def sources(self, name: str) -> Iterator[str]:
        """Their names of the parts of our tensor."""
        match = re.match(r"(blocks|encoder|decoder)\.(\d+)\.(.+)\.(weight|bias)$", name)
        if match:
            stack, layer, part, kind = match.groups()
            part = part if stack == "blocks" else f"{stack}.{part}"
        else:
            layer, (part, _, kind) = "", name.rpartition(".")
            part, kind = (part, kind) if part else (name, "")
        theirs = self.names[part]
        for source in (theirs,) if isinstance(theirs, str) else theirs:
            yield source.format(layer) + (f".{kind}" if kind else "")

    def spellings(self, source: str) -> Iterator[str]:
        """The names that a tensor can have: old files use gamma and beta for layer norms."""
        for name in (source, source.removeprefix(self.prefix)):
            yield name
            if "LayerNorm" in name:
                yield name.replace(".weight", ".gamma").replace(".bias", ".beta")

    def is_transposed(self, source: str) -> bool:
        return re.search(self.transposed, source) is not None


# Fields of generation_config.json that choose no token.
NO_SAMPLING = re.compile(
    r"_.*|.*_token_id|transformers_version|use_cache|output_.*|return_.*|cache_.*|max_length"
)
# Fields of config.json that old files have in its place.
GENERATION = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams")
CHAT_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
# Fields of config.json that change no result of a language model: names, dropout, other heads.
WITHOUT_EFFECT = re.compile(
    r"_.*|.*dropout.*|.*(pdrop|_drop|_token_id)|summary_.*|(prefix|id2label|label2id|architectures)"
    r"|initializer_(range|factor)|use_cache|transformers_version|(torch_)?dtype|model_type|n_ctx|vocab_size"
    r"|output_past|output_attentions|output_hidden_states|return_dict|gradient_checkpointing"
    r"|task_specific_params|problem_type|finetuning_task|num_labels|pooler_.*|directionality"
    r"|bos_token|eos_token|tokenizer_class|chunk_size_feed_forward|reorder_and_upcast_attn"
    r"|torchscript|auto_map|use_bfloat16|cross_attention_hidden_size|is_encoder_decoder"
    r"|max_length|min_length|do_sample|top_k|top_p|temperature|language|name|license"
)


def check_fields(config: Json, used: Collection[str]) -> None:
    """Raise DlkitError for a field that may change results, and is not known."""
    for name, value in config.items():
        if name in used or WITHOUT_EFFECT.fullmatch(name) or value in (None, False, [], {}):
            continue
        raise DlkitError(f"{name} {str(value)[:60]} is not known to dlkit; give another model")


def refuse(config: Json, **only: Any) -> None:
    """Raise DlkitError for settings of the network that dlkit does not support."""
    for name, value in only.items():
        if config.get(name, value) != value:
            raise DlkitError(f"{name} {config[name]!r} is not supported; give another model")


def read_activation(config: Json, name: str, default: str) -> str:
    """Our name of an activation."""
    if (chosen := config.get(name, default)) not in ACTIVATIONS:
        raise DlkitError(f"{name} {chosen!r} is not supported; give another model")
    return ACTIVATIONS[chosen]


def gpt2_settings(config: Json, found: Mapping[str, Tensor]) -> Json:
    refuse(
        config,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    return {
        "vocab_size": config["vocab_size"],
        "context": config["n_positions"],
        "layers": config["n_layer"],
        "heads": config["n_head"],
        "width": config["n_embd"],
        "ffn_width": config.get("n_inner"),
        "activation": read_activation(config, "activation_function", "gelu_new"),
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "tie_embeddings": config.get("tie_word_embeddings", True),
    }


def bert_settings(config: Json, found: Mapping[str, Tensor]) -> Json:
    refuse(config, position_embedding_type="absolute", is_decoder=False, tie_word_embeddings=True)
    return {
        "vocab_size": config["vocab_size"],
        "context": config["max_position_embeddings"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "width": config["hidden_size"],
        "ffn_width": config["intermediate_size"],
        "segments": config.get("type_vocab_size", 2),
        "activation": read_activation(config, "hidden_act", "gelu"),
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "next_sentence": "cls.seq_relationship.weight" in found,
    }


def t5_settings(config: Json, found: Mapping[str, Tensor]) -> Json:
    refuse(
        config,
        relative_attention_num_buckets=BUCKETS,
        relative_attention_max_distance=MAX_DISTANCE,
        is_encoder_decoder=True,
        is_decoder=False,
    )
    layers = config["num_layers"]
    chosen = config.get("feed_forward_proj", "relu")
    # The names of the configuration; that of gated-gelu is the approximation by tanh there.
    known = {"relu": ("relu", False), "gated-gelu": ("gelu-tanh", True)}
    if chosen not in known:
        raise DlkitError(f"feed_forward_proj {chosen!r} is not supported; give another model")
    activation, gated = known[chosen]
    refuse(config, is_gated_act=gated, dense_act_fn="gelu_new" if gated else "relu")
    tied = config.get("tie_word_embeddings", True) is not False
    # The field is also true in files of transformers 5 that have both.
    head, shared = found.get("lm_head.weight"), found.get("shared.weight")
    own_head = head is not None and (not tied or shared is None or not torch.equal(head, shared))
    return {
        "vocab_size": config["vocab_size"],
        "context": config.get("n_positions", 512),
        "layers": layers,
        "decoder_layers": config.get("num_decoder_layers") or layers,
        "heads": config["num_heads"],
        "head_width": config["d_kv"],
        "width": config["d_model"],
        "ffn_width": config["d_ff"],
        "activation": activation,
        "gated": gated,
        "own_head": own_head,
        "scale_output": config.get("scale_decoder_outputs", tied),
        "norm_eps": config.get("layer_norm_epsilon", 1e-6),
    }


def t5_names() -> dict[str, str | tuple[str, ...]]:
    """Our names of T5's tensors, and theirs."""
    names: dict[str, str | tuple[str, ...]] = {"embedding": "shared", "head": "lm_head"}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        layer = f"{stack}.block.{{}}.layer"
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        names |= {f"{stack}_bias.embedding": first, f"{stack}_norm": f"{stack}.final_layer_norm"}
        for name, number, part in (("attention", 0, "Self"), ("reading", 1, "EncDec")):
            theirs = f"{layer}.{number}.{part}Attention"
            names |= {
                f"{stack}.{name}.query": f"{theirs}.q",
                f"{stack}.{name}.key_value": (f"{theirs}.k", f"{theirs}.v"),
                f"{stack}.{name}.out": f"{theirs}.o",
                f"{stack}.{name}_norm": f"{layer}.{number}.layer_norm",
            }
        dense = f"{layer}.{last}.DenseReluDense"
        names |= {
            f"{stack}.up": f"{dense}.wi",
            f"{stack}.gate": f"{dense}.wi_0",
            f"{stack}.value": f"{dense}.wi_1",
            f"{stack}.down": f"{dense}.wo",
            f"{stack}.norm": f"{layer}.{last}.layer_norm",
        }
    return names


QKV = tuple(f"bert.encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value"))
FAMILIES = {
    "gpt2": Family(
        "gpt",
        gpt2_settings,
        {
            "embedding": "transformer.wte",
            "position_embedding": "transformer.wpe",
            "attention_norm": "transformer.h.{}.ln_1",
            "attention.qkv": "transformer.h.{}.attn.c_attn",
            "attention.out": "transformer.h.{}.attn.c_proj",
            "norm": "transformer.h.{}.ln_2",
            "up": "transformer.h.{}.mlp.c_fc",
            "down": "transformer.h.{}.mlp.c_proj",
            "final_norm": "transformer.ln_f",
            "head": "lm_head",
        },
        "transformer.",
        r"(attn\.c_attn|c_proj|c_fc)\.weight$",
        r"attn\.(masked_)?bias$|^lm_head\.weight$",
    ),
    "bert": Family(
        "bert",
        bert_settings,
        {
            "embedding": "bert.embeddings.word_embeddings",
            "position_embedding": "bert.embeddings.position_embeddings",
            "segment_embedding": "bert.embeddings.token_type_embeddings",
            "embedding_norm": "bert.embeddings.LayerNorm",
            "attention.qkv": QKV,
            "attention.out": "bert.encoder.layer.{}.attention.output.dense",
            "attention_norm": "bert.encoder.layer.{}.attention.output.LayerNorm",
            "up": "bert.encoder.layer.{}.intermediate.dense",
            "down": "bert.encoder.layer.{}.output.dense",
            "norm": "bert.encoder.layer.{}.output.LayerNorm",
            "transform": "cls.predictions.transform.dense",
            "transform_norm": "cls.predictions.transform.LayerNorm",
            "output_bias": "cls.predictions.bias",
            "pooler": "bert.pooler.dense",
            "relation": "cls.seq_relationship",
        },
        "bert.",
        r"^$",
        r"position_ids$|^cls\.predictions\.decoder\.|pooler\.dense",
    ),
    # A file may hold the embedding more than once; old ones a bias that is not used.
    "t5": Family(
        "t5",
        t5_settings,
        t5_names(),
        "",
        r"^$",
        r"^(en|de)coder\.embed_tokens\.weight$|^lm_head\.weight$"
        r"|^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",
    ),
}
