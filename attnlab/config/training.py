"""How the model is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from attnlab.config.base import Config, Probability


class _Descent(Config):
    """What all optimizers have: warm-up and decay of the step size, and gradients clipped by their global norm."""

    kind: str
    learning_rate: PositiveFloat = 1e-3
    """The peak, reached after the warm-up."""
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "cosine"
    """After the linear warm-up; linear and cosine end at 0 at the last step."""
    warmup_steps: NonNegativeInt = 0
    """Number of steps over which the learning rate rises linearly from 0."""
    weight_decay: NonNegativeFloat = 0.0
    """Of all but vectors (biases, scales); a vector that each of many heads has is a row of a matrix, and decays."""
    clip_norm: PositiveFloat | None = 1.0
    """Largest global norm of the gradients; null does not clip."""


class AdamW(_Descent):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    b1: Probability = 0.9
    """Decay rate of the mean of the gradients."""
    b2: Probability = 0.999
    """Decay rate of the mean of their squares."""


class Sgd(_Descent):
    """Stochastic gradient descent with momentum; weight decay is a part of the gradient. Rows of an embedding that are
    rarely read move little, while Adam moves them as far as any other."""

    kind: Literal["sgd"] = "sgd"
    momentum: Probability = 0.9
    """Decay rate of the momentum."""
    nesterov: bool = False
    """Use Nesterov momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov true needs a momentum above 0")
        return self


Optimizer = Annotated[AdamW | Sgd, Field(discriminator="kind")]


class Training(Config):
    """Length, batches, optimizer, and intervals of evaluations and checkpoints."""

    steps: PositiveInt
    """Number of optimizer steps."""
    batch_tokens: PositiveInt = 2048
    """Positions in a batch (of the target, where there are two sides), padding counted."""
    buckets: Annotated[int, Field(ge=1, le=64)] = 8
    """Number of batch shapes; each is compiled once."""
    optimizer: Optimizer = AdamW()
    """The optimizer and its learning rate."""
    label_smoothing: Probability = 0.0
    """Probability mass that is spread evenly over all classes or tokens (Szegedy et al. 2016)."""
    evaluate_every: PositiveInt = 500
    """Steps between evaluations on dev, each with a checkpoint."""
    keep_last: PositiveInt = 3
    """Newest checkpoints kept, beside the best."""
    average_last: Annotated[int, Field(ge=0)] = 0
    """Average the parameters of this many last checkpoints for the test; 0 takes the best on dev."""
    patience: PositiveInt | None = None
    """Stop after this many evaluations without an improvement on dev; null never stops early."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.average_last > self.keep_last:
            raise ValueError(f"average_last ({self.average_last}) must not exceed keep_last ({self.keep_last})")
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(f"optimizer.warmup_steps ({self.optimizer.warmup_steps}) exceeds steps ({self.steps})")
        return self

    def tiny(self) -> Self:
        """Take a few small steps."""
        warmed = self.replace(optimizer=self.optimizer.with_limits(warmup_steps=2))
        return warmed.with_limits(steps=8, batch_tokens=512, buckets=1, evaluate_every=4)
