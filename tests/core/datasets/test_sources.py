"""Layouts give the boxes, outlines and poses that are in their files; contradictions are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dlkit.core.datasets.samples import Annotation, Sample
from dlkit.core.datasets.sources import find_source
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger

WIDTH, HEIGHT = 64, 48


def write(path: Path, content: str | bytes | dict[str, Any] | None = None, **saved: Any) -> Path:
    """Write text, bytes or JSON; without content, an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        size = saved.pop("size", (WIDTH, HEIGHT))
        Image.new("RGB", size).save(path, **saved)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(data: Path, split: str = "train") -> tuple[list[Sample], Ledger]:
    ledger = Ledger(split)
    return find_source(data).read(split, ledger), ledger


def annotations(data: Path, split: str = "train") -> list[Annotation]:
    return [a for sample in read(data, split)[0] for a in sample.annotations]


def skipped(ledger: Ledger) -> dict[str, list[str]]:
    """The names of the places that are skipped, by the reason."""
    return {
        reason: [place.rsplit("/", 1)[-1] for place in places]
        for reasons in ledger.places.values()
        for reason, places in reasons.items()
    }


RECORD: dict[str, Any] = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}


def coco(root: Path, images: Any = None, records: Any = None, categories: Any = None) -> Path:
    """An instances_train.json with one image and one box, or with what is given."""
    write(root / "train/a.jpg")
    content = {
        "images": images or [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": records
        or [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}],
        "categories": categories or [{"id": 3, "name": "cat"}],
    }
    write(root / "annotations/instances_train.json", content)
    return root


def yolo(root: Path, line: str, description: str = "names: [cat, dog]") -> Path:
    """One image with one line of a label file."""
    write(root / "data.yaml", description)
    write(root / "images/train/a.jpg")
    write(root / "labels/train/a.txt", line)
    return root


class TestCoco:
    def test_boxes_polygons_and_areas_are_those_of_pycocotools(self, tmp_path: Path) -> None:
        coco_api = pytest.importorskip("pycocotools.coco")
        polygon = [2, 2, 20, 3, 18, 30]
        records = [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1.5, 2, 3, 4], "area": 9},
            {"id": 2, "image_id": 1, "category_id": 9, "bbox": [2, 2, 18, 28], "iscrowd": 0,
             "area": 200.5, "segmentation": [polygon]},
            {"id": 3, "image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1,
             "area": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [5, 10, 3057]}},
        ]  # fmt: skip
        categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
        root = coco(tmp_path, records=records, categories=categories)
        expected = coco_api.COCO(str(root / "annotations/instances_train.json"))
        for found, number in zip(annotations(root), (1, 2, 3), strict=True):
            truth = expected.anns[number]
            x, y, w, h = truth["bbox"]
            assert found.label == expected.cats[truth["category_id"]]["name"]
            assert found.box == (x, y, x + w, y + h)
            assert found.area == truth["area"]
            assert found.crowd == bool(truth.get("iscrowd", 0))
            outline = truth.get("segmentation")
            assert [list(p) for p in found.polygons] == (outline if number == 2 else [])
            assert found.rle == (outline if number == 3 else None)

    @pytest.mark.parametrize("image_id", ["1", " 1", 1.0])
    def test_ids_match_as_numbers(self, image_id: Any, tmp_path: Path) -> None:
        record = {"id": 7, "image_id": image_id, "category_id": "3", "bbox": ["1", 2, 3, 4]}
        (found,) = annotations(coco(tmp_path, records=[record]))
        assert (found.label, found.box) == ("cat", (1, 2, 4, 6))

    def test_names_are_texts_and_listed_once(self, tmp_path: Path) -> None:
        categories = [{"id": 0, "name": "7"}, {"id": 3, "name": 7}, {"id": 4, "name": "dog"}]
        root = coco(tmp_path, categories=categories)
        assert find_source(root).classes.names == ("7", "dog")
        assert [a.label for a in annotations(root)] == ["7"]

    @pytest.mark.parametrize(
        ("change", "flaw"),
        [
            ({"bbox": None}, "annotation without a bbox"),
            ({"bbox": [1, 2, 3]}, "bbox that is not four numbers"),
            ({"bbox": "text"}, "bbox that is not four numbers"),
            ({"category_id": 5}, "unknown category id 5"),
            ({"category_id": 8}, "category 8 without a name"),
            ({"iscrowd": "maybe"}, "iscrowd that is neither 0 nor 1"),
        ],
    )
    def test_one_bad_annotation_has_a_flaw_and_the_others_are_read(
        self, change: dict[str, Any], flaw: str, tmp_path: Path
    ) -> None:
        good = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
        categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": None}]
        root = coco(tmp_path, records=[good | change, good], categories=categories)
        bad, fine = annotations(root)
        assert bad.flaw == flaw
        assert not bad.label or bad.bounds is None
        assert (fine.label, fine.box) == ("cat", (1, 2, 4, 6))

    @pytest.mark.parametrize(
        ("area", "crowd", "expected"),
        [("", "0", (None, False)), (None, 0, (None, False)), ("12.5", "1", (12.5, True)),
         (float("nan"), True, (None, True)), (-3, False, (None, False))],
    )  # fmt: skip
    def test_areas_and_flags_in_any_spelling(
        self, area: Any, crowd: Any, expected: Any, tmp_path: Path
    ) -> None:
        record = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
        root = coco(tmp_path, records=[record | {"area": area, "iscrowd": crowd}])
        (found,) = annotations(root)
        assert (found.area, found.crowd) == expected

    @pytest.mark.parametrize(
        "segmentation",
        [[1, 2, 30, 2, 30, 40], [[1, 2, 30, 2]], [[1, 2, 3, 4, 5]], ["text"], "text"],
    )
    def test_a_bad_segmentation_is_a_flaw_of_the_outline_only(
        self, segmentation: Any, tmp_path: Path
    ) -> None:
        record = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
        root = coco(tmp_path, records=[record | {"segmentation": segmentation}])
        (found,) = annotations(root)
        assert (found.flaw, found.box, found.polygons) == ("bad segmentation", (1, 2, 4, 6), ())

    def test_a_fragment_without_area_is_no_flaw_of_the_others(self, tmp_path: Path) -> None:
        whole = [1, 2, 30, 2, 30, 40]
        record = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [whole, [5, 5, 6, 6]]}
        (found,) = annotations(coco(tmp_path, records=[record]))
        assert found.polygons == (tuple(whole),)
        assert found.bounds == (1, 2, 30, 40)

    def test_a_doubled_image_id_is_refused_with_both_names(self, tmp_path: Path) -> None:
        write(tmp_path / "train/b.jpg")
        images = [{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"}]
        with pytest.raises(DlkitError, match=r"image id 1 is given to a\.jpg and b\.jpg"):
            read(coco(tmp_path, images))

    def test_an_image_with_two_ids_is_one_image(self, tmp_path: Path) -> None:
        images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "./a.jpg"}]
        record = {"category_id": 3, "bbox": [1, 2, 3, 4]}
        records = [record | {"id": n, "image_id": n} for n in (1, 2)]
        (sample,), ledger = read(coco(tmp_path, images, records))
        assert len(sample.annotations) == 2
        assert list(ledger.notes) == ["images with two ids, whose annotations are joined"]

    def test_an_annotation_that_is_there_twice_counts_once(self, tmp_path: Path) -> None:
        record = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
        (sample,), ledger = read(coco(tmp_path, records=[record, record]))
        assert len(sample.annotations) == 1
        assert list(skipped(ledger)) == ["annotation that is there twice"]

    def test_one_category_id_with_two_names_is_refused(self, tmp_path: Path) -> None:
        categories = [{"id": 3, "name": "cat"}, {"id": "3", "name": "dog"}]
        with pytest.raises(DlkitError, match="category id 3 is given to cat and dog"):
            read(coco(tmp_path, categories=categories))

    @pytest.mark.parametrize(
        "name", ["train\\a.jpg", "./train/a.jpg", "C:\\data\\a.jpg", "/x/a.jpg"]
    )
    def test_images_are_found_under_other_systems_names(self, name: str, tmp_path: Path) -> None:
        (sample,), _ = read(coco(tmp_path, [{"id": 1, "file_name": name}]))
        assert sample.path == tmp_path / "train/a.jpg"
        assert sample.size == (WIDTH, HEIGHT)

    def test_panoptic_annotations_are_refused_by_name(self, tmp_path: Path) -> None:
        write(tmp_path / "annotations/panoptic_train2017.json", {"annotations": []})
        with pytest.raises(DlkitError, match="panoptic annotations are not read"):
            find_source(tmp_path)

    def test_two_files_of_one_split_are_refused_with_both_names(self, tmp_path: Path) -> None:
        for fold in (1, 2):
            write(tmp_path / f"annotations/instances_train_fold{fold}.json", {"images": []})
        with pytest.raises(DlkitError, match="instances_train_fold1 and instances_train_fold2"):
            find_source(tmp_path)

    def test_keypoints_are_triples(self, tmp_path: Path) -> None:
        record = {
            "id": 1,
            "image_id": 1,
            "category_id": 3,
            "keypoints": [1, 2, 2, 3, 4, 1, 0, 0, 0],
        }
        (found,) = annotations(coco(tmp_path, records=[record]))
        assert [(k.x, k.y, k.visibility) for k in found.keypoints] == [
            (1, 2, 2),
            (3, 4, 1),
            (0, 0, 0),
        ]


class TestDeclaredSizes:
    def test_annotations_are_scaled_to_an_image_of_the_same_proportions(
        self, tmp_path: Path
    ) -> None:
        images = [{"id": 1, "file_name": "a.jpg", "width": 2 * WIDTH, "height": 2 * HEIGHT}]
        (sample,), ledger = read(coco(tmp_path, images))
        assert sample.annotations[0].box == (0.5, 1, 2, 3)
        assert sample.size == (WIDTH, HEIGHT)
        assert "train: 1 images of another size than declared" in ledger.summary()[-1]

    def test_an_image_of_other_proportions_is_skipped(self, tmp_path: Path) -> None:
        images = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 20}]
        samples, ledger = read(coco(tmp_path, images))
        assert not samples
        assert skipped(ledger) == {
            "image of another size than declared": ["a.jpg (64 x 48, declared 100 x 20)"]
        }

    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_boxes_of_the_stored_image_are_turned_like_it(
        self, orientation: int, tmp_path: Path
    ) -> None:
        """A white spot in the upright pixels is inside the turned box."""
        from dlkit.core.vision import images

        root = coco(tmp_path, records=[
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [40, 4, 16, 8],
             "segmentation": [[40, 4, 56, 4, 56, 12, 40, 12]]}
        ])  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = Image.new("RGB", (WIDTH, HEIGHT))
        picture.paste("white", (40, 4, 56, 12))
        picture.save(root / "train/a.jpg", exif=exif, quality=95)
        (sample,), ledger = read(root)
        assert sample.size == (HEIGHT, WIDTH)
        (found,) = sample.annotations
        assert found.box is not None
        x1, y1, x2, y2 = map(int, found.box)
        pixels = images.read(str(root / "train/a.jpg")).pixels.float().mean(dim=0)
        assert pixels[y1:y2, x1:x2].min() > 200
        assert pixels.gt(128).sum() == (x2 - x1) * (y2 - y1) == 16 * 8
        assert Annotation("", "", polygons=found.polygons).bounds == found.box
        assert len(ledger.notes) == 1


class TestYolo:
    @pytest.mark.parametrize(
        ("line", "box"),
        [
            ("1 0.5 0.5 0.25 0.5", (24, 12, 40, 36)),
            ("1,0.5,0.5,0.25,0.5", (24, 12, 40, 36)),
            ("\ufeff1 0.5 0.5 0.25 0.5\r", (24, 12, 40, 36)),
            ("1.0 0.5 0.5 0.25 0.5 0.9", (24, 12, 40, 36)),
            ("1 0.25 0.25 0.5 0.25 0.5 0.75", (16, 12, 32, 36)),
        ],
    )
    def test_lines(self, line: str, box: tuple[float, ...], tmp_path: Path) -> None:
        (found,) = annotations(yolo(tmp_path, line))
        assert (found.label, found.bounds) == ("dog", box)

    @pytest.mark.parametrize(
        ("line", "flaw"),
        [
            ("0 0.5 0.5 0.25", "line that is not `class x y width height`"),
            ("cat 0.5 0.5 0.2 0.2", "line that is not `class x y width height`"),
            ("0 0,5 0,5 0,2 0,2", "line that is not `class x y width height`"),
            ("0 0.5 0.5 nan 0.2", "line with a number that is not finite"),
            ("0 32 24 16 24", "line with numbers beyond 2: pixels"),
            ("0.5 0.5 0.5 0.2 0.2", "class 0.5, which is not an id"),
            ("0 0.5 0.5 0.2 0.2 0.1 0.2 2 0.3 0.4 2", "neither a box nor a polygon"),
            ("7 0.5 0.5 0.2 0.2", "unknown class 7"),
        ],
    )
    def test_other_lines_have_a_flaw(self, line: str, flaw: str, tmp_path: Path) -> None:
        (found,) = annotations(yolo(tmp_path, line))
        assert flaw in found.flaw
        assert not found.label or found.bounds is None

    def test_poses_are_read_by_kpt_shape(self, tmp_path: Path) -> None:
        description = "names: [cat, dog]\nkpt_shape: [2, 3]"
        (found,) = annotations(yolo(tmp_path, "0 .5 .5 .25 .5 .25 .5 2 0 0 0", description))
        assert found.box == (24, 12, 40, 36)
        assert [(k.x, k.y, k.visibility) for k in found.keypoints] == [(16, 24, 2), (0, 0, 0)]
        write(tmp_path / "labels/train/a.txt", "0 .5 .5 .25 .5 .25 .5 2")
        (found,) = annotations(tmp_path)
        assert found.flaw == "pose of 3 numbers, not of kpt_shape 2 x 3"

    @pytest.mark.parametrize(
        ("description", "names"),
        [
            ("names: {1: cat, 2: dog}", ("cat", "dog")),
            ("names: {0: cat, 2: dog}", ("cat", "dog")),
            ('names: {"10": ten, "2": two}', ("two", "ten")),
            ("names: [yes, no, 007, 1e3]", ("yes", "no", "007", "1e3")),
            ("names: [cat, cat, dog]", ("cat", "dog")),
        ],
    )
    def test_names_as_they_are_spelled_by_their_ids(
        self, description: str, names: tuple[str, ...], tmp_path: Path
    ) -> None:
        assert find_source(yolo(tmp_path, "", description)).classes.names == names

    def test_ids_are_the_keys_of_the_names(self, tmp_path: Path) -> None:
        root = yolo(tmp_path, "2 .5 .5 .2 .2", "names: {0: cat, 2: dog}")
        assert [a.label for a in annotations(root)] == ["dog"]

    @pytest.mark.parametrize(
        ("description", "message"),
        [
            ("nc: 3\nnames: [cat, dog]", "nc is 3, but there are 2 names"),
            ("names: {0: cat, 0: dog}", r"data\.yaml:1: '0' is given twice"),
            ("names: {a: cat}", "'a' for an id in `names:` is not a whole number"),
            ("names: [cat, '']", "class 1 has no name"),
            ("names: [cat]\nkpt_shape: 17", "kpt_shape is not"),
            ("names: [cat]\ntrain: photos", "no photos, which it names"),
            ("names: [" * 5000, "data.yaml"),
        ],
    )
    def test_a_description_that_contradicts_itself_is_refused(
        self, description: str, message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(DlkitError, match=message):
            find_source(yolo(tmp_path, "", description))

    def test_label_files_that_count_from_one_are_refused(self, tmp_path: Path) -> None:
        root = yolo(tmp_path, "1 .5 .5 .2 .2\n2 .5 .5 .2 .2\n")
        with pytest.raises(DlkitError, match=r"a\.txt:2: class 2 \(and no class 0\)"):
            read(root)

    def test_the_folders_and_lists_that_data_yaml_names(self, tmp_path: Path) -> None:
        root = tmp_path / "set"
        description = (
            "path: /content/set\ntrain: [images/one, two.txt]\nval: ../dev/images\nnames: [cat]"
        )
        write(root / "data.yaml", description)
        for name in ("images/one/a", "images/b c", "dev/images/d"):
            write(root / f"{name}.jpg")
            write(root / f"{name.replace('images', 'labels')}.txt", "0 .5 .5 .2 .2")
        write(root / "two.txt", "./images/b c.jpg\n")
        for given in (root, root / "data.yaml"):
            source = find_source(given)
            assert list(source.splits) == ["train", "val"]
            found = {s: [x.path.name for x in source.read(s, Ledger(s))] for s in source.splits}
            assert found == {"train": ["a.jpg", "b c.jpg"], "val": ["d.jpg"]}
            samples = source.read("train", Ledger("train"))
            assert [len(sample.annotations) for sample in samples] == [1, 1]

    def test_links_are_followed_and_hidden_files_ignored(self, tmp_path: Path) -> None:
        root = yolo(tmp_path / "set", "0 .5 .5 .2 .2")
        write(tmp_path / "store/b.jpg")
        write(root / "labels/train/part/b.txt", "1 .5 .5 .2 .2")
        (root / "images/train/part").symlink_to(tmp_path / "store")
        (tmp_path / "store/loop").symlink_to(root / "images/train")
        write(root / "images/train/._a.jpg", "text")
        write(root / "images/train/.ipynb_checkpoints/a-checkpoint.jpg")
        samples, ledger = read(root)
        assert [s.path.name for s in samples] == ["a.jpg", "b.jpg"]
        assert [s.annotations[0].label for s in samples] == ["cat", "dog"]
        assert not ledger.places

    def test_images_and_label_files_without_each_other_are_named(self, tmp_path: Path) -> None:
        root = yolo(tmp_path, "0 .5 .5 .2 .2")
        write(root / "images/train/b.jpg")
        write(root / "labels/train/c.txt", "0 .5 .5 .2 .2")
        samples, ledger = read(root)
        assert [len(s.annotations) for s in samples] == [1, 0]
        assert skipped(ledger) == {"label file without an image": ["c.txt"]}
        assert "1 images without a label file" in ledger.summary()[-1]

    def test_two_lists_of_classes_that_differ_are_refused(self, tmp_path: Path) -> None:
        root = yolo(tmp_path, "")
        write(root / "classes.txt", "cat\nbird\n")
        with pytest.raises(DlkitError, match="list different classes"):
            find_source(root)


XML = "<annotation>{}<object><name>cat</name>{}</object></annotation>"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>20</ymax></bndbox>"


class TestVoc:
    def test_names_with_blanks_flags_and_suffixes(self, tmp_path: Path) -> None:
        for name in ("my photo 1", "b", "c.d"):
            write(tmp_path / f"JPEGImages/{name}.jpg")
            write(tmp_path / f"Annotations/{name}.xml", XML.format("", BOX))
        write(tmp_path / "ImageSets/Main/train.txt", "my photo 1\nb  -1\nc.d.jpg\n")
        samples, ledger = read(tmp_path)
        assert [s.path.stem for s in samples] == ["my photo 1", "b", "c.d"]
        assert [s.annotations[0].box for s in samples] == [(0, 1, 10, 20)] * 3
        assert not ledger.places

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        for name in ("a", "b", "d"):
            write(tmp_path / f"JPEGImages/{name}.jpg")
        write(tmp_path / "JPEGImages/d.png")
        write(tmp_path / "Annotations/a.xml", XML.format("", BOX))
        write(tmp_path / "Annotations/c.xml", XML.format("", BOX))
        write(tmp_path / "ImageSets/Main/train.txt", "a\nb\nc\nd\na\n")
        samples, ledger = read(tmp_path)
        assert len(samples) == 2
        assert list(ledger.notes) == ["images listed again, which count again"]
        found = skipped(ledger)
        assert found["image without an annotation"] == ["b.xml"]
        assert found["missing image"] == ["c.jpg"]
        assert "several images of one id" in found

    @pytest.mark.parametrize(
        ("shape", "flaw"),
        [
            ("<robndbox><cx>4</cx></robndbox>", "rotated box (robndbox), which is not read"),
            ("", "object without a bndbox"),
            ("<bndbox><xmin>x</xmin></bndbox>", "bndbox that is not four numbers"),
        ],
    )
    def test_an_object_without_a_box_has_its_reason(
        self, shape: str, flaw: str, tmp_path: Path
    ) -> None:
        write(tmp_path / "JPEGImages/a.jpg")
        write(tmp_path / "Annotations/a.xml", XML.format("", shape))
        (found,) = annotations(tmp_path, "all")
        assert (found.flaw, found.bounds) == (flaw, None)

    def test_declared_sizes_are_compared(self, tmp_path: Path) -> None:
        size = "<size><width>{}</width><height>{}</height></size>"
        for name, declared in (("a", (0, 0)), ("b", (128, 96)), ("c", (10, 90))):
            write(tmp_path / f"JPEGImages/{name}.jpg")
            write(tmp_path / f"Annotations/{name}.xml", XML.format(size.format(*declared), BOX))
        samples, ledger = read(tmp_path, "all")
        assert [s.annotations[0].box for s in samples] == [(0, 1, 10, 20), (0, 0.5, 5, 10)]
        assert list(skipped(ledger)) == ["image of another size than declared"]

    def test_xml_files_beside_the_images(self, tmp_path: Path) -> None:
        for split in ("train", "Valid"):
            write(tmp_path / split / "a.jpg")
            write(tmp_path / split / "a.xml", XML.format("", BOX))
        source = find_source(tmp_path)
        assert list(source.splits) == ["train", "val"]
        assert annotations(tmp_path, "val")[0].box == (0, 1, 10, 20)


CVAT = """<annotations><version>1.1</version><meta><task><labels>
<label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>
<image id="0" name="{name}" width="64" height="48" subset="{subset}">{shapes}</image></annotations>
"""


class TestCvat:
    @pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
    def test_shapes(self, tmp_path: Path) -> None:
        shapes = """<box label="cat" xtl="1" ytl="2" xbr="5.5" ybr="8"/>
        <polygon label="dog" points="1,2;9,2;9,8"/>
        <box label="cat" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>
        <mask label="dog" rle="1,2,2,1" left="3" top="4" width="3" height="2"/>
        <polyline label="cat" points="1,2;3,4"/><tag label="indoor"/>"""
        write(tmp_path / "images/a.jpg")
        write(
            tmp_path / "annotations.xml",
            CVAT.format(name="a.jpg", subset="Train", shapes=shapes),
        )
        source = find_source(tmp_path)
        assert source.classes.names == ("dog", "cat")
        (sample,) = source.read("train", Ledger("train"))
        box, polygon, turned, mask, line = sample.annotations
        assert (box.label, box.bounds) == ("cat", (1, 2, 5.5, 8))
        assert (polygon.label, polygon.polygons) == ("dog", ((1, 2, 9, 2, 9, 8),))
        assert turned.bounds == pytest.approx((15, 5, 25, 25))
        assert line.flaw == "polyline, which is neither a box, a polygon nor a mask"
        assert sample.labels == ("indoor",)
        api = pytest.importorskip("pycocotools.mask")
        assert mask.rle is not None
        decoded = api.decode(api.frPyObjects(mask.rle, 48, 64))
        # 0 1 1 / 0 0 1 in a part at (3, 4)
        assert sorted(zip(*decoded.nonzero(), strict=True)) == [(4, 4), (4, 5), (5, 5)]

    def test_video_is_refused_by_name(self, tmp_path: Path) -> None:
        file = write(tmp_path / "annotations.xml", "<annotations><track id='0'/></annotations>")
        with pytest.raises(DlkitError, match="CVAT for video is not read"):
            find_source(file)


def test_labelme_shapes(tmp_path: Path) -> None:
    shapes = [
        {"label": "cat", "points": [[9, 8], [1, 2]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[1, 2], [9, 2], [9, 8]], "group_id": 1},
        {"label": "dog", "points": [[20, 2], [29, 2], [29, 8]], "group_id": 1},
        {"label": "dog", "points": [[20, 20], [23, 24]], "shape_type": "circle"},
        {"label": "dog", "points": [[20, 20]], "shape_type": "point"},
        {"points": [[20, 20]]},
    ]
    content = {"shapes": shapes, "imagePath": "..\\photos\\a.jpg", "imageWidth": WIDTH}
    write(tmp_path / "photos/a.jpg")
    write(tmp_path / "train/a.json", content | {"imageHeight": HEIGHT, "flags": {"wet": True}})
    source = find_source(tmp_path)
    assert list(source.splits) == ["train"]
    (sample,) = source.read("train", Ledger("train"))
    box, both, circle, point, nameless = sample.annotations
    assert (box.label, box.bounds) == ("cat", (1, 2, 9, 8))
    assert (len(both.polygons), both.bounds) == (2, (1, 2, 29, 8))
    assert circle.box == (15, 15, 25, 25)
    assert "neither a polygon nor a box" in point.flaw
    assert nameless.flaw == "shape without a label"
    assert sample.labels == ("wet",)


@pytest.mark.parametrize(
    "make",
    [lambda root: root.mkdir(), lambda root: write(root / "a.jpg"), lambda root: write(root, "x")],
)
def test_an_unknown_layout_is_refused_with_those_that_are_known(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    make(tmp_path / "data")
    with pytest.raises(DlkitError, match="known layout") as error:
        find_source(tmp_path / "data", "boxes")
    if (tmp_path / "data").is_dir():
        for name in ("Annotations/", "labels/", "annotations/*.json", "annotations.xml"):
            assert name in str(error.value)


def test_xml_that_defines_entities_is_refused(tmp_path: Path) -> None:
    """Nested ones grow without bound."""
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    write(tmp_path / "cvat/annotations.xml", f"{bomb}<annotations>&b;</annotations>")
    with pytest.raises(DlkitError, match="entities of its own"):
        find_source(tmp_path / "cvat")
    write(tmp_path / "voc/JPEGImages/a.jpg")
    write(tmp_path / "voc/Annotations/a.xml", f"{bomb}<annotation>&b;</annotation>")
    assert list(skipped(read(tmp_path / "voc", "all")[1])) == ["XML file that cannot be read"]


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a\0b", "../" * 2000], ids=["long", "with NUL", "deep"]
)
def test_names_that_cannot_be_paths_are_missing_images(name: str, tmp_path: Path) -> None:
    samples, ledger = read(coco(tmp_path / "coco", [{"id": 1, "file_name": name}]))
    assert (samples, list(skipped(ledger))) == ([], ["missing image"])
    root = tmp_path / "voc"
    write(root / "SegmentationClass/a.png")
    write(root / "JPEGImages/a.jpg")
    write(root / "ImageSets/Segmentation/train.txt", name)
    ledger = Ledger("train")
    assert not find_source(root, "masks").read("train", ledger)
    assert list(skipped(ledger)) == ["missing image"]
