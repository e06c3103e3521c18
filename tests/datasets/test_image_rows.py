import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from grmu_sk.datasets import EvaluationTransform, ImageRows, TrainingTransform
from grmu_sk.datasets.transforms import crops_at_once, crops_one_by_one

SCALED = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]


def make_images(n_images=12, height=40, width=30, seed=0):
    """Smooth images, so that a crop can be told from its neighbour."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(0, 256, size=(n_images, 3, 6, 6), dtype=np.uint8))
    fine = v2.functional.resize(coarse, [height, width], antialias=True)
    return np.ascontiguousarray(fine.permute(0, 2, 3, 1).numpy())


@pytest.fixture
def images():
    return make_images()


@pytest.mark.parametrize(
    ("size", "centre_crop", "resize", "shape"),
    [(224, True, 256, (40, 30)), (32, True, 37, (300, 260)), (224, False, [224, 224], (44, 36))],
)
def test_evaluation_crops_the_centre_or_stretches(size, centre_crop, resize, shape):
    image = torch.from_numpy(make_images(1, *shape)[0]).permute(2, 0, 1)
    expected = v2.Compose([v2.Resize(resize), v2.CenterCrop(size), *SCALED])
    found = EvaluationTransform(size, centre_crop=centre_crop)(image)
    assert torch.equal(found, expected(image))


def test_a_batch_has_torchvisions_pixels_for_the_draws_its_images_have_one_by_one(images):
    rows, crop = ImageRows(images, TrainingTransform(24)), v2.RandomResizedCrop(24)
    torch.manual_seed(0)
    found = rows.batch(range(12))
    torch.manual_seed(0)
    assert torch.equal(found, torch.stack([rows[row] for row in range(12)]))
    torch.manual_seed(0)
    flips = []
    for image, result in zip(torch.from_numpy(images).permute(0, 3, 1, 2), found, strict=True):
        expected = crop(image)
        flips.append(bool(torch.rand(1) < 0.5))
        expected = v2.functional.horizontal_flip(expected) if flips[-1] else expected
        assert torch.equal(result, v2.Compose(SCALED)(expected))
    assert 0 < sum(flips) < 12


@pytest.mark.parametrize("size", [8, 64])
def test_crops_of_a_whole_batch_are_torchvisions_to_one_grey_level(size):
    images = torch.from_numpy(make_images(40)).permute(0, 3, 1, 2)
    torch.manual_seed(0)
    draws = [v2.RandomResizedCrop(size).make_params([images[0]]) for _ in images]
    boxes = torch.tensor([[d[k] for k in ("top", "left", "height", "width")] for d in draws])
    flipped = torch.rand(40) < 0.5
    found = crops_at_once(images, boxes, flipped, size)
    assert found.dtype == torch.uint8
    one_by_one = crops_one_by_one(images, boxes, flipped, size)
    assert (found.int() - one_by_one.int()).abs().max() <= 1
    others = crops_one_by_one(images, boxes, ~flipped, size)  # the control
    assert (found.int() - others.int()).abs().max() > 10


def test_precomputed_values_are_the_lazy_ones_and_rows_are_numbers_or_a_mask(images):
    rows = ImageRows(images, EvaluationTransform(32), rows=np.arange(11, 0, -1))
    whole = rows.precompute()
    assert (whole.shape, whole.dtype) == ((11, 3, 32, 32), torch.float32)
    one = EvaluationTransform(32)(torch.from_numpy(images[7]).permute(2, 0, 1))
    assert torch.equal(whole[4], one)
    assert torch.equal(torch.cat(list(DataLoader(rows, batch_size=3))), whole)
    scaled = ImageRows(images).batch([3, 0]).permute(0, 2, 3, 1)
    np.testing.assert_allclose(scaled, images[[3, 0]] / 127.5 - 1, rtol=0, atol=1e-6)
    masked = ImageRows(images, rows.transform, rows=np.isin(np.arange(12), [2, 5, 7]))
    assert len(masked) == 3 and torch.equal(masked[1], whole[6])
    for taken in ([1, 0], np.array([False, True, False])):
        assert torch.equal(masked.take(taken)[0], whole[6])
    with pytest.raises(ValueError, match="may give another image each time"):
        ImageRows(images, v2.RandomHorizontalFlip()).precompute()


@pytest.mark.parametrize("transform", [TrainingTransform(24), EvaluationTransform(24), None])
def test_rows_moved_to_a_device_are_the_same_rows_and_stay_there(images, transform):
    rows = ImageRows(images, transform, rows=[7, 2, 9])
    moved = rows.to("cpu")
    torch.manual_seed(1)
    expected = rows.batch([2, 0])
    torch.manual_seed(1)
    assert torch.equal(moved.batch([2, 0]), expected)
    # on torch's device without values, whatever came from the CPU in between would raise
    batch = rows.to("meta").batch([2, 1])
    assert (batch.device.type, batch.dtype) == ("meta", torch.float32)
    images[:] = 0
    assert moved.images.any(), "the pixels are shared with those of the first rows"
