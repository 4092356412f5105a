"""The commands of `bargain-eval`, one module each: an options dataclass, and the function that runs it."""
