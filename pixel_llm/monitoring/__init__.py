"""What happened, for people and machines: fed by the stacks' events."""

from pixel_llm.monitoring.event_log import EventLog

__all__ = ["EventLog"]
