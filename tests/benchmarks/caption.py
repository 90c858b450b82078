"""Speed of captioning: `python -m tests.benchmarks.caption IMAGES`.

Images per second from JPEG files to sentences, with 1 and 3 beams, against `generate` of
transformers' VisionEncoderDecoderModel, a ViT with a GPT-2 decoder. dlkit uses `--arch transformer`
with `--patch` and the same numbers of layers, heads, hidden units and patches and the same
vocabulary size. All models have random weights and generate the same number of tokens per image, so
that no search ends early. dlkit computes in `--precision auto`, transformers in fp32, its default,
and in bf16. `--arch attend` on dlkit classify's backbone, the default of training, is also timed.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dlkit.caption import infer
from dlkit.caption.config import CaptionSearch
from dlkit.caption.model import build
from dlkit.classify import backbones
from dlkit.core.store.checkpoint import Header, save
from dlkit.tokenize import DecoderVocabulary
from tests.benchmarks import harness

TOKENIZER = "english-8k"
NEVER = -1  # not a token, so that no caption ends early
LEAST = 3.0  # times transformers' speed

Shape = dict[str, Any]


def files(folder: Path, count: int) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*.jpg"))[:count]]


def of_dlkit(
    arch: str, network: Shape, paths: list[str], beam: int, tokens: int, batch: int
) -> Callable[[], object]:
    torch.manual_seed(0)
    vocabulary = DecoderVocabulary.load(TOKENIZER)
    settings = {**vocabulary.network_settings(), **network}
    if arch != "transformer":
        _, settings["backbone"] = backbones.load("caltech101")
    made = build(arch, **settings)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.safetensors"
        about = {"network": settings, "tokenizer": vocabulary.to_settings()}
        save(path, made.state_dict(), Header("caption", arch, about, []))
        model = infer.load(path, "cpu")
    model.network.eos = NEVER
    search = CaptionSearch(beam=beam, max_length=tokens)

    def work() -> str:
        found = list(infer.caption(paths, model, search, batch))
        assert all(isinstance(result, infer.ImageCaptions) for result in found)
        return f"{len(found)} images"

    return work


def of_transformers(
    network: Shape, paths: list[str], beam: int, tokens: int, batch: int, dtype: torch.dtype
) -> Callable[[], object]:
    import transformers
    from PIL import Image

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    vocabulary = DecoderVocabulary.load(TOKENIZER)
    width, heads, ffn_width = network["width"], network["heads"], network["ffn_width"]
    side = network["image_size"]
    encoder = transformers.ViTConfig(
        hidden_size=width, num_hidden_layers=network["encoder_layers"], num_attention_heads=heads,
        intermediate_size=ffn_width, image_size=side, patch_size=network["patch"],
    )  # fmt: skip
    decoder = transformers.GPT2Config(
        vocab_size=vocabulary.size, n_positions=64, n_embd=width, n_layer=network["layers"],
        n_head=heads, n_inner=ffn_width, bos_token_id=vocabulary.bos, eos_token_id=vocabulary.eos,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = vocabulary.bos, vocabulary.pad
    model: Any = transformers.VisionEncoderDecoderModel(config)
    model.to(dtype).eval()
    processor = transformers.ViTImageProcessor(size={"height": side, "width": side})

    def work() -> str:
        found: list[str] = []
        for start in range(0, len(paths), batch):
            pictures = [Image.open(path).convert("RGB") for path in paths[start : start + batch]]
            inputs = processor(pictures, return_tensors="pt").pixel_values.to(dtype)
            with torch.inference_mode():
                ids = model.generate(
                    inputs, num_beams=beam, do_sample=False, min_new_tokens=tokens,
                    max_new_tokens=tokens,
                )  # fmt: skip
            assert ids.shape[1] == tokens + 1
            found += [vocabulary.decode(row) for row in ids[:, 1:].tolist()]
        return f"{len(found)} images"

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path, help="a folder of JPEG files")
    parser.add_argument("--count", type=int, default=128, help="number of images")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--ffn-width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=3, help="of encoder and decoder each")
    parser.add_argument("--tokens", type=int, default=12, help="tokens per caption")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--beam", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    args = parser.parse_args()
    harness.machine(args.threads, "transformers")
    paths = files(args.images, args.count)
    network = {
        "image_size": args.image_size,
        "patch": args.patch,
        "width": args.width,
        "heads": args.heads,
        "ffn_width": args.ffn_width,
        "layers": args.layers,
        "encoder_layers": args.layers,
    }
    looking = {"image_size": args.image_size, "width": args.width}
    for beam in args.beam:
        common = (paths, beam, args.tokens, args.batch)
        contenders = {
            "dlkit": partial(of_dlkit, "transformer", network, *common),
            "dlkit attend": partial(of_dlkit, "attend", looking, *common),
            "transformers": partial(of_transformers, network, *common, torch.float32),
            "transformers bf16": partial(of_transformers, network, *common, torch.bfloat16),
        }
        found = harness.compare_apart(
            f"beam {beam}", contenders, "images", len(paths), args.repeats, "transformers",
            args.threads, args.clock,
        )  # fmt: skip
        harness.require(found["dlkit"], at_least=LEAST)


if __name__ == "__main__":
    main()
