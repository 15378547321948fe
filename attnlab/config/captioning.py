"""Config of image captioning: data, tokenizer and decoding."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config
from attnlab.config.data import DataSeed, DevSize, HubDataset, TestSize, TrainSize
from attnlab.config.text import Decoding, Words

Objects = Annotated[int, Field(ge=1, le=6)]


class Scenes(Config):
    """Generated images of colored shapes on a grid, 64×64 pixels, with captions and the gold region of each word."""

    kind: Literal["scenes"] = "scenes"
    train: TrainSize = 16_000
    dev: DevSize = 300
    test: TestSize = 1_000
    max_objects: Objects = 3
    """Largest number of shapes in an image."""
    seed: DataSeed = 0

    def tiny(self) -> Self:
        """Shrink the generated data."""
        return self.with_limits(train=200, dev=20, test=30, max_objects=2)


class Flickr8k(Config):
    """Flickr8k: images with several captions each (Hodosh et al. 2013)."""

    kind: Literal["flickr8k"] = "flickr8k"
    images: str = "flickr8k/images_128.npz"
    """Folder of image files, or a .npz file with `names`, `offsets` and concatenated `jpeg` bytes."""
    captions: str = "flickr8k/captions.jsonl.gz"
    """JSON lines with `image`, `split` and `captions`; or the original Flickr8k.token.txt, which needs
    `split_files`."""
    split_files: dict[Literal["train", "dev", "test"], str] = {}
    """Files with the image names of each split, one per line (Flickr_8k.trainImages.txt …); for the original
    captions."""


class CaptionHub(HubDataset):
    """A dataset of images with captions from the Hugging Face hub, or a local folder; needs the extra `hub`."""

    image: str = "image"
    """Name of the image column."""
    captions: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(f"caption_{i}" for i in range(5))
    """Names of the caption columns; a column may contain lists of captions."""


CaptionData = Annotated[Scenes | Flickr8k | CaptionHub, Field(discriminator="kind")]


class Captioning(Config):
    """Generate a caption for an image. Metrics: BLEU-1 to 4, CIDEr-D and ROUGE-L; on generated images also exact match
    and pointing accuracy."""

    models: ClassVar[tuple[str, ...]] = ("show_attend_tell", "transformer_captioner")
    kind: Literal["captioning"] = "captioning"
    data: CaptionData
    """The data."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Height and width of the images, in pixels; other images are resized."""
    tokenizer: Words = Words(lowercase="both")
    """The tokenizer."""
    max_length: PositiveInt = 50
    """Largest number of tokens in a training caption; longer ones are left out, and their number is reported."""
    decoding: Decoding = Decoding(beam=1, max_length=40)
    """The search for the output."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot caption images; valid: {', '.join(self.models)}"
        if self.decoding.coverage_penalty and model.kind == "show_attend_tell" and model.attention is None:
            return "task.decoding.coverage_penalty needs model.attention"
        if getattr(model, "attention_supervision", 0.0) and self.data.kind != "scenes":
            return f"model.attention_supervision needs gold regions: task.data.kind scenes, not {self.data.kind}"
        if model.kind == "transformer_captioner":
            longest = max(self.max_length, self.decoding.max_length)
            if model.decoder.max_length <= longest:
                return f"model.decoder.max_length {model.decoder.max_length} must exceed {longest}, the longest caption"
        return model.image.incompatibility(self.image_size)

    def tiny(self) -> Self:
        """Shrink the data, the vocabulary and the search."""
        return super().tiny().with_limits(max_length=30)
