"""Fields that the data configs of several tasks share: sizes and seed of generated data, test sets, hub datasets."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from attnlab.config.base import Config, FileName, Seed

TrainSize = Annotated[PositiveInt, Field(description="Number of training examples to generate.")]
DevSize = Annotated[PositiveInt, Field(description="Number of validation examples to generate.")]
TestSize = Annotated[PositiveInt, Field(description="Number of test examples to generate.")]
DataSeed = Annotated[Seed, Field(description="Seed of the data, below 2³² and independent of the run's seed.")]


def _not_another_split(name: str) -> str:
    if name in ("train", "dev"):
        raise ValueError(f"{name} is the name of another split; choose another name for the test set")
    return name


_Name = Annotated[FileName, Field(pattern=r"^[\w.-]+$"), AfterValidator(_not_another_split)]
TestSets = Annotated[dict[_Name, str], Field(min_length=1)]
"""Location of each test set by its name, which is also used in names of files."""


class HubDataset(Config):
    """A dataset of the Hugging Face hub, or a local folder in the hub's layout; needs the extra `hub`."""

    kind: Literal["hub"] = "hub"
    path: str
    """Name of the dataset on the hub, such as OWNER/NAME, or path of a local folder."""
    revision: str | None = None
    """Commit of the dataset; null uses the latest one."""
    name: str | None = None
    """Configuration of the dataset; null uses its default."""
    train: str = "train"
    """Name of the training split."""
    dev: str = "validation"
    """Name of the validation split."""
    test: TestSets = {"test": "test"}
    """Splits to test on: a mapping of names of test sets to splits."""
