"""The classic jobs of deep learning, each a command and a Python function.

>>> import dlkit
>>> dlkit.detect("data/cat.jpg").objects[0].label
'cat'

`dlkit.detect` is also a package: `from dlkit.detect import load, train, evaluate`. So are the other
nine tasks.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlkit.caption import caption as caption
    from dlkit.classify import classify as classify
    from dlkit.detect import detect as detect
    from dlkit.embed import embed as embed
    from dlkit.gan_sample import gan_sample as gan_sample
    from dlkit.lm_generate import lm_generate as lm_generate
    from dlkit.segment import segment as segment
    from dlkit.style_transfer import style_transfer as style_transfer
    from dlkit.tokenize import tokenize as tokenize
    from dlkit.translate import translate as translate

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    from dlkit.tasks import TASKS, task_package

    task = name.replace("_", "-")
    if task not in TASKS:
        raise AttributeError(f"module 'dlkit' has no attribute {name!r}")
    return task_package(task)


def __dir__() -> list[str]:
    from dlkit.tasks import TASKS

    return sorted([*globals(), *(task.replace("-", "_") for task in TASKS)])
