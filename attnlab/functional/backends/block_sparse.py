"""Attention that computes only the blocks of logits that are not fully masked.

The mask classifies blocks without being computed itself (`Mask.classify`); the blocks are computed as in `streaming`.
"""

from attnlab.functional.backends.base import Backend, Cost, Results
from attnlab.functional.backends.block_plan import block_cost, block_plan, why_not_blocks
from attnlab.functional.backends.call import Call
from attnlab.functional.backends.streaming import run_blocks


class BlockSparse(Backend):
    """The backend that skips fully masked blocks."""

    name = "block_sparse"

    def supports(self, call: Call) -> str | None:
        """Return None, except for symbolic lengths and for parts that mix queries or keys, masked ones included."""
        return why_not_blocks(call, ("queries", "keys", "masked keys"))

    def cost(self, call: Call, device: str) -> Cost:
        """Estimate the time and memory of the blocks that are not fully masked."""
        if call.sizes.symbolic:
            return block_cost(call, device, "", None)
        computed = call.once(block_plan).computed
        if computed is None:
            reason = "it skips fully masked blocks, whose number depends on values known at run time"
        elif computed < 1.0:
            reason = f"it skips {1 - computed:.0%} of the logits, in fully masked blocks"
        else:
            reason = "no block is known to be fully masked"
        return block_cost(call, device, reason, computed)

    def run(self, call: Call) -> Results:
        """Compute the blocks that are not fully masked."""
        return run_blocks(call, skip=True)
