"""Which compiled library is taken: one that came with the package and that this processor can run, or one made here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from deltaprop.backends.native.compiler import NAME, NO_COMPILER, find_compiler, library_options, native_library
from deltaprop.backends.native.prebuilt_libraries import any_prebuilt, load_prebuilt
from deltaprop.backends.native.processor import supports
from deltaprop.backends.native.variants import Variant, variants_of
from deltaprop.errors import BackendError

T = TypeVar("T")

#: Names the variant to take, or "native": compile for this very processor.
VARIABLE, NATIVE = "DELTAPROP_LIBRARY", "native"


@dataclass(frozen=True)
class Selected(Generic[T]):
    """A library as it was loaded, and where it comes from, such as "prebuilt (x86-64-v4)" or "compiled here"."""

    loaded: T
    origin: str


def select_library(real: str, load: Callable[[Path], T]) -> Selected[T]:
    """Load the library for arrays of "float" or "double"; a compiler is asked only if no prebuilt one fits.

    Raises
    ------
    BackendError, OSError
        If there is none, and none can be compiled; the message says why.
    ValueError
        If ``DELTAPROP_LIBRARY`` names none that this processor can run.
    """
    named = wanted()
    if isinstance(named, Variant):
        try:
            return _prebuilt(named, real, load)
        except BackendError:
            return Selected(native_library(real, load, named.options), f"compiled here ({named.name})")
    if named is not None:
        return Selected(native_library(real, load), "compiled here")
    found = find_prebuilt(real, load)
    if not isinstance(found, str):
        return found
    try:
        return Selected(native_library(real, load), "compiled here")
    except (BackendError, OSError) as error:
        lesser = _first_of(runnable()[1:], real, load) if any_prebuilt() else None
        if lesser is not None:
            return lesser
        if any_prebuilt():
            raise BackendError(f"{found}; {error}") from error
        raise


def find_prebuilt(real: str, load: Callable[[Path], T]) -> Selected[T] | str:
    """The best library for this processor that came with the package, or why there is none."""
    if not any_prebuilt():
        return "this installation has no prebuilt library"
    try:
        best = next((variant for variant in variants_of() if supports(variant)), None)
        if best is None:
            return "the prebuilt libraries are for other processors"
        return _prebuilt(best, real, load)
    except (BackendError, OSError) as error:
        return str(error)


def wanted() -> Variant | str | None:
    """The variant that ``DELTAPROP_LIBRARY`` names, or "native"; None if it names nothing.

    Raises
    ------
    ValueError
        If it names none that this processor can run.
    BackendError, OSError
        If it cannot be found out what this processor can run.
    """
    named, known = os.environ.get(VARIABLE) or None, variants_of()
    if named in (None, NATIVE):
        return named
    variant = next((each for each in known if each.name == named), None)
    if variant is None:
        names = " or ".join((NATIVE, *(each.name for each in known)))
        raise ValueError(f"{VARIABLE}: expected {names} on this machine, got {named!r}")
    if not supports(variant):
        raise ValueError(f"{VARIABLE}: expected a library that this processor can run, got {named!r}")
    return variant


def runnable() -> list[Variant]:
    """The variants that this processor can run, the best first; none where that cannot be found out."""
    try:
        return [variant for variant in variants_of() if supports(variant)]
    except (BackendError, OSError):
        return []


def describe() -> str:
    """Which library will be taken here, without compiling one, such as "prebuilt (x86-64-v4)"; or why there is none."""
    try:
        named = wanted()
    except (ValueError, BackendError, OSError) as error:
        return f"none: {error}"
    compiler, why = find_compiler(), f"{VARIABLE} asks for it"
    if isinstance(named, Variant):
        try:
            return _prebuilt(named, "double", Path).origin
        except BackendError as error:
            why = str(error)
    elif named is None:
        found = find_prebuilt("double", Path)
        if not isinstance(found, str):
            return found.origin
        why = found
    if compiler is not None:
        return f"compiled here by {' '.join(compiler)}, as {why}" if any_prebuilt() or named else "compiled here"
    lesser = _first_of(runnable()[1:], "double", Path) if named is None and any_prebuilt() else None
    return lesser.origin if lesser is not None else f"none: {why}, and {NO_COMPILER}"


def _prebuilt(variant: Variant, real: str, load: Callable[[Path], T]) -> Selected[T]:
    options = library_options(real, variant.options)
    loaded = load_prebuilt(f"{NAME}-{real}-{variant.name}", options, load)
    return Selected(loaded, f"prebuilt ({variant.name})")


def _first_of(variants: list[Variant], real: str, load: Callable[[Path], T]) -> Selected[T] | None:
    for variant in variants:
        try:
            return _prebuilt(variant, real, load)
        except BackendError:
            continue
    return None
