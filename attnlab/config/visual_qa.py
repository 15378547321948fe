"""Config of visual question answering: classification over the answers of the training set."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config
from attnlab.config.captioning import Objects
from attnlab.config.data import DataSeed, DevSize, HubDataset, TestSize, TrainSize
from attnlab.config.text import Words


class SceneQuestions(Config):
    """Generated images of colored shapes, as in captioning, with questions about colors, shapes, places and numbers."""

    kind: Literal["scene_questions"] = "scene_questions"
    train: TrainSize = 16_000
    dev: DevSize = 500
    test: TestSize = 2_000
    max_objects: Objects = 3
    """Largest number of shapes in an image."""
    seed: DataSeed = 0

    def tiny(self) -> Self:
        """Shrink the generated data."""
        return self.with_limits(train=200, dev=20, test=30, max_objects=2)


class EasyVqa(Config):
    """Questions about images of single shapes (the package easy-vqa); the validation set is held out from training."""

    kind: Literal["easy_vqa"] = "easy_vqa"
    train: str = "easy_vqa/train"
    """Path of the training set: `easy_vqa/train` is train_images.npz with train_questions.jsonl.gz, or the package's
    folder train/ with questions.json and images/."""
    test: str = "easy_vqa/test"
    """Path of the test set, in the format of `train`."""
    dev_images: PositiveInt = 400
    """Number of training images, the last ones, that are held out for validation."""

    def tiny(self) -> Self:
        """Shrink the validation set."""
        return self.with_limits(dev_images=4)


class ImageQuestionHub(HubDataset):
    """A dataset of questions about images from the Hugging Face hub, or a local folder; needs the extra `hub`."""

    image: str = "image"
    """Name of the image column."""
    question: str = "question"
    """Name of the question column."""
    answer: str = "answer"
    """Name of the answer column."""


QuestionData = Annotated[SceneQuestions | EasyVqa | ImageQuestionHub, Field(discriminator="kind")]


class VisualQA(Config):
    """Answer a question about an image by one of the answers of the training set. Metrics: accuracy, also with
    shuffled images, without the image, and without the question."""

    models: ClassVar[tuple[str, ...]] = ("visual_answerer",)
    kind: Literal["visual_qa"] = "visual_qa"
    data: QuestionData
    """The data."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Height and width of the images, in pixels; other images are resized."""
    tokenizer: Words = Words(lowercase="both")
    """The tokenizer."""
    max_length: PositiveInt = 40
    """Largest number of tokens in a training question; longer ones are left out, and their number is reported."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot answer questions about images; valid: {', '.join(self.models)}"
        return model.image.incompatibility(self.image_size)
