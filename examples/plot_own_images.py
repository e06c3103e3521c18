"""
A folder of images of one's own
===============================

Pictures in a folder, a table that says what each one shows and who asked to be forgotten: that is
all that is needed. The pictures of this page are drawn by it, so that it needs no data; put your
own folder in their place.
"""

# %%
# The folder
# ----------
# A CSV (or Parquet) file beside the pictures has a row for each: its file, the label, the protected
# attribute, and ``asked``. Here they are triangles and squares on white or tinted paper. Squares on
# white paper are few, and most of those who ask to be forgotten drew one.
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw
from skorch.callbacks import LRScheduler

from grmu_sk import RetrainUnlearner
from grmu_sk.comparison import compare, rows_for
from grmu_sk.datasets import Columns, read_rows
from grmu_sk.nets import SmallCNN, net_of_module
from grmu_sk.own_comparison import split_rows
from grmu_sk.plotting import GroupAccuracyDisplay
from grmu_sk.results import describe_results, format_table

SIDE = 16
PAPER = {"white": (235, 235, 230), "tinted": (225, 175, 110)}
CORNERS = {"triangle": 3, "square": 4}


def draw(shape, paper, rng):
    """Return a shaky drawing on speckled paper."""
    image = Image.new("RGB", (SIDE, SIDE), PAPER[paper])
    angles = 2 * np.pi * (np.arange(CORNERS[shape]) / CORNERS[shape] + rng.random())
    radius = SIDE * rng.uniform(0.22, 0.42, len(angles))
    points = np.c_[np.cos(angles), np.sin(angles)] * radius[:, None] + SIDE / 2
    ink = tuple(int(value) for value in rng.integers(20, 170, 3))
    ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=ink)
    speckled = np.asarray(image) + rng.normal(0, 35, (SIDE, SIDE, 3))
    return Image.fromarray(speckled.clip(0, 255).astype(np.uint8))


temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
rng = np.random.default_rng(0)
sizes = {
    ("triangle", "white"): 500,
    ("triangle", "tinted"): 200,
    ("square", "white"): 240,
    ("square", "tinted"): 500,
}
lines = []
for (shape, paper), size in sizes.items():
    for number in range(size):
        file = f"{paper}-{shape}-{number}.png"
        draw(shape, paper, rng).save(folder / file)
        is_small_group = (shape, paper) == ("square", "white")
        lines.append((file, shape, paper, is_small_group and number < 140))
table = pd.DataFrame(lines, columns=["file", "shape", "paper", "asked"])
table.to_csv(folder / "pictures.csv", index=False)
print(table.groupby(["shape", "paper"])["asked"].agg(["size", "sum"]))

# %%
figure, axes = plt.subplots(1, 8, figsize=(8, 1.3), layout="constrained")
shown = table.groupby(["shape", "paper"]).head(2)
for ax, (_, line) in zip(axes, shown.iterrows(), strict=True):
    ax.imshow(Image.open(folder / line["file"]))
    ax.set_title(f"{line['shape']},\n{line['paper']}", fontsize=7)
    ax.set_axis_off()

# %%
# Reading it
# ----------
# :func:`~grmu_sk.datasets.read_rows` is what all commands read with. It says what is wrong with a
# table: a column that is not there (and the nearest name), an ``asked`` that is no yes or no.
columns = Columns(target="shape", groups=("paper",), forget="asked", image="file", image_size=SIDE)
rows = read_rows(folder, columns)
print(rows.X.shape, rows.X.dtype, rows.y[:2], rows.groups[:2], rows.forget.sum())

# %%
# Forgetting
# ----------
# A torch module may stand where a net may; :func:`~grmu_sk.nets.net_of_module` is for settings
# other than the usual ones. ``fit`` trains on all rows, ``unlearn`` takes the mask as it is.
schedule = LRScheduler("CosineAnnealingLR", T_max=15)
net = net_of_module(SmallCNN(width=8), max_epochs=15, batch_size=32, callbacks=[schedule])
unlearner = RetrainUnlearner(net, random_state=0).fit(rows.X, rows.y, rows.groups)
unlearner.unlearn(rows.forget)
print(len(unlearner.forget_idx_), "rows forgotten, of", unlearner.forget_groups_)

# %%
# Which method?
# -------------
# The table of ``grmu compare``, in Python: each seed cuts the rows anew into training, validation
# and test rows, and all methods are held against the same gold standard. As a command::
#
#     grmu compare --data FOLDER --target shape --group-column paper --forget-column asked \
#                  --image-column file --image-size 16 --methods fine_tune --seeds 2
results = compare(
    net,
    lambda seed: split_rows(rows, "pictures", seed),
    rows_for(["fine_tune"]),
    seeds=range(2),
)
print(format_table(results))

# %%
# What the command says below its table.
asked = [("square", "white")]
print(describe_results(results, asked))

# %%
# Accuracy of each group on test rows; differences are to the gold standard.
display = GroupAccuracyDisplay.from_results(results, forget_groups=asked)
# sphinx_gallery_thumbnail_number = -1
plt.show()
temporary.cleanup()
