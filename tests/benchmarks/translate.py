"""Speed of translation with Transformers: `python -m tests.benchmarks.translate FILE`.

Target tokens per second for the sentences in FILE (one per line), by beam search with 1 and 5
beams, against transformers' MarianMT (generate) and CTranslate2. All have the same shape and random
weights, read the same tokens and generate the same number per sentence, so that no search ends
early. dlkit computes in `--precision auto`, transformers in fp32, its default, and in bf16;
CTranslate2 in float32 and in int8, with the same weights as dlkit.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlkit.core.parallel import device as devices
from dlkit.core.store.checkpoint import Header, save
from dlkit.translate import infer
from dlkit.translate.config import TranslationSearch
from dlkit.translate.model import build
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.benchmarks import harness

TOKENIZER = "english-8k"
NEVER = -1  # not a token, so that no translation ends early
LEAST, MOST_BEHIND = 3.0, 1.5  # times transformers' speed; times as slow as CTranslate2


def made(shape: dict[str, Any]) -> tuple[Any, TranslationVocabulary]:
    torch.manual_seed(0)
    vocabulary = TranslationVocabulary.load(TOKENIZER)
    network: Any = build("transformer", **vocabulary.network_settings(), **shape)
    return network.eval().requires_grad_(False), vocabulary


def sources(file: Path) -> list[list[int]]:
    """Return the ids of the sentences, shortest first."""
    vocabulary = TranslationVocabulary.load(TOKENIZER)
    lines = file.read_text().splitlines()
    return sorted(vocabulary.encode_sources([[line] for line in lines]), key=len)


def of_dlkit(
    shape: dict[str, Any], file: Path, beam: int, tokens: int, device: str
) -> Callable[[], object]:
    network, vocabulary = made(shape)
    with tempfile.TemporaryDirectory() as name:
        settings = {
            "network": {**vocabulary.network_settings(), **shape},
            "tokenizer": vocabulary.to_settings(),
        }
        path = Path(name) / "model.safetensors"
        save(path, network.state_dict(), Header("translate", "transformer", settings, []))
        model = infer.load(path, device)
    model.network.eos = NEVER
    search = TranslationSearch(beam=beam, max_length=tokens)
    ids = sources(file)

    def work() -> int:
        segments = [infer.Segment("", source) for source in ids]
        infer.translate_segments(segments, model, search)
        return sum(len(segment.found[0].ids) for segment in segments)

    return work


def of_transformers(
    shape: dict[str, Any],
    file: Path,
    beam: int,
    tokens: int,
    device: str,
    batch: int,
    dtype: torch.dtype,
) -> Callable[[], object]:
    import transformers

    transformers.logging.set_verbosity_error()
    vocabulary = TranslationVocabulary.load(TOKENIZER)
    layers, heads, ffn_width = shape["layers"], shape["heads"], shape["ffn_width"]
    config = transformers.MarianConfig(
        vocab_size=vocabulary.size, d_model=shape["width"], activation_function="relu",
        encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=ffn_width,
        decoder_layers=layers, decoder_attention_heads=heads, decoder_ffn_dim=ffn_width,
        pad_token_id=vocabulary.pad, eos_token_id=vocabulary.eos, scale_embedding=True,
        decoder_start_token_id=vocabulary.bos, forced_eos_token_id=None,
    )  # fmt: skip
    network: Any = transformers.MarianMTModel(config)
    network.to(device, dtype).eval()
    ids = sources(file)

    def work() -> int:
        count = 0
        for start in range(0, len(ids), batch):
            some = [torch.tensor(source) for source in ids[start : start + batch]]
            padded = torch.nn.utils.rnn.pad_sequence(some, True, vocabulary.pad).to(device)
            with torch.inference_mode():
                found = network.generate(
                    padded, attention_mask=(padded != vocabulary.pad).long(), num_beams=beam,
                    do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens,
                )  # fmt: skip
            count += (found.shape[1] - 1) * len(found)
        return count

    return work


def of_ctranslate2(
    shape: dict[str, Any],
    file: Path,
    beam: int,
    tokens: int,
    device: str,
    batch: int,
    compute: str,
    threads: int,
) -> Callable[[], object]:
    import ctranslate2

    network, vocabulary = made(shape)
    folder = Path(tempfile.mkdtemp())
    write_ctranslate2(network, vocabulary, folder)
    translator = ctranslate2.Translator(
        str(folder), device=device, compute_type=compute, inter_threads=1, intra_threads=threads
    )
    words = [[str(i) for i in source] for source in sources(file)]

    def work() -> int:
        found = translator.translate_batch(
            words, beam_size=beam, max_batch_size=batch, min_decoding_length=tokens,
            max_decoding_length=tokens,
        )  # fmt: skip
        return sum(len(result.hypotheses[0]) for result in found)

    return work


def write_ctranslate2(network: Any, vocabulary: TranslationVocabulary, folder: Path) -> None:
    """Write the network in CTranslate2's format; its tokens are the ids as strings."""
    from ctranslate2.specs import TransformerSpec

    spec = TransformerSpec.from_config(len(network.encoder), network.heads, pre_norm=False)
    spec.config.bos_token, spec.config.eos_token = str(vocabulary.bos), str(vocabulary.eos)
    spec.config.unk_token = str(vocabulary.unk)
    spec.config.decoder_start_token = str(vocabulary.bos)
    spec.config.add_source_bos = spec.config.add_source_eos = False

    def array(tensor: torch.Tensor) -> np.ndarray:
        return np.ascontiguousarray(tensor.detach().numpy())

    def linear(target: Any, layer: Any) -> None:
        target.weight, target.bias = array(layer.weight), array(layer.bias)

    def norm(target: Any, layer: Any) -> None:
        target.gamma, target.beta = array(layer.weight), array(layer.bias)

    def common(target: Any, layer: Any) -> None:
        linear(target.self_attention.linear[0], layer.attention.qkv)
        linear(target.self_attention.linear[1], layer.attention.out)
        norm(target.self_attention.layer_norm, layer.attention_norm)
        linear(target.ffn.linear_0, layer.feed_forward.up)
        linear(target.ffn.linear_1, layer.feed_forward.down)
        norm(target.ffn.layer_norm, layer.norm)

    weight = array(network.embedding.weight)
    spec.encoder.embeddings[0].weight = weight
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = weight
    for half in (spec.encoder, spec.decoder):
        half.position_encodings.encodings = array(network.table)
    for target, layer in zip(spec.encoder.layer, network.encoder, strict=True):
        common(target, layer)
    for target, layer in zip(spec.decoder.layer, network.decoder, strict=True):
        common(target, layer)
        linear(target.attention.linear[0], layer.reading.query)
        linear(target.attention.linear[1], layer.reading.key_value)
        linear(target.attention.linear[2], layer.reading.out)
        norm(target.attention.layer_norm, layer.reading_norm)
    tokens = [str(i) for i in range(vocabulary.size)]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.validate()
    spec.save(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="test_2016_flickr.en.txt of multi30k")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--ffn-width", type=int, default=512)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=15, help="tokens per translation")
    parser.add_argument("--batch", type=int, default=64, help="batch size of the other libraries")
    parser.add_argument("--beam", type=int, nargs="*", default=[1, 5])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    args = parser.parse_args()
    harness.machine(args.threads, "transformers", "ctranslate2")
    shape = {name: getattr(args, name) for name in ("layers", "width", "ffn_width", "heads")}
    device = devices.choose(args.device).type
    count = len(sources(args.file)) * args.tokens
    for beam in args.beam:
        common = (shape, args.file, beam, args.tokens, device)
        hugging = partial(of_transformers, *common, args.batch)
        other = partial(of_ctranslate2, *common, args.batch)
        contenders = {
            "dlkit": partial(of_dlkit, *common),
            "transformers": partial(hugging, torch.float32),
            "transformers bf16": partial(hugging, torch.bfloat16),
            "ctranslate2 float32": partial(other, "float32", args.threads),
            "ctranslate2 int8": partial(other, "int8", args.threads),
        }
        measured = partial(
            harness.compare_apart, f"beam {beam}", contenders, "tokens", count, args.repeats,
            threads=args.threads, clock=args.clock,
        )  # fmt: skip
        found = measured(peer="transformers")
        harness.require(found["dlkit"], at_least=LEAST)


if __name__ == "__main__":
    main()
