"""Huffman tree for hierarchical softmax (Mikolov et al. 2013b, section 2.1), as in word2vec.c."""

import numpy as np

from dlkit.core.numba_tools import njit


@njit(cache=True, nogil=True)
def huffman_paths(counts):
    """Build the tree: the start of each word's path (N + 1), and all paths' inner nodes and codes.

    `counts` (N, int64) are in descending order. A path lists the inner nodes from the root (N - 2)
    down; a node's code is 1 if the path continues to the more frequent of its two children. Among
    equal counts, an inner node is merged before a word.
    """
    n = len(counts)
    total = np.empty(2 * n - 1, np.int64)
    total[:n] = counts
    parent = np.zeros(2 * n - 1, np.int64)
    code = np.zeros(2 * n - 1, np.float32)
    word, inner = n - 1, n
    for new in range(n, 2 * n - 1):
        total[new] = 0
        for child in range(2):
            if word >= 0 and (inner == new or total[word] < total[inner]):
                least = word
                word -= 1
            else:
                least = inner
                inner += 1
            total[new] += total[least]
            parent[least] = new
            code[least] = child
    root = 2 * n - 2
    starts = np.zeros(n + 1, np.int64)
    for i in range(n):
        node, depth = i, 0
        while node != root:
            node = parent[node]
            depth += 1
        starts[i + 1] = starts[i] + depth
    nodes = np.empty(starts[n], np.int64)
    codes = np.empty(starts[n], np.float32)
    for i in range(n):
        node, k = i, starts[i + 1]
        while node != root:
            k -= 1
            codes[k] = code[node]
            node = parent[node]
            nodes[k] = node - n
    return starts, nodes, codes
