"""A synthetic cohort that looks like H&E, so that the whole path can be tried without any data."""

from dtcwsi.slides.synthetic.cohort import plan_cohort, write_cohort
from dtcwsi.slides.synthetic.render import render_slide
from dtcwsi.slides.synthetic.spec import LABELS, SyntheticSlide

__all__ = ["LABELS", "SyntheticSlide", "plan_cohort", "render_slide", "write_cohort"]
