"""Snapshots as Prometheus has them: one table of metrics, as text and for a registry of `prometheus_client`."""
