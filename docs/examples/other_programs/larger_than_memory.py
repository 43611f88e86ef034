"""
Data larger than memory
=======================

A folder of ``.npz`` files, a Parquet file or a memory map is trained on part by part. You see how much memory that
takes, measured while the network trains on a memory map of 154 MB that is never loaded.
"""

import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp
from deltaprop.callbacks import Callback

# %%
# The data are made in parts, and written to disk: 600 000 rows of 64 columns, in single precision.

rng = np.random.default_rng(0)
folder = tempfile.TemporaryDirectory()
rows, columns = 600_000, 64
X = np.memmap(Path(folder.name) / "X.float32", np.float32, mode="w+", shape=(rows, columns))
y = np.empty(rows, np.float32)
direction = rng.normal(size=columns) / 8
for part in range(0, rows, 50_000):
    X[part : part + 50_000] = rng.normal(size=(50_000, columns))
    y[part : part + 50_000] = np.tanh(X[part : part + 50_000] @ direction)


# %%
# ``tracemalloc`` counts what Python and NumPy allocate. A callback reads the counter after every hundredth step.


class Memory(Callback):
    every_steps = 100

    def __init__(self):
        self.megabytes = []

    def on_step_end(self, event):
        self.megabytes.append(tracemalloc.get_traced_memory()[0] / 1e6)


# %%
# From here on a memory map is as good as an array: ``fit`` shuffles all of its rows, and reads them a chunk at a time.

memory = Memory()
net = dp.Network([columns, 32, 1], hidden_activation="tanh", loss="squared_error", dtype="float32", seed=0)
tracemalloc.start()
history = net.fit(X, y, optimizer=dp.Adam(1e-3), batch_size=256, epochs=2, callbacks=[memory])
peak = tracemalloc.get_traced_memory()[1] / 1e6
tracemalloc.stop()
size = X.nbytes / 1e6
print(f"data on disk: {size:.0f} MB")
print(f"peak while training is less than a half of that: {peak < size / 2}")

# %%
fig, axis = plt.subplots()
steps = 100 * np.arange(1, len(memory.megabytes) + 1)
axis.fill_between(steps, memory.megabytes, alpha=0.3, linewidth=0)
axis.plot(steps, memory.megabytes, label="allocated while training")
axis.axhline(size, color="C1", linestyle="--", label="the data on disk")
axis.set(
    title="Two epochs over data that are never loaded", xlabel="step", ylabel="memory in MB", ylim=(0, 1.15 * size)
)
axis.legend(loc="center right")
del X
folder.cleanup()
plt.show()

# %%
# Read on: :meth:`deltaprop.Network.fit` says in which order the rows of each kind of file come; :ref:`guide-large-data`
# divides them among processes.
