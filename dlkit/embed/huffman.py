"""Hierarchical softmax's Huffman tree (Mikolov et al. 2013b, section 2.1), as in word2vec.c."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def paths(counts):
    """Where each word's path begins (N + 1), and the inner nodes and codes of all paths.

    `counts` (N, int64) fall. A path is the inner nodes from the root (N - 2) on; a node's code
    is 1 if the path goes on with the more frequent of its two children. Of equal counts a made
    node is taken before a word.
    """
    n = len(counts)
    total = np.empty(2 * n - 1, np.int64)
    total[:n] = counts
    parent = np.zeros(2 * n - 1, np.int64)
    code = np.zeros(2 * n - 1, np.float32)
    word, made = n - 1, n
    for new in range(n, 2 * n - 1):
        total[new] = 0
        for child in range(2):
            if word >= 0 and (made == new or total[word] < total[made]):
                least = word
                word -= 1
            else:
                least = made
                made += 1
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
