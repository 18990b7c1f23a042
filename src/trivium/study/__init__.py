"""Did it help? Arms × seeds of all the choices, at equal budget, judged once, with a verdict and a report."""

from trivium.study.run import Study, run
from trivium.study.verdict import Verdict

__all__ = ["Study", "Verdict", "run"]
