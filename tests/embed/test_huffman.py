"""Huffman trees of hierarchical softmax."""

import numpy as np

from dlkit.embed import huffman


def test_huffman_codes_by_hand() -> None:
    # d and c (2 + 4 = 6) make node 0; b (5) and node 0 (6) node 1; a (9) and node 1 (11) the root.
    starts, nodes, codes = huffman.huffman_paths(np.array([9, 5, 4, 2], np.int64))
    words_codes = [
        codes[a:b].astype(int).tolist() for a, b in zip(starts, starts[1:], strict=False)
    ]
    assert words_codes == [[0], [1, 0], [1, 1, 1], [1, 1, 0]]
    assert nodes.tolist() == [2, 2, 1, 2, 1, 0, 2, 1, 0]


def test_huffman_merges_an_inner_node_before_a_word_of_the_same_count() -> None:
    starts, _, _ = huffman.huffman_paths(np.array([2, 2, 1, 1], np.int64))
    assert np.diff(starts).tolist() == [1, 2, 3, 3]
    starts, _, _ = huffman.huffman_paths(np.array([4, 3, 2, 1, 1, 1], np.int64))
    assert (np.diff(starts) * [4, 3, 2, 1, 1, 1]).sum() == 29  # 2 + 3 + 5 + 7 + 12
