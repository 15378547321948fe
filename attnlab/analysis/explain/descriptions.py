"""What each method says of an input, in a sentence."""

METHOD_NOTES = {
    "raw_attention": "how much the model attends to it: the mean weight of all heads that lead to the prediction",
    "gradient_x_attention": "its attention weight, times how much more weight would raise the target",
    "attention_rollout": "attention followed through all layers; knows nothing of the target",
    "attention_flow": "the attention that can flow to it through all layers; knows nothing of the target",
    "attention_relevance": "attention that raises the target, followed through all layers",
    "encoder_decoder_relevance": "attention that raises the target, followed through decoder and encoder",
    "attention_norms": "the length of the vector that attention adds for it",
    "block_norms": "the length of what it adds, with the residual connection and the norm",
    "globenc": "the lengths of what it adds, followed through all layers",
    "alti": "how close what it adds is to each layer's output, followed through all layers",
    "alti_plus": "how close what it adds is to each layer's output, followed through decoder and encoder",
    "value_zeroing": "how much the states turn if attention does not see its value, followed through all layers",
    "saliency": "how fast the target changes with its embedding; has no sign",
    "input_x_gradient": "the linear estimate of what its embedding adds to the target",
    "integrated_gradients": "what its embedding adds on the way from an empty input; sums to the whole change",
    "smooth_grad": "how fast the target changes, mean over noisy copies of the input; has no sign",
    "occlusion": "by how much the target falls if padding replaces one of its tokens, summed over them",
    "leave_one_out": "by how much the target falls without one of its tokens, summed over them",
    "greedy_leave_one_out": "the best rank of its tokens as the most important token left is removed again and again",
    "random_attribution": "random numbers: what a method that knows nothing looks like",
}  # fmt: skip
"""Method -> what its number says of a part of the input."""
