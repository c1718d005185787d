"""Tiny generated sets in the exact layout of each real one: for tests, and to try commands with.

    write_tiny(root)     then `load("cookies", root, ...)`, `load("mvtec/screw", root, ...)`, ...

A product is a coloured box on a plain ground, damage a dark patch on it, and masks tell where.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HEIGHT_PX, WIDTH_PX = 48, 64
PATCH = (20, 16, 32, 26)  # x0 y0 x1 y1 of the damage, on the product
BOX = (12, 10, 52, 38)  # x0 y0 x1 y1 of the product


def write_tiny(root: Path) -> Path:
    """All sets of the registry below `root`; Kaputt in layout A with a public sample in B."""
    write_folder(root / "cookies", normal=9, anomalous=5, masks=True)
    write_folder(root / "carton_top", normal=9, anomalous=5)
    write_pairs(root / "deeppcb")
    write_mvtec(root / "mvtec")
    write_visa(root / "visa")
    write_kaputt(root / "kaputt", split="test")
    write_kaputt(root / "kaputt" / "sample-data", split="sample", flat=True)
    write_grocery(root / "grocery")
    return root


def write_picture(path: Path, *, product: str = "", damaged: bool = False) -> None:
    """A photograph: `product` decides the colours, the last three names of `path` the noise."""
    colours = np.random.default_rng(zlib.crc32(product.encode()))
    noise = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), 230.0)
    pixels[_inside(BOX)] = colours.integers(90, 200, 3)
    if damaged:
        pixels[_inside(PATCH)] = 20.0
    pixels += noise.normal(0.0, 3.0, pixels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def write_mask(path: Path, *, box: Sequence[int] = PATCH, value: int = 255) -> None:
    """A grey PNG that holds `value` inside `box` and 0 elsewhere."""
    pixels = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    pixels[_inside(box)] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_folder(home: Path, *, normal: int, anomalous: int, masks: bool = False) -> None:
    for number in range(normal):
        write_picture(home / "normal" / f"normal-{number}.jpg", product=home.name)
    for number in range(anomalous):
        path = home / "anomalous" / f"anomaly-{number}.jpg"
        write_picture(path, product=home.name, damaged=True)
        if masks:
            write_mask(home / "masks" / f"anomaly-{number}.png")


def write_mvtec(home: Path) -> None:
    for category, defects in (("bottle", ("broken", "contamination")), ("screw", ("bent",))):
        for number in range(6):
            write_picture(home / category / "train/good" / f"{number:03d}.png", product=category)
        for number in range(3):
            write_picture(home / category / "test/good" / f"{number:03d}.png", product=category)
        for defect in defects:
            for number in range(2):
                name = f"{defect}/{number:03d}"
                write_picture(
                    home / category / "test" / f"{name}.png", product=category, damaged=True
                )
                write_mask(home / category / "ground_truth" / f"{name}_mask.png")


def write_visa(home: Path) -> None:
    """Two objects; masks hold the class of the defect, only `candle` has image_anno.csv."""
    rows = [["object", "split", "label", "image", "mask"]]
    types = [["image", "label", "mask"]]
    for name in ("candle", "pcb1"):
        for number in range(8):
            image = f"{name}/Data/Images/Normal/{number:04d}.JPG"
            write_picture(home / image, product=name)
            rows.append([name, "train" if number < 5 else "test", "normal", image, ""])
        for number in range(2):
            image = f"{name}/Data/Images/Anomaly/{number:03d}.JPG"
            mask = f"{name}/Data/Masks/Anomaly/{number:03d}.png"
            write_picture(home / image, product=name, damaged=True)
            write_mask(home / mask, value=number + 1)
            rows.append([name, "test", "anomaly", image, mask])
            if name == "candle":
                types.append([image, "melt,scratch" if number else "melt", mask])
    write_csv(home / "split_csv/1cls.csv", rows)
    write_csv(home / "candle/image_anno.csv", types)


def write_csv(table: Path, rows: Sequence[Sequence[str]]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


KAPUTT_ITEMS = ("B00A", "B00B", "B00C")
KAPUTT_QUERIES = (  # capture, item, defect, major, types
    ("c1", "B00A", False, False, ""),
    ("c2", "B00A", True, True, "spillage,deconstruction"),
    ("c3", "B00B", True, False, "deformation"),
    ("c4", "B00B", False, False, ""),
    ("c5", "B00C", False, False, ""),
)


def write_kaputt(home: Path, *, split: str, flat: bool = False) -> None:
    """Layout A, or B if `flat`. B00A has three references in two rows, the others one and two.

    Item masks hold 1 instead of 255 where the product is.
    """
    queries: list[Mapping[str, object]] = []
    for capture, item, defect, major, types in KAPUTT_QUERIES:
        files = _kaputt_files(home, split, "query", capture, item=item, flat=flat, damaged=defect)
        labels = {"defect": defect, "major_defect": major, "defect_types": types or None}
        own = {"capture_id": capture, "item_identifier": item, "item_material": "cardboard"}
        queries.append({**own, **labels, **files})
    references: list[Mapping[str, object]] = []
    for item, names in (("B00A", "r1,r2"), ("B00B", "r3"), ("B00A", "r4"), ("B00C", "r5,r6")):
        several = [
            _kaputt_files(home, split, "reference", name, item=item, flat=flat)
            for name in names.split(",")
        ]
        joined = {key: ",".join(cells[key] for cells in several) for key in several[0]}
        references.append({"item_identifier": item, **joined})
    tables = home if flat else home / "datasets"
    tables.mkdir(parents=True, exist_ok=True)
    write_parquet(tables / f"query-{split}.parquet", queries)
    write_parquet(tables / f"reference-{split}.parquet", references)


def write_parquet(table: Path, rows: Sequence[Mapping[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), table)


def write_pairs(home: Path) -> None:
    x0, y0, x1, y1 = PATCH
    for number in range(3):
        name = f"0004120{number}"
        write_picture(home / "temp" / f"{name}.jpg")
        write_picture(home / "test" / f"{name}.jpg", damaged=True)
        (home / "boxes").mkdir(exist_ok=True)
        second = f"40 12 44 16 {number + 1}\n" if number else ""
        (home / "boxes" / f"{name}.txt").write_text(f"{x0} {y0} {x1} {y1} 1\n{second}", "utf-8")


def write_grocery(home: Path) -> None:
    for number, product in enumerate(("Milk", "Oat-Milk", "Juice")):
        write_picture(home / "iconic" / product / f"{product}_Iconic.jpg", product=product)
        for slot in range(2):
            write_picture(home / "gallery" / product / f"{product}_{slot:03d}.jpg", product=product)
        for slot in range(number + 1):
            write_picture(home / "query" / product / f"{product}_{slot:03d}.jpg", product=product)


def _kaputt_files(
    home: Path, split: str, role: str, name: str, *, item: str, flat: bool, damaged: bool = False
) -> dict[str, str]:
    """Write image, crop and mask; the cells that name them, as the published tables do."""
    cells = {}
    for kind, suffix in (("image", "jpg"), ("crop", "jpg"), ("mask", "png")):
        relative = f"data/{split}/{role}-data/{kind}/{name}.{suffix}"
        path = home / relative if flat else home / f"{role}-{kind}" / relative
        if kind == "mask":
            write_mask(path, box=BOX, value=1)
        else:
            write_picture(path, product=item, damaged=damaged)
        cells[f"{role}_{kind}"] = relative
    return cells


def _inside(box: Sequence[int]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    return slice(y0, y1), slice(x0, x1)
