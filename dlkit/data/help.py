"""The help pages of `dlkit data`: main options and examples. Loads no torch."""

from dlkit.core.cli.help import Page

PAGES = {
    "check": Page(
        "data split against notes save format output",
        (
            "dlkit data check DATA",
            "dlkit data check DATA --save report/",
            "dlkit data check DATA --against OTHER",
            "dlkit data check DATA -f jsonl -o findings.jsonl",
        ),
    ),
    "suspects": Page(
        "data split model folds epochs save format output",
        (
            "dlkit data suspects DATA",
            "dlkit data suspects DATA --save report/",
            "dlkit data suspects DATA -m run/best.safetensors -f jsonl",
        ),
    ),
    "stats": Page(examples=("dlkit data stats DATA", "dlkit data stats DATA -o labels.csv")),
    "convert": Page(
        examples=(
            "dlkit data convert DATA --to coco -o coco/",
            "dlkit data convert DATA --to yolo -o yolo/ --copy",
        )
    ),
    "get": Page(examples=("dlkit data get mnist -o mnist/", "dlkit data get")),
    "split": Page(
        examples=(
            "dlkit data split DATA --val 0.1 --test 0.1 --to folder -o split/",
            "dlkit data split DATA --group-by '(.*)_' --to coco -o split/",
        )
    ),
}
