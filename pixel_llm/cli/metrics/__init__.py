"""``pixel-llm metrics``: the metrics of a running process."""

from pixel_llm.cli.metrics.command import metrics_command

__all__ = ["metrics_command"]
