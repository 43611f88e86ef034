"""
Killed, and resumed to the bit
==============================

A training of hours dies: the machine restarts, or the scheduler wants its node back. With ``checkpoint=`` and
``resume=True`` the same command goes on where it was. You see a process that is really killed by SIGKILL, the second
one that goes on, and that the outcome equals the one of an uninterrupted run, to the last bit.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

# %%
# The script that is killed. It takes the name of its checkpoint, and the epoch in which it kills itself; a signal from
# outside would do the same, at a moment that nobody could foresee. A checkpoint is written every 5 epochs.

script = """
import os, signal, sys
import deltaprop as dp
import numpy as np

def kill(event):
    if event.epoch == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

X = np.random.default_rng(0).normal(size=(2000, 5))
y = X[:, 0] * X[:, 1] > X[:, 2]
net = dp.Network([5, 40, 40, 1], hidden_activation="tanh", backend="numpy", seed=0)
history = net.fit(
    X, y, optimizer=dp.Adam(1e-3), epochs=40, dropout=0.1, validation=0.2,
    checkpoint=sys.argv[1], checkpoint_every=5, resume=True, callbacks=[kill],
)
net.save(sys.argv[1] + ".result")
print(*[cost.hex() for cost in history.validation_cost])
"""


def run(checkpoint, killed_in):
    return subprocess.run([sys.executable, "-c", script, checkpoint, str(killed_in)], capture_output=True, text=True)


# %%
# Three processes: one is not killed, one is killed in epoch 23, and the last is the same command as the second, once
# more.

folder = tempfile.TemporaryDirectory()
whole, broken = (str(Path(folder.name) / name) for name in ("whole", "broken"))
uninterrupted = run(whole, killed_in=0)
killed = run(broken, killed_in=23)
print("exit status of the killed process:", killed.returncode)
saved = dp.Network.load(broken).epochs_trained
print("the checkpoint holds epoch", saved)
resumed = run(broken, killed_in=0)

# %%
# Equal means equal, not close: the costs of all epochs are compared as hexadecimal numbers, and the parameters bit by
# bit.

parameters = [dp.Network.load(path + ".result").parameters for path in (whole, broken)]
print("the same history:", uninterrupted.stdout == resumed.stdout)
print("the same parameters:", np.array_equal(*parameters))

# %%
# The epochs after the checkpoint were lost, and were trained once more.

first, second = ([float.fromhex(text) for text in process.stdout.split()] for process in (uninterrupted, resumed))
folder.cleanup()
epochs = np.arange(1, 41)
fig, axis = plt.subplots()
axis.plot(epochs, first, color="0.8", linewidth=8, label="uninterrupted")
axis.plot(epochs[:saved], second[:saved], "o-", markersize=4, label="before the kill, in the checkpoint")
axis.plot(epochs[saved:], second[saved:], "s-", markersize=4, label="resumed")
axis.axvline(saved + 0.5, color="k", linestyle=":", label=f"checkpoint of epoch {saved}")
axis.axvline(23, color="C3", linestyle="--", label="SIGKILL in epoch 23")
axis.set(title="A killed run, resumed, on an uninterrupted one", xlabel="epoch", ylabel="validation cost", yscale="log")
axis.legend(loc="upper right")
plt.show()

# %%
# Read on: ``checkpoint`` of :meth:`deltaprop.Network.fit` and of the estimators; :ref:`guide-checkpoints` resumes on
# another number of processes.
