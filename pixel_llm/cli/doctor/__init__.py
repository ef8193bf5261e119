"""``pixel-llm doctor``: whether captions can be had, and what to do if not."""

from pixel_llm.cli.doctor.command import doctor_command

__all__ = ["doctor_command"]
