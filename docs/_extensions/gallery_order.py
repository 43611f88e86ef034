"""The order of the gallery's sections and examples, and how its pictures look."""

from pathlib import Path
from typing import Any

from matplotlib import style

#: Every example stands here, and the gallery shows them in this order: from the first steps on, by kind of user.
SECTIONS = {
    "first_steps": ["digits", "table", "pipeline", "xor_explained"],
    "what_a_network_learns": ["decision_boundaries", "weights_as_images", "deciding_pixels", "learning_watched"],
    "choosing": [
        "learning_rate_finder",
        "learning_rate_schedules",
        "sweep_heat_map",
        "early_stopping",
        "dropout",
        "seeds",
        "ensemble_uncertainty",
    ],
    "losses_and_derivatives": [
        "custom_loss",
        "quantile_regression",
        "class_imbalance",
        "gradient_check",
        "forward_and_reverse",
        "hessian_spectrum",
    ],
    "other_programs": ["kill_and_resume", "larger_than_memory", "torch_and_onnx"],
}
STYLE = Path(__file__).parents[1] / "_static" / "gallery.mplstyle"


class InOrder:
    """Key that sorts the examples of a section as they stand in `SECTIONS`.

    Parameters
    ----------
    src_dir : str
        The folder of the section.
    """

    def __init__(self, src_dir: str) -> None:
        self.names: list[str] = SECTIONS.get(Path(src_dir).name, [])

    def __call__(self, filename: str) -> int:
        """Return the place of an example; ValueError if `SECTIONS` lacks it."""
        return self.names.index(Path(filename).stem)


def use_style(gallery_conf: dict[str, Any], name: str | None) -> None:
    """Give matplotlib the style of the gallery, before each example."""
    style.use(STYLE)
