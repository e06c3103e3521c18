"""Data sets for group-robust unlearning: two built-in ones that need no download, and readers."""

from grmu_sk.datasets.adult import load_adult
from grmu_sk.datasets.celeba import load_celeba
from grmu_sk.datasets.digits import load_digits_on_backgrounds
from grmu_sk.datasets.fairface import load_embedded_faces, load_fairface
from grmu_sk.datasets.images import ImageFiles, ImageRows, decode_images
from grmu_sk.datasets.multinli import load_multinli
from grmu_sk.datasets.own_data import Columns, read_rows
from grmu_sk.datasets.transforms import EvaluationTransform, TrainingTransform
from grmu_sk.datasets.waterbirds import load_waterbirds

__all__ = [
    "Columns",
    "EvaluationTransform",
    "ImageFiles",
    "ImageRows",
    "TrainingTransform",
    "decode_images",
    "load_adult",
    "load_celeba",
    "load_digits_on_backgrounds",
    "load_embedded_faces",
    "load_fairface",
    "load_multinli",
    "load_waterbirds",
    "read_rows",
]
