"""Three checkpoints of a small state of training, and what is restored from a directory."""

from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from attnlab.training.checkpoints import Checkpoints


def state(step: int) -> dict:
    params = {"encoder": {"kernel": jnp.arange(12.0).reshape(3, 4) + step}, "bias": jnp.full(5, step, jnp.bfloat16)}
    return {
        "step": jnp.int32(step),
        "params": params,
        "optimizer": optax.adamw(1e-3).init(params),
        "rng": jax.random.key_data(jax.random.key(step)),
        "nothing": jnp.zeros((0, 3)),
    }


def same(a, b) -> bool:
    alike = jax.tree.map(lambda x, y: x.dtype == y.dtype and x.tobytes() == y.tobytes(), *map(jax.device_get, (a, b)))
    return jax.tree.all(alike)


def save_three(run: Path) -> Path:
    directory = run / "checkpoints"
    saving = Checkpoints(directory, keep_last=3)
    for step in (100, 200, 300):
        saving.save(step, state(step), {"dev_bleu": step / 10}, best=step == 100)
    return directory


def files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def restored_step(directory: Path) -> tuple[int | None, list[str]]:
    """Return the restored step, after checking its values, and the messages."""
    messages: list[str] = []
    result = Checkpoints(directory, 3, messages.append).restore(state(0))
    assert result is None or same(result[1], state(result[0]))
    return result and result[0], messages


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
