"""Metrics, snapshot and health over HTTP: to mount in an application, or on a small server of their own."""

from pixel_llm.monitoring.endpoint.asgi import metrics_asgi_app
from pixel_llm.monitoring.endpoint.server import DEFAULT_PORT, MetricsServer, serve_metrics
from pixel_llm.monitoring.endpoint.wsgi import metrics_wsgi_app

__all__ = ["DEFAULT_PORT", "MetricsServer", "metrics_asgi_app", "metrics_wsgi_app", "serve_metrics"]
