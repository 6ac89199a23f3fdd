"""The arms of Fig. 2 of DA-LIF (arXiv 2502.10422), fixed by name, and a control of ours.

    baseline   alpha = 1, beta = 0.25, both fixed
    spatial    alpha learned, beta = 0.25
    temporal   alpha = 1, beta learned
    both       both learned: DA-LIF
    control    both fixed where DA-LIF starts, tanh(1): what `both` has over it is owed to learning

The equations are DA-LIF's.

Paper: https://arxiv.org/abs/2502.10422

Certainty: paper. What is learned in the first four is the paper's.

Differences:
  1. From the paper: what a decay is where it is not learned is left open; here the values of
     MPBN's lineage (ICCV 2023), alpha = 1 and beta = 0.25.
  2. From the paper: `control` is ours.
"""

from dalif_jax.neurons.linear import standing_for

TANH_1 = 0.7615941559557649

BASELINE = standing_for(learn_alpha=False, learn_beta=False, alpha=1.0, beta=0.25)
SPATIAL = standing_for(learn_alpha=True, learn_beta=False, beta=0.25)
TEMPORAL = standing_for(learn_alpha=False, alpha=1.0, learn_beta=True)
BOTH = standing_for(learn_alpha=True, learn_beta=True)
CONTROL = standing_for(learn_alpha=False, learn_beta=False, alpha=TANH_1, beta=TANH_1)
