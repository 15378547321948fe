"""Image captioning: the data, and how captions are tokenized and searched for."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config, Seed
from attnlab.config.text import Decoding, TestSets, Words

Objects = Annotated[int, Field(ge=1, le=6)]


class Scenes(Config):
    """Generated: colored shapes on a grid, 64×64 pixels, with captions and where each word's object is."""

    kind: Literal["scenes"] = "scenes"
    train: PositiveInt = 16_000
    """Number of training examples to generate."""
    dev: PositiveInt = 300
    """Number of validation examples to generate."""
    test: PositiveInt = 1_000
    """Number of test examples to generate."""
    max_objects: Objects = 3
    """Largest number of shapes in an image."""
    seed: Seed = 0
    """Seed of the generator of the data, independent of the run's seed."""

    def tiny(self) -> Self:
        """Generate little."""
        return self.with_limits(train=200, dev=20, test=30, max_objects=2)


class Flickr8k(Config):
    """Images with several captions each (Hodosh et al. 2013), relative to the data directory."""

    kind: Literal["flickr8k"] = "flickr8k"
    images: str = "flickr8k/images_128.npz"
    """A folder of image files, or a .npz of `names`, `offsets` and concatenated `jpeg` bytes."""
    captions: str = "flickr8k/captions.jsonl.gz"
    """JSON lines of `image`, `split` and `captions`; or the original Flickr8k.token.txt, which needs `split_files`."""
    split_files: dict[Literal["train", "dev", "test"], str] = {}
    """Split -> file of image names, one a line (Flickr_8k.trainImages.txt …); for the original captions."""


class CaptionHub(Config):
    """A dataset of the Hugging Face hub, or a local folder in its layout (needs the extra `hub`)."""

    kind: Literal["hub"] = "hub"
    path: str
    """Name of the dataset on the hub, such as OWNER/NAME, or a local folder."""
    revision: str | None = None
    """A commit of the dataset, to pin it; null is the newest."""
    name: str | None = None
    """The dataset's configuration."""
    image: str = "image"
    """Column of the image."""
    captions: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(f"caption_{i}" for i in range(5))
    """Columns of the captions; a column may hold a list of them."""
    train: str = "train"
    """Split to train on."""
    dev: str = "validation"
    """Split to validate on."""
    test: TestSets = {"test": "test"}
    """Test sets: name -> split."""


CaptionData = Annotated[Scenes | Flickr8k | CaptionHub, Field(discriminator="kind")]


class Captioning(Config):
    """Describe an image; scored by BLEU-1 to 4, CIDEr-D and ROUGE-L, and by exact match and pointing where known."""

    models: ClassVar[tuple[str, ...]] = ("show_attend_tell", "transformer_captioner")
    kind: Literal["captioning"] = "captioning"
    data: CaptionData
    """Where the examples come from."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Pixels a side; other images are scaled to it."""
    tokenizer: Words = Words(lowercase="both")
    """How texts become tokens."""
    max_length: PositiveInt = 50
    """A training caption with more tokens is left out (counted and said)."""
    decoding: Decoding = Decoding(beam=1, max_length=40)
    """How the output is searched for."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot describe images; valid: {', '.join(self.models)}"
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
        """Shrink what the data, the vocabulary and the search take."""
        parts = {name: getattr(self, name).tiny() for name in ("data", "tokenizer", "decoding")}
        return self.replace(**parts, max_length=min(self.max_length, 30))
