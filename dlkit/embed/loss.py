"""Loss functions of word vectors in plain torch: the reference for the compiled trainers.

The trainers apply the gradients of these functions by hand; tests compare the two.
Shapes: B examples, K negative words, W context words (padded), L steps of a Huffman code (padded),
D dimensions.
"""

from torch import Tensor
from torch.nn import functional as F


def negative_sampling(inputs: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """Skip-gram with negative sampling, summed (Mikolov et al. 2013b, equation 4).

    -log s(u_o . v) - sum over k of log s(-u_k . v) with v `inputs` (B, D), u_o `positive` (B, D)
    and u_k `negatives` (B, K, D). The inputs of CBOW and fastText are a `mean_of_rows`.
    """
    right = (inputs * positive).sum(dim=-1)
    wrong = (negatives @ inputs[:, :, None])[:, :, 0]
    return -F.logsigmoid(right).sum() - F.logsigmoid(-wrong).sum()


def mean_of_rows(rows: Tensor, present: Tensor) -> Tensor:
    """Return the mean (B, D) of the rows (B, W, D) `present` (B, W): CBOW's and fastText's input.

    CBOW (Mikolov et al. 2013a, section 3.1): the context words' vectors. fastText (Bojanowski et
    al. 2017, section 3.2): a word's own row and those of its n-grams, which the paper adds up and
    the program averages. word2vec.c and fastText give each row the full gradient of the mean
    rather than its share, 1/W.
    """
    weights = present.to(rows.dtype)[:, :, None]
    return (rows * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def hierarchical_softmax(inputs: Tensor, nodes: Tensor, codes: Tensor, present: Tensor) -> Tensor:
    """Hierarchical softmax over a word's Huffman path, summed (Mikolov et al. 2013b, equation 3).

    -sum over l of log s((1 - 2 code_l) u_l . v) with v `inputs` (B, D), u_l `nodes` (B, L, D), the
    inner nodes from the root on, and `codes` (B, L) of 0 and 1, where `present` (B, L).
    """
    scores = (nodes @ inputs[:, :, None])[:, :, 0]
    return -(F.logsigmoid((1 - 2 * codes) * scores) * present).sum()


def weighted_least_squares(
    words: Tensor,
    contexts: Tensor,
    word_biases: Tensor,
    context_biases: Tensor,
    counts: Tensor,
    x_max: float = 100.0,
    alpha: float = 0.75,
) -> Tensor:
    """GloVe, summed (Pennington et al. 2014, equations 8 and 9), halved as in its program.

    1/2 f(x) (w . c + b_w + b_c - log x)^2 with f(x) = min(1, (x / x_max)^alpha), vectors (B, D),
    biases (B) and co-occurrence counts x (B).
    """
    difference = (words * contexts).sum(dim=-1) + word_biases + context_biases - counts.log()
    weights = (counts / x_max).clamp(max=1) ** alpha
    return 0.5 * (weights * difference**2).sum()
