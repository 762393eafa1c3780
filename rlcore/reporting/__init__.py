"""Loggers, statistics, evaluation and the acceptance table."""
