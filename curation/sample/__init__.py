"""A corpus without a download: code, translations, mathematics and prose from pip packages."""

from .build import build_sample
from .packages import SampleError

__all__ = ["SampleError", "build_sample"]
