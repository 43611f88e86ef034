"""A plugin for pytest that installs deltaprop.accel before scikit-learn's own tests run."""

from deltaprop import accel

accel.install()
