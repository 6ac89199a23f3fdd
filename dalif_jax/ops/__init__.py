"""Operations in the form that is fast where they run: fused neuron, kernels, convolutions."""
