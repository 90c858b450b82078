"""Speed of generating images: `python -m tests.benchmarks.gan_draw MODEL`.

`dlkit gan-sample` writes images into a grid and into separate files. For comparison, the network
alone generates them without writing, and the PNG files are written without generating.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from dlkit.core.vision import images
from dlkit.gan_sample import infer
from dlkit.gan_sample.grid import ImageGrid, square_columns, to_pillow
from tests.benchmarks import harness


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gan_draw", description=__doc__
    )
    parser.add_argument("model", help="A bundled model's name, or a file.")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    settings = parser.parse_args()
    harness.machine(settings.threads, "pillow")
    count = settings.pictures
    sampler = infer.load(settings.model, "cpu", "auto")
    classes = infer.class_indices(sampler, None)
    side, channels = sampler.network.image_size, sampler.network.channels
    vectors = infer.seeded_vectors(sampler, 0, None)
    sheet = ImageGrid(count, square_columns(count), side, channels)

    drawn = torch.cat(
        [pixels for _, _, pixels in infer.generate_batches(sampler, count, vectors, classes)]
    )
    for number, picture in enumerate(drawn):
        sheet.place(number, picture)

    with tempfile.TemporaryDirectory() as name:
        folder, grid = Path(name) / "files", Path(name) / "grid.png"

        def files_alone() -> None:
            with ThreadPoolExecutor() as pool:
                paths = (folder / f"{number}.png" for number in range(count))
                list(pool.map(lambda p, path: images.save(to_pillow(p), path), drawn, paths))

        harness.compare(
            "drawing",
            {
                "grid": lambda: list(infer.sample(sampler, count, vectors, classes, grid=grid)),
                "files": lambda: list(
                    infer.sample(sampler, count, vectors, classes, separate=folder)
                ),
                "the network alone": lambda: list(
                    infer.generate_batches(sampler, count, vectors, classes)
                ),
                "writing the grid alone": lambda: images.save(sheet.image(), grid),
                "writing the files alone": files_alone,
            },
            "pictures",
            count,
            settings.repeats,
            threads=settings.threads,
            clock=settings.clock,
        )


if __name__ == "__main__":
    main()
