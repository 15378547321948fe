"""The directory of another run that an experiment builds on."""

import re


def tiny_directory(directory: str) -> str:
    """Return the directory that an experiment writes with --tiny, from the directory that it writes without.

    >>> tiny_directory("runs/sst2_additive-s1"), tiny_directory("runs/sst2_additive-tiny-s1"), tiny_directory("mine/")
    ('runs/sst2_additive-tiny-s1', 'runs/sst2_additive-tiny-s1', 'mine-tiny')
    """
    directory = directory.rstrip("/")
    seed = "".join(re.findall(r"-s\d+\Z", directory))
    return f"{directory.removesuffix(seed).removesuffix('-tiny')}-tiny{seed}"
