"""scikit-learn's multi-layer perceptrons, trained by deltaprop in scripts that do not know of it.

While it is installed, ``MLPClassifier`` and ``MLPRegressor`` of scikit-learn train and predict by our engine. They stay
scikit-learn's classes: everything that looks at them, copies them, or pickles them finds what it always found. Nothing
happens when this module is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltaprop.accel.profiling import Profile

__all__ = ["enabled", "install", "profile", "uninstall"]


def install() -> None:
    """Let scikit-learn's ``MLPClassifier`` and ``MLPRegressor`` train and predict by deltaprop, in this process.

    Objects that are there already are included. A search by ``GridSearchCV`` or ``RandomizedSearchCV`` trains its
    candidates together where the results are the same, and worker processes that scikit-learn starts do as this one.
    What ours cannot do is done by scikit-learn's own code, and logged by the logger "deltaprop.accel".

    Raises
    ------
    RuntimeError
        If the code of the installed scikit-learn is not as expected; then nothing is changed.

    See Also
    --------
    uninstall : Undoes it.
    profile : What has run where.

    Examples
    --------
    >>> from deltaprop import accel
    >>> from sklearn.neural_network import MLPClassifier
    >>> accel.install()
    >>> clf = MLPClassifier((8,), solver="lbfgs", random_state=0).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    >>> type(clf).__module__.startswith("sklearn"), accel.enabled()
    (True, True)
    >>> accel.uninstall()
    """
    from deltaprop.accel.patches import install

    install()


def uninstall() -> None:
    """Give scikit-learn's classes their own code back.

    See Also
    --------
    install : Lets deltaprop train them.

    Examples
    --------
    >>> from deltaprop import accel
    >>> accel.install()
    >>> accel.uninstall()
    >>> accel.enabled()
    False
    """
    from deltaprop.accel.patches import uninstall

    uninstall()


def enabled() -> bool:
    """Return whether scikit-learn's classes train by deltaprop now.

    Returns
    -------
    bool
        Whether `install` has been called, and `uninstall` has not been called since.

    Examples
    --------
    >>> from deltaprop import accel
    >>> accel.install()
    >>> accel.enabled()
    True
    >>> accel.uninstall()
    """
    import sys

    patches = sys.modules.get("deltaprop.accel.patches")
    return patches is not None and bool(patches.enabled())


def profile() -> Profile:
    """Return what has run where since the process began, how often, and how long.

    Returns
    -------
    Profile
        Printed, it is a table; work in other processes is not in it.

    Examples
    --------
    >>> from deltaprop import accel
    >>> from sklearn.neural_network import MLPClassifier
    >>> accel.install()
    >>> accel.profile().clear()
    >>> clf = MLPClassifier((8,), solver="lbfgs", random_state=0).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    >>> sorted((method, who) for kind, method, who in accel.profile().calls)
    [('fit', 'deltaprop, numpy, full batch')]
    >>> accel.uninstall()
    """
    from deltaprop.accel.profiling import PROFILE

    return PROFILE


def load_ipython_extension(ipython: Any) -> None:
    """Do what ``%load_ext deltaprop.accel`` asks for: `install`."""
    install()


def unload_ipython_extension(ipython: Any) -> None:
    """Do what ``%unload_ext deltaprop.accel`` asks for: `uninstall`."""
    uninstall()
