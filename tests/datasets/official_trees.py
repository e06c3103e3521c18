"""Tiny synthetic data sets in the official layout of each real one.

Every group has rows in every split. Images are noise on a colour that tells the target and, less
plainly, the attribute.
"""

import csv
import json
import sys
import types
import zipfile
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

FAIRFACE_AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
FAIRFACE_RACES = (
    "Black",
    "Southeast Asian",
    "Middle Eastern",
    "Indian",
    "Latino_Hispanic",
    "White",
    "East Asian",
)
SPREADSHEET = {"3-9": "03-Sep", "10-19": "Oct-19", "True": "TRUE", "False": "FALSE"}
CELEBA_ATTRIBUTES = ("Attractive", "Blond_Hair", "Male", "Smiling")
WATERBIRDS_FOLDER = "waterbird_complete95_forest2water2"
MNLI_LABELS = ("contradiction", "entailment", "neutral")
ADULT_RACES = ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White")


def write_image(path, target=0, attribute=0, size=(16, 16), seed=0):
    """Write noise on a colour; size is (width, height)."""
    rng = np.random.default_rng([seed, target, attribute])
    colour = np.array([40 + 20 * target, 60 + 20 * attribute, 128])
    noise = rng.normal(scale=20, size=(size[1], size[0], 3))
    pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def zip_tree(folder, archive, prefix=""):
    """Put a folder into a zip file, uncompressed, below a prefix such as "data/"."""
    folder = Path(folder)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, prefix + path.relative_to(folder).as_posix())
    return Path(archive)


def fairface_tree(root, *, n_each=2, n_test_each=1, size=16, damaged=False):
    """Label files and photographs of FairFace.

    Each of the 63 groups has ``n_each`` rows in the label file for training and ``n_test_each`` in
    the other, all with service_test True; one more row in nine has it False. ``damaged`` saves the
    label files as a spreadsheet program would.
    """
    root = Path(root)
    for split, times in (("train", n_each), ("val", n_test_each)):
        rows, first_seed = [], {"train": 0, "val": 1_000_000}[split]
        for number, (_, age, race) in enumerate(product(range(times), range(9), range(7)), start=1):
            served = [True, False] if number % 9 == 0 else [True]
            for service_test in served:
                name = f"{split}/{len(rows) + 1}.jpg"
                write_image(root / name, age, race, (size, size), seed=first_seed + len(rows))
                gender = ("Female", "Male")[number % 2]
                rows.append(
                    [name, FAIRFACE_AGES[age], gender, FAIRFACE_RACES[race], str(service_test)]
                )
        if damaged:
            rows = [[SPREADSHEET.get(value, value) for value in row] for row in rows]
        header = ["file", "age", "gender", "race", "service_test"]
        write_csv(root / f"fairface_label_{split}.csv", header, rows)
    return root


def celeba_tree(root, *, n_each=4, zipped=False, size=(18, 22)):
    """CelebA as torchvision lays it out, with four of its attributes.

    Every combination of the attributes has ``n_each`` training rows, one for validation and one for
    test. ``zipped`` leaves the images in the official zip file.
    """
    folder = Path(root) / "celeba"
    splits = [0] * n_each + [1, 2]
    attributes, partition = [], []
    combinations = product(splits, product((0, 1), repeat=len(CELEBA_ATTRIBUTES)))
    for number, (split, values) in enumerate(combinations, start=1):
        name = f"{number:06d}.jpg"
        blond, male = values[1], values[2]
        write_image(folder / "img_align_celeba" / name, blond, male, size, seed=number)
        attributes.append(" ".join([name, *(f"{2 * value - 1:2d}" for value in values)]))
        partition.append(f"{name} {split}")
    lines = [str(len(attributes)), " ".join(CELEBA_ATTRIBUTES), *attributes]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    if zipped:
        images = folder / "img_align_celeba"
        zip_tree(images, folder / "img_align_celeba.zip", "img_align_celeba/")
        for path in images.iterdir():
            path.unlink()
        images.rmdir()
    return Path(root)


def waterbirds_tree(root, *, n_each=4):
    """Waterbirds: metadata.csv, and photographs of different sizes in a folder for each species."""
    folder = Path(root) / WATERBIRDS_FOLDER
    rows = []
    for split, y, place in product([0] * n_each + [1, 2], (0, 1), (0, 1)):
        number = len(rows)
        name = f"{1 + y:03d}.Bird_{y}/Bird_{number:04d}.jpg"
        write_image(folder / name, y, place, (24 + number % 5, 20 + number % 3), seed=number)
        rows.append([number, name, y, split, place, f"/{'ow'[place]}/scene/{number}.jpg"])
    header = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    write_csv(folder / "metadata.csv", header, rows)
    return Path(root)


def multinli_tree(root, *, n_each=4, inputs="official", length=8):
    """Metadata of the group-DRO release, and inputs in one of the forms they come in.

    ``inputs`` is "official" (lists of pickled objects) or "sentences" (three JSON files of the
    corpus, with rows that have no label in between).
    """
    root = Path(root)
    rows = list(product([0] * n_each + [1, 2], range(3), (0, 1)))
    sentences = [
        (f"sentence {n}, number one", f"{'never ' * negation}sentence {n} \u2028 two")
        for n, (_, _, negation) in enumerate(rows)
    ]
    labels = [label for _, label, _ in rows]
    # of three files, the first is the longest, as in the corpus
    ends = [0, len(rows) - 5, len(rows) - 2, len(rows)]
    parts = [slice(*bounds) for bounds in pairwise(ends)]
    numbers = list(range(len(rows)))
    header = ["", "gold_label", "sentence2_has_negation", "split"]
    if inputs == "sentences":
        # in each file, the second row has no label and is left out of the metadata
        gaps = [part.start + 1 + k for k, part in enumerate(parts)]
        numbers = [n for n in range(len(rows) + len(gaps)) if n not in gaps]
        _write_sentences(root / "data", rows, sentences, parts)
    else:
        _write_features(root / "glue_data" / "MNLI", labels, parts, length)
    table = [
        [number, label, negation, split]
        for number, (split, label, negation) in zip(numbers, rows, strict=True)
    ]
    write_csv(root / "data" / "metadata_random.csv", header, table)
    return root


def _write_sentences(folder, rows, sentences, parts):
    folder.mkdir(parents=True, exist_ok=True)
    names = ("train", "dev_matched", "dev_mismatched")
    for name, part in zip(names, parts, strict=True):
        lines = [
            {"sentence1": one, "sentence2": two, "gold_label": MNLI_LABELS[label]}
            for (_, label, _), (one, two) in zip(rows[part], sentences[part], strict=True)
        ]
        lines.insert(1, {"sentence1": "left", "sentence2": "out", "gold_label": "-"})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"multinli_1.0_{name}.jsonl").write_text(text, encoding="utf-8")


def multinli_features(labels, length=8):
    """Token numbers, masks and segments that depend on the row and its label."""
    n_rows = len(labels)
    numbers = 100 + 3 * np.arange(n_rows)[:, None] + np.arange(length)
    numbers[:, 0] = labels
    mask = np.ones((n_rows, length), dtype=int)
    mask[:, -2:] = 0
    segments = np.zeros((n_rows, length), dtype=int)
    segments[:, length // 2 :] = 1
    return np.stack([numbers, mask, segments], axis=2)


def _write_features(folder, labels, parts, length):
    folder.mkdir(parents=True, exist_ok=True)
    features = multinli_features(labels, length)
    names = ("train", "dev", "dev")
    for name, ending, part in zip(names, ("", "", "-mm"), parts, strict=True):
        path = folder / f"cached_{name}_bert-base-uncased_{128}_mnli{ending}"
        save_features(path, features[part], np.array(labels)[part])


def save_features(path, features, labels):
    """Pickle objects of a class in a module of another program, in torch's format of its time."""
    module = types.ModuleType("utils_glue")

    class InputFeatures:
        pass

    InputFeatures.__module__, InputFeatures.__qualname__ = "utils_glue", "InputFeatures"
    module.InputFeatures = InputFeatures
    rows = []
    for row, label in zip(features, labels, strict=True):
        item = InputFeatures()
        item.input_ids, item.input_mask, item.segment_ids = row.T.tolist()
        item.label_id = int(label)
        rows.append(item)
    sys.modules["utils_glue"] = module
    try:
        torch.save(rows, path, _use_new_zipfile_serialization=False)
    finally:
        del sys.modules["utils_glue"]


def adult_tree(root, *, n_each=6, n_test_each=2):
    """adult.data and adult.test, with comments, missing values and the dot after test labels."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, times, dot in (("adult.data", n_each, ""), ("adult.test", n_test_each, ".")):
        lines = ["|1x3 Cross validator"] if dot else []
        groups = product(range(times), (0, 1), ("Female", "Male"), ADULT_RACES)
        for number, (_, rich, sex, race) in enumerate(groups):
            fields = [
                20 + 10 * rich + int(rng.integers(30)),
                "?" if number % 11 == 0 else ("Private", "State-gov")[number % 2],
                int(rng.integers(10_000, 500_000)),
                ("HS-grad", "Bachelors")[rich],
                (9, 13)[rich],
                "Never-married",
                "?" if number % 11 == 0 else "Sales",
                ("Wife", "Husband")[sex == "Male"],
                race,
                sex,
                int(rng.integers(5000)) * rich,
                0,
                int(rng.integers(20, 60)),
                "?" if number % 13 == 0 else "United-States",
                ("<=50K", ">50K")[rich] + dot,
            ]
            lines.append(", ".join(map(str, fields)))
        (root / name).write_text("\n".join(lines) + "\n\n")
    return root


def image_table_tree(root, *, n_each=3):
    """A CSV file, and photographs in a folder beside it."""
    root = Path(root)
    rows = []
    for split, (t, target), (a, sex), age in product(
        ["train"] * n_each + ["val", "test"],
        enumerate(("cat", "dog")),
        enumerate(("f", "m")),
        (9, 10),
    ):
        name = f"pet_{len(rows)}.png"
        write_image(root / "images" / name, t, a, seed=len(rows))
        rows.append([name, target, sex, age, split])
    write_csv(root / "labels.csv", ["file", "animal", "sex", "age", "part"], rows)
    return root
