"""Algorithms compared over several training runs each: aggregates with intervals, curves, and what a level costs."""
