"""Visual question answering: questions about images, answered by one of the answers of the training set."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config, Seed
from attnlab.config.captioning import Objects
from attnlab.config.text import TestSets, Words


class SceneQuestions(Config):
    """Generated: the same scenes with questions about colors, shapes, places and numbers."""

    kind: Literal["scene_questions"] = "scene_questions"
    train: PositiveInt = 16_000
    """Number of training examples to generate."""
    dev: PositiveInt = 500
    """Number of validation examples to generate."""
    test: PositiveInt = 2_000
    """Number of test examples to generate."""
    max_objects: Objects = 3
    """Largest number of shapes in an image."""
    seed: Seed = 0
    """Seed of the generator of the data, independent of the run's seed."""

    def tiny(self) -> Self:
        """Generate little."""
        return self.with_limits(train=200, dev=20, test=30, max_objects=2)


class EasyVqa(Config):
    """Questions about single shapes (the package easy-vqa), relative to the data directory; dev is held out."""

    kind: Literal["easy_vqa"] = "easy_vqa"
    train: str = "easy_vqa/train"
    """`easy_vqa/train` is train_images.npz with train_questions.jsonl.gz, or the package's folder train/ with
    questions.json and images/."""
    test: str = "easy_vqa/test"
    """The test set, in the format of `train`."""
    dev_images: PositiveInt = 400
    """So many of the training images, the last ones, are dev."""

    def tiny(self) -> Self:
        """Hold out little."""
        return self.with_limits(dev_images=4)


class ImageQuestionHub(Config):
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
    question: str = "question"
    """Column of the question."""
    answer: str = "answer"
    """Column of the answer."""
    train: str = "train"
    """Split to train on."""
    dev: str = "validation"
    """Split to validate on."""
    test: TestSets = {"test": "test"}
    """Test sets: name -> split."""


QuestionData = Annotated[SceneQuestions | EasyVqa | ImageQuestionHub, Field(discriminator="kind")]


class VisualQA(Config):
    """Answer a question about an image, from the answers seen in training; scored by accuracy beside its controls."""

    models: ClassVar[tuple[str, ...]] = ("visual_answerer",)
    kind: Literal["visual_qa"] = "visual_qa"
    data: QuestionData
    """Where the examples come from."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Pixels a side; other images are scaled to it."""
    tokenizer: Words = Words(lowercase="both")
    """How texts become tokens."""
    max_length: PositiveInt = 40
    """A training question with more tokens is left out (counted and said)."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot answer about images; valid: {', '.join(self.models)}"
        return model.image.incompatibility(self.image_size)

    def tiny(self) -> Self:
        """Shrink what the data and the vocabulary take."""
        return self.replace(data=self.data.tiny(), tokenizer=self.tokenizer.tiny())
