"""Tiny synthetic data sets in the official layout of each real one.

Every group has rows in every split. Images are noise on a colour that tells the target and, less
plainly, the attribute.
"""

import csv
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
    *("Black", "Southeast Asian", "Middle Eastern", "Indian"),
    *("Latino_Hispanic", "White", "East Asian"),
)
CELEBA_ATTRIBUTES = ("Attractive", "Blond_Hair", "Male")
WATERBIRDS_FOLDER = "waterbird_complete95_forest2water2"
ADULT_RACES = ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White")


def write_image(path, target=0, attribute=0, size=(16, 16), seed=0):
    """Write noise on a colour; size is (width, height)."""
    rng = np.random.default_rng([seed, target, attribute])
    colour = np.array([40 + 20 * target, 60 + 20 * attribute, 128])
    noise = rng.normal(scale=20, size=(size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(path, quality=90)


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def zip_tree(folder, archive, prefix=""):
    """Put a folder into a zip file, uncompressed, below a prefix such as "data/"."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                file.write(path, prefix + path.relative_to(folder).as_posix())
    return Path(archive)


def fairface_tree(root, *, n_each=2):
    """Label files and photographs of FairFace.

    Each of the 63 groups has ``n_each`` rows in the label file for training and one in the other,
    all with service_test True; one more row in nine has it False.
    """
    for split, times in (("train", n_each), ("val", 1)):
        rows = []
        for number, (_, age, race) in enumerate(product(range(times), range(9), range(7)), start=1):
            for service_test in [True, False] if number % 9 == 0 else [True]:
                name = f"{split}/{len(rows) + 1}.jpg"
                write_image(Path(root) / name, age, race, seed=len(rows) + 1000 * (split == "val"))
                gender = ("Female", "Male")[number % 2]
                rows.append(
                    [name, FAIRFACE_AGES[age], gender, FAIRFACE_RACES[race], str(service_test)]
                )
        header = ["file", "age", "gender", "race", "service_test"]
        write_csv(Path(root) / f"fairface_label_{split}.csv", header, rows)
    return Path(root)


def celeba_tree(root, *, n_each=4):
    """CelebA as torchvision lays it out, with three of its attributes.

    Every combination of them has ``n_each`` training rows, one for validation and one for test.
    """
    folder = Path(root) / "celeba"
    attributes, partition = [], []
    combinations = product([0] * n_each + [1, 2], product((0, 1), repeat=len(CELEBA_ATTRIBUTES)))
    for number, (split, values) in enumerate(combinations, start=1):
        name = f"{number:06d}.jpg"
        write_image(folder / "img_align_celeba" / name, *values[1:], (18, 22), seed=number)
        attributes.append(" ".join([name, *(f"{2 * value - 1:2d}" for value in values)]))
        partition.append(f"{name} {split}")
    lines = [str(len(attributes)), " ".join(CELEBA_ATTRIBUTES), *attributes]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return Path(root)


def waterbirds_tree(root, *, n_each=4):
    """Waterbirds: metadata.csv, and photographs of different sizes in a folder for each species."""
    folder, rows = Path(root) / WATERBIRDS_FOLDER, []
    for split, y, place in product([0] * n_each + [1, 2], (0, 1), (0, 1)):
        number = len(rows)
        name = f"{1 + y:03d}.Bird_{y}/Bird_{number:04d}.jpg"
        write_image(folder / name, y, place, (24 + number % 5, 20 + number % 3), seed=number)
        rows.append([number, name, y, split, place, f"/{'ow'[place]}/scene/{number}.jpg"])
    header = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    write_csv(folder / "metadata.csv", header, rows)
    return Path(root)


def multinli_tree(root, *, n_each=4):
    """Metadata of the group-DRO release, and its lists of pickled objects."""
    rows = list(product([0] * n_each + [1, 2], range(3), (0, 1)))
    labels = [label for _, label, _ in rows]
    # of three files, the first is the longest, as in the corpus
    parts = [slice(*ends) for ends in pairwise([0, len(rows) - 5, len(rows) - 2, len(rows)])]
    folder, end = Path(root) / "glue_data" / "MNLI", "bert-base-uncased_128_mnli"
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"train_{end}", f"dev_{end}", f"dev_{end}-mm")
    for name, part in zip(names, parts, strict=True):
        save_features(folder / f"cached_{name}", multinli_features(labels)[part], labels[part])
    table = [[n, label, negation, split] for n, (split, label, negation) in enumerate(rows)]
    header = ["", "gold_label", "sentence2_has_negation", "split"]
    write_csv(Path(root) / "data" / "metadata_random.csv", header, table)
    return Path(root)


def multinli_features(labels, length=8):
    """Token numbers, masks and segments that depend on the row and its label."""
    numbers = 100 + 3 * np.arange(len(labels))[:, None] + np.arange(length)
    numbers[:, 0] = labels
    mask, segments = np.ones_like(numbers), np.zeros_like(numbers)
    mask[:, -2:] = 0
    segments[:, length // 2 :] = 1
    return np.stack([numbers, mask, segments], axis=2)


def save_features(path, features, labels):
    """Pickle objects of a class in a module of another program, in torch's format of its time."""
    module = types.ModuleType("utils_glue")
    kind = type("InputFeatures", (), {"__module__": "utils_glue"})
    module.InputFeatures = kind
    rows = [kind() for _ in labels]
    for item, row, label in zip(rows, features, labels, strict=True):
        item.input_ids, item.input_mask, item.segment_ids = row.T.tolist()
        item.label_id = int(label)
    sys.modules["utils_glue"] = module
    try:
        torch.save(rows, path, _use_new_zipfile_serialization=False)
    finally:
        del sys.modules["utils_glue"]


def adult_tree(root, *, n_each=6):
    """adult.data and adult.test, with comments, missing values and the dot after test labels."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, times, dot in (("adult.data", n_each, ""), ("adult.test", 2, ".")):
        lines = ["|1x3 Cross validator"] if dot else []
        groups = product(range(times), (0, 1), ("Female", "Male"), ADULT_RACES)
        for number, (_, rich, sex, race) in enumerate(groups):
            age, weight = 20 + 10 * rich + int(rng.integers(30)), int(rng.integers(10_000, 99_999))
            work = "?" if number % 11 == 0 else ("Private", "State-gov")[number % 2]
            fields = [age, work, weight]
            fields += [("HS-grad", "Bachelors")[rich], (9, 13)[rich], "Never-married"]
            fields += ["?" if number % 11 == 0 else "Sales", ("Wife", "Husband")[sex == "Male"]]
            fields += [race, sex, int(rng.integers(5000)) * rich, 0, int(rng.integers(20, 60))]
            fields += ["?" if number % 13 == 0 else "United-States", ("<=50K", ">50K")[rich] + dot]
            lines.append(", ".join(map(str, fields)))
        (root / name).write_text("\n".join(lines) + "\n\n")
    return root
