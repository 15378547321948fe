"""Load the captioned images of an experiment."""

from pathlib import Path

from attnlab.config.captioning import CaptionData, CaptionHub, Scenes
from attnlab.data import directory
from attnlab.data.captioning import flickr8k, hub, scenes
from attnlab.data.captioning.records import CaptionedImage
from attnlab.data.images.duplicates import warn_about_shared_images
from attnlab.data.records import Splits


def load(config: CaptionData, data_dir: Path | None) -> Splits[CaptionedImage]:
    """Read or generate all splits of captioned images.

    Args:
        config: `task.data` of an experiment.
        data_dir: the directory that paths are relative to; may be None for generated data and the hub.

    Raises:
        UserError: a file is missing or invalid; the message names the file and the line.
    """
    if isinstance(config, Scenes):
        return scenes.generate(config)
    if isinstance(config, CaptionHub):
        splits = hub.read(config, data_dir)
    else:
        splits = flickr8k.read(config, directory.require(data_dir, f"task.data.kind {config.kind}", config.captions))
    warn_about_shared_images(splits)
    return splits
