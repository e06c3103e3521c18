"""The paper's image transforms, for one image or a whole batch at once."""

from __future__ import annotations

from typing import Any

import torch

# The short side before a centre crop, for one pixel of the crop: 256 for 224.
MARGIN = 256 / 224


def _v2() -> Any:
    """Return torchvision's transforms, imported late: it takes seconds that tables need not."""
    from torchvision.transforms import v2

    return v2


def normalize_images(images: torch.Tensor) -> torch.Tensor:
    """Scale pixels from 0..255 to [-1, 1], with mean 0.5 and standard deviation 0.5 as in [1]_.

    Parameters
    ----------
    images : tensor of shape (..., 3, height, width), uint8
        One image or several.

    Returns
    -------
    tensor of the same shape, float32
        ``(images / 255 - 0.5) / 0.5``.

    References
    ----------
    .. [1] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.
    """
    F = _v2().functional
    # decoded images have their channels last, which makes arithmetic on them slow
    scaled = F.to_dtype(images.contiguous(), torch.float32, scale=True)
    return F.normalize(scaled, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], inplace=True)


def resize_images(images: torch.Tensor, size: int, *, centre_crop: bool = True) -> torch.Tensor:
    """Bring images to a square, the same way every time.

    Parameters
    ----------
    images : tensor of shape (..., 3, height, width), uint8
        One image or several of equal size.
    size : int
        Side of the square, in pixels.
    centre_crop : bool, default=True
        Bring the short side to 256/224 of ``size`` and cut a square from the centre; otherwise
        stretch the whole image into the square.

    Returns
    -------
    tensor of shape (..., 3, size, size), uint8
        The images.
    """
    F = _v2().functional
    if not centre_crop:
        return F.resize(images, [size, size], antialias=True)
    return F.center_crop(F.resize(images, [round(size * MARGIN)], antialias=True), [size, size])


class _Transform:
    #: Whether the same image may come out differently each time.
    is_random = False
    size: int

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Transform one image, uint8 of shape (3, height, width)."""
        return self.batch(image[None])[0]

    def batch(self, images: torch.Tensor) -> torch.Tensor:
        """Transform several images of equal size, each with its own draw if there is one.

        Parameters
        ----------
        images : tensor of shape (n, 3, height, width), uint8
            The images.

        Returns
        -------
        tensor of shape (n, 3, size, size), float32
            Values in [-1, 1].
        """
        return normalize_images(self._resized(images))

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class EvaluationTransform(_Transform):
    """What the paper [1]_ does to images for evaluation: resize, then normalise.

    Parameters
    ----------
    size : int, default=224
        Side of the square, in pixels.
    centre_crop : bool, default=True
        Bring the short side to 256/224 of ``size`` and cut a square from the centre, as for
        Waterbirds and FairFace; otherwise stretch the whole image, as for CelebA.

    References
    ----------
    .. [1] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.

    Examples
    --------
    >>> import torch
    >>> from grmu_sk.datasets import EvaluationTransform
    >>> image = torch.zeros(3, 218, 178, dtype=torch.uint8)
    >>> EvaluationTransform(64, centre_crop=False)(image).shape
    torch.Size([3, 64, 64])
    """

    def __init__(self, size: int = 224, *, centre_crop: bool = True) -> None:
        self.size = size
        self.centre_crop = centre_crop

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        return resize_images(images, self.size, centre_crop=self.centre_crop)


class TrainingTransform(_Transform):
    """What the paper [1]_ does to images for training: a random part, flipped or not, normalised.

    The part is that of torchvision's ``v2.RandomResizedCrop``, and every second one is flipped, by
    chance. Every image has its own draw from torch's global generator; a batch of images is given
    the draws they would have one by one.

    Parameters
    ----------
    size : int, default=224
        Side of the square that the part is resized to, in pixels.

    References
    ----------
    .. [1] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.

    Examples
    --------
    >>> import torch
    >>> from grmu_sk.datasets import TrainingTransform
    >>> images = torch.randint(0, 256, (8, 3, 40, 30), dtype=torch.uint8)
    >>> TrainingTransform(32).batch(images).shape
    torch.Size([8, 3, 32, 32])
    """

    is_random = True

    def __init__(self, size: int = 224) -> None:
        self.size = size

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        crop = _v2().RandomResizedCrop(self.size)
        boxes, flipped = [], []
        for _ in range(len(images)):
            box = crop.make_params([images[0]])
            boxes.append([box[side] for side in ("top", "left", "height", "width")])
            flipped.append(bool(torch.rand(1) < 0.5))
        # one by one as torchvision does it; on a GPU that would be thousands of tiny kernels
        crops = crops_one_by_one if images.device.type == "cpu" else crops_at_once
        return crops(images, torch.tensor(boxes), torch.tensor(flipped), self.size)


def crops_one_by_one(
    images: torch.Tensor, boxes: torch.Tensor, flipped: torch.Tensor, size: int
) -> torch.Tensor:
    """Cut a part out of each image, resize and flip it; see :func:`crops_at_once`."""
    F = _v2().functional
    pairs = zip(images, boxes.tolist(), strict=True)
    crops = torch.stack([F.resized_crop(x, *box, [size, size], antialias=True) for x, box in pairs])
    crops[flipped] = crops[flipped].flip(-1)
    return crops


def crops_at_once(
    images: torch.Tensor, boxes: torch.Tensor, flipped: torch.Tensor, size: int
) -> torch.Tensor:
    r"""Cut a part out of each image, resize and flip it, for all images in two matrix products.

    Resizing with antialiasing is linear and separable: an image x becomes :math:`A x B^\top`, with

    .. math::

        A_{ip} \propto \max\Bigl(0, 1 - \frac{|p + 1/2 - c_i|}{\max(s, 1)}\Bigr), \quad
        c_i = t + (i + 1/2) s, \quad s = h / \text{size}

    for pixels p of the part, which begins at t and has h of them; its rows sum to 1.

    Parameters
    ----------
    images : tensor of shape (n, 3, height, width), uint8
        The images, on any device.
    boxes : tensor of shape (n, 4)
        Top, left, height and width of each part, in pixels.
    flipped : bool tensor of shape (n,)
        Which to flip horizontally.
    size : int
        Side of the results, in pixels.

    Returns
    -------
    tensor of shape (n, 3, size, size), uint8
        Those of torchvision's ``resized_crop``, to one grey level.
    """
    boxes, flipped = boxes.to(images.device), flipped.to(images.device)
    top, left, high, wide = boxes.unbind(1)
    by_row = _resizing(top, high, images.shape[-2], size)
    by_column = _resizing(left, wide, images.shape[-1], size)
    by_column = torch.where(flipped[:, None, None], by_column.flip(1), by_column)
    crops = by_row[:, None] @ images.float() @ by_column[:, None].mT
    return crops.round_().clamp_(0, 255).to(torch.uint8)


def _resizing(start: torch.Tensor, length: torch.Tensor, n_pixels: int, size: int) -> torch.Tensor:
    """Return the weights of all pixels of an axis in each pixel of the results, for each image."""
    start, length = start[:, None, None].float(), length[:, None, None].float()
    scale = length / size
    pixels = torch.arange(n_pixels, device=start.device) + 0.5
    centres = start + (torch.arange(size, device=start.device)[:, None] + 0.5) * scale
    weights = (1 - (pixels - centres).abs() / scale.clamp_min(1)).clamp_min_(0)
    weights *= (pixels > start) & (pixels < start + length)
    return weights / weights.sum(dim=2, keepdim=True)
