"""Attention over a window of hidden states: its shape, and where a row's state has it.

A pointer-sentinel head (Merity et al. 2016, "Pointer sentinel mixture models"), with keys of its own. At position t
the hidden state h gives a query q, a key k = tanh(K h + b) and a sentinel g. The last positions i < t of the window,
each of which was followed by an id x_{i+1}, are weighed against the sentinel:

    a = softmax([g, q·k_i / √d + r_{t-i}]),    p(c) = a_0 softmax(W_o h)_c + Σ a_i [x_{i+1} = c]

with r learnt for each distance. Position t itself is left out, as nobody knows what follows it. Keys are rounded to
127ths like hidden states, in training, too; so a product of a query and a key can be a sum of whole numbers.
"""

KEY = 64  # d: numbers of a query and of a key
OUTPUTS = 2 * KEY + 1  # of the product with the hidden state: the query, the key, the sentinel
KEY_LEVELS = 127  # a key is kept as the whole number round(127 k)
SCALE = 1 / (KEY_LEVELS * KEY**0.5)  # what a product of a query and of such a key is worth
SENTINEL = 3.0  # g at the beginning, where r is -ln window: an untrained network hardly points anywhere

BLOCK = 16  # keys that the kernel reads side by side; a window is a multiple of it
GROUP = 4  # numbers of a key in a float of the state
WINDOWS = (BLOCK, 4096)

KEYS, FOLLOWED, NEWEST = "keys", "followed", "newest"


def state_widths(window: int) -> dict[str, int]:
    """The parts of a row's state, in floats: a ring of keys and of what followed them.

    keys: the bytes of four whole numbers in each float, [window / 16][KEY / 4][16][4]. A float of them may be no number
    at all: it is only ever copied. followed: the id after each key, and 1; 0 where there is none yet. newest: the place
    in the ring of the last key, and 1; 0 before the first.
    """
    return {KEYS: window * KEY // GROUP, FOLLOWED: window, NEWEST: 1}
