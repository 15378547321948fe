"""Training steps of the PyTorch models, with the objective and the (fused) optimizers of `attnlab.training`."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnlab.bench import torch_seq2seq, torch_transformer
from attnlab.config import AdamW, Experiment
from attnlab.config.training import Optimizer

Batch = dict[str, np.ndarray]
MODELS = {"recurrent_seq2seq": torch_seq2seq.Seq2Seq, "transformer_seq2seq": torch_transformer.Transformer}
PAD = 0


class Trainer:
    """A PyTorch model with its optimizer; takes the same training steps as `attnlab.training.steps`."""

    def __init__(self, experiment: Experiment, source_vocabulary: int, target_vocabulary: int, device: str = "cpu"):
        torch.manual_seed(experiment.seed)
        self.training, self.device = experiment.training, device
        model = MODELS[experiment.model.kind](experiment.model, source_vocabulary, target_vocabulary)
        self.model = model.to(device)
        config = experiment.training.optimizer
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        rate = config.learning_rate
        if isinstance(config, AdamW):
            self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(config.b1, config.b2), fused=True)
        else:
            settings = {"momentum": config.momentum, "nesterov": config.nesterov, "fused": True}
            self.optimizer = torch.optim.SGD(groups, lr=rate, **settings)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: _relative_rate(config, experiment.training.steps, step)
        )

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross entropy with label smoothing, averaged over real target tokens."""
        tensors = {name: torch.from_numpy(array).long() for name, array in batch.items()}
        lengths = tensors.pop("source_lengths")  # stay on the CPU for packing
        tensors = {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}
        logits = self.model(tensors["source"], lengths, tensors["target_in"])
        return F.cross_entropy(
            logits.flatten(0, 1),
            tensors["target_out"].flatten(),
            ignore_index=PAD,
            label_smoothing=self.training.label_smoothing,
        )

    def step(self, batch: Batch) -> float:
        """Take one training step and return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        if self.training.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.optimizer.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


def use_threads(threads: int, device: str = "cpu") -> str:
    """Set the number of threads of this process; return the version of PyTorch and its device."""
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as in jax
        return f"torch {torch.__version__}, {torch.cuda.get_device_name()}"
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def _relative_rate(config: Optimizer, steps: int, step: int) -> float:
    """Return the learning rate relative to its peak, as in `attnlab.training.optimizer`."""
    warmup = config.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    decay_step, decay_steps = step - warmup, max(steps - warmup, 1)
    fraction = min(decay_step / decay_steps, 1.0)
    return {
        "constant": 1.0,
        "linear": 1.0 - fraction,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * fraction)),
        "inverse_sqrt": math.sqrt(max(warmup, 1) / (decay_step + max(warmup, 1))),
    }[config.schedule]
