# %% [markdown]
# # Quickstart
#
# From clips to a trained network and a prediction, on a small synthetic corpus: a few minutes on two cores,
# no downloads. The network is too small and trained too briefly to be good; the
# [tutorial](../tutorial.md) takes more time.

# %%
import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from deiii import extract, load, open_features
from deiii.__main__ import main as deiii  # the command line as a function

# Settings as on the command line; every command below gets them.
SETTINGS = ["synthetic", "tiny", "cache=cache", "train.run=runs/quickstart", "train.epochs=8", "workers=1"]
SETTINGS += ["corpus.synthetic.speakers=6", "corpus.synthetic.clips_per_class=1", "corpus.root=raw"]

# %% [markdown]
# ## The corpus
#
# Talking faces in videos with audio. With recordings of your own, `deiii init FOLDER` writes the table that
# deiii reads.

# %%
deiii(["synthesize", *SETTINGS])
videos = sorted(Path("raw").rglob("*.mp4"))
print(len(videos), "videos, first", videos[0])

# %% [markdown]
# ## What deiii computes of a clip
#
# Aligned crops of the face, optical flow between them, and a log-mel spectrogram, on one clock. `extract`
# computes them in memory.

# %%
clip = extract(str(videos[0]))
shown = np.linspace(0, len(clip.frames) - 2, 6).astype(int)
figure, axes = plt.subplots(2, 6, figsize=(10, 3.6), layout="constrained")
for column, frame in zip(axes.T, shown, strict=True):
    column[0].imshow(clip.frames[frame])
    column[0].set_title(f"{clip.video_time[frame]:.2f} s", fontsize=9)
    column[1].imshow(np.hypot(*np.moveaxis(clip.flow[frame], -1, 0)), cmap="magma", vmin=0, vmax=2)
for axis in axes.flat:
    axis.set_axis_off()
figure.suptitle("aligned crops, and the length of the optical flow from 0 (black) to 2 px", fontsize=10)
plt.show()

# %%
figure, axis = plt.subplots(figsize=(10, 2.6), layout="constrained")
extent = (clip.audio_time[0], clip.audio_time[-1], 0, clip.logmel.shape[1])
axis.imshow(clip.logmel.T.astype(np.float32), aspect="auto", origin="lower", extent=extent)
axis.set_xlabel("s")
axis.set_ylabel("mel band")
plt.show()

# %% [markdown]
# ## All clips
#
# `preprocess` computes the features of the corpus once and stores them in a cache. A second run finds them
# there.

# %%
deiii(["preprocess", *SETTINGS])
features = open_features(*SETTINGS)
names, counts = np.unique([clip.label for clip in features.clips], return_counts=True)
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.bar(names, counts)
axis.set_ylabel("clips")
axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
plt.show()

# %% [markdown]
# ## Train
#
# Speakers are never shared between training, validation and test. The epoch with the best validation score is
# kept. So few clips and epochs do not suffice: the training loss falls, but with eight classes, guessing
# gives a score (UAR) of 0.125. `make demo` has 24 speakers and trains for 25 epochs.

# %%
deiii(["train", *SETTINGS, "--quiet", "--resume"])
rows = list(csv.DictReader(Path("runs/quickstart/metrics.csv").read_text().splitlines()))
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
for name in ("train_loss", "val_loss"):
    axis.plot([float(row[name]) for row in rows], label=name.replace("_", " "))
axis.set_xlabel("epoch")
axis.legend()
plt.show()

# %% [markdown]
# ## Evaluate
#
# The test speakers are scored once. `report.html` in the run folder shows everything; here is the confusion
# matrix.

# %%
deiii(["evaluate", "runs/quickstart", "--keep"])
figure, axis = plt.subplots(figsize=(5, 5), layout="constrained")
axis.imshow(plt.imread("runs/quickstart/figures/confusion.png"))
axis.set_axis_off()
plt.show()

# %% [markdown]
# ## Predict
#
# `load` takes a run folder, or a folder that `deiii export` wrote.

# %%
result = load("runs/quickstart").predict(str(videos[-1]))
figure, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
axis.barh(list(result.probabilities), list(result.probabilities.values()))
axis.set_xlabel("probability")
axis.set_xlim(0, 1)
plt.show()

# %% [markdown]
# ## Next
#
# [Your own clips](../howto-own-corpus.md), [more Python](../python.md),
# [many settings tried for you](../howto-records.md).
