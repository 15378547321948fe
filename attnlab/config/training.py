"""Config of the training: steps, batches, optimizer, evaluations and checkpoints."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from attnlab.config.base import Config, Probability


class _Descent(Config):
    """Settings of all optimizers: learning rate schedule, weight decay and gradient clipping."""

    kind: str
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate, reached at the end of the warm-up."""
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "cosine"
    """Decay of the learning rate after the linear warm-up; linear and cosine reach 0 at the last step."""
    warmup_steps: NonNegativeInt = 0
    """Number of steps over which the learning rate rises linearly from 0."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of matrices. Vectors such as biases and scales do not decay, unless they have a row for each
    head."""
    clip_norm: PositiveFloat | None = 1.0
    """Largest global norm of the gradients; null disables clipping."""

    def tiny(self) -> Self:
        """Shorten the warm-up."""
        return self.with_limits(warmup_steps=2)


class AdamW(_Descent):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    b1: Probability = 0.9
    """Decay rate of the running mean of the gradients."""
    b2: Probability = 0.999
    """Decay rate of the running mean of the squared gradients."""


class Sgd(_Descent):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient. Embeddings of rare tokens
    change little, while Adam changes them as much as any other."""

    kind: Literal["sgd"] = "sgd"
    momentum: Probability = 0.9
    """Decay rate of the momentum; 0 is plain gradient descent."""
    nesterov: bool = False
    """Use Nesterov momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov true needs a momentum above 0")
        return self


Optimizer = Annotated[AdamW | Sgd, Field(discriminator="kind")]


class Training(Config):
    """Number of steps, batches, optimizer, evaluations and checkpoints."""

    steps: PositiveInt
    """Number of optimizer steps."""
    batch_tokens: PositiveInt = 2048
    """Largest number of tokens in a batch, including padding; target tokens, if there are source and target."""
    buckets: Annotated[int, Field(ge=1, le=64)] = 8
    """Number of different batch shapes; each is compiled once."""
    optimizer: Optimizer = AdamW()
    """The optimizer and its learning rate."""
    label_smoothing: Probability = 0.0
    """Probability mass spread evenly over all classes or tokens (Szegedy et al. 2016)."""
    evaluate_every: PositiveInt = 500
    """Number of steps between evaluations on dev; a checkpoint is written at each."""
    keep_last: PositiveInt = 3
    """Number of latest checkpoints to keep besides the best one."""
    average_last: Annotated[int, Field(ge=0)] = 0
    """Number of latest checkpoints whose parameters are averaged for the final evaluation; 0 uses the checkpoint that
    is best on dev."""
    patience: PositiveInt | None = None
    """Number of evaluations without an improvement on dev after which training stops; null disables early stopping."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.average_last > self.keep_last:
            raise ValueError(f"average_last ({self.average_last}) must not exceed keep_last ({self.keep_last})")
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(f"optimizer.warmup_steps ({self.optimizer.warmup_steps}) exceeds steps ({self.steps})")
        return self

    def tiny(self) -> Self:
        """Shrink the training to a few small steps."""
        return super().tiny().with_limits(steps=8, batch_tokens=512, buckets=1, evaluate_every=4)
