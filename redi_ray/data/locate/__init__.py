"""Where samples went wrong: locators. A new one: a file here with a `Locator`, its line in `LOCATORS`, and its settings in
`redi_ray.config.locators`."""

from __future__ import annotations

from redi_ray.data.locate.exact import EXACT
from redi_ray.data.locate.imported import IMPORTED
from redi_ray.data.locate.judge import JUDGE
from redi_ray.data.locate.locator import Locator
from redi_ray.data.locate.rollouts import ROLLOUTS
from redi_ray.data.locate.step_judge import STEP_JUDGE

LOCATORS: dict[str, Locator] = {
    "exact": EXACT,
    "judge": JUDGE,
    "rollouts": ROLLOUTS,
    "step_judge": STEP_JUDGE,
    "imported": IMPORTED,
}
