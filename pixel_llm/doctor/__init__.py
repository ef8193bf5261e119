"""Whether captions can be had: policy, encoder, server and model, one check after the other."""

from pixel_llm.doctor.examining import Examination, examine
from pixel_llm.doctor.findings import CheckResult, Outcome

__all__ = ["CheckResult", "Examination", "Outcome", "examine"]
