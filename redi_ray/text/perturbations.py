"""Every perturbation of problems in words, by its name in the config."""

from __future__ import annotations

from redi_ray.text.names import NAMES
from redi_ray.text.number_words import NUMBERS
from redi_ray.text.sentences import DISTRACTOR, ORDER
from redi_ray.text.units import UNITS
from redi_ray.text.variants import Perturbation

PERTURBATIONS: dict[str, Perturbation] = {
    "distractor": DISTRACTOR,
    "names": NAMES,
    "order": ORDER,
    "numbers": NUMBERS,
    "units": UNITS,
}
