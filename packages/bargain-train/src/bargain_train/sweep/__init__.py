"""Sweeps: searches of an algorithm's settings by Optuna, and all algorithms trained on the same seeds.

`options` is what the command line is told, `plan` what it means. A search is a `study` of trials, each of which is one
stored run, or one a seed (`trial`); `comparison` trains every algorithm with every seed. `wandb_file` writes the same
search for agents of Weights & Biases.
"""
