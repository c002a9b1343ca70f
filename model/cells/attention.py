"""Attention over a window of hidden states: its shape, and its place in a row's state.

A pointer-sentinel head (Merity et al. 2016, "Pointer sentinel mixture models"), with separate keys. At position t the
hidden state h gives a query q, a key k = tanh(K h + b) and a sentinel g. The positions i < t of the window, each
followed by an id x_{i+1}, and the sentinel get weights:

    a = softmax([g, q·k_i / √d + r_{t-i}]),    p(c) = a_0 softmax(W_o h)_c + Σ a_i [x_{i+1} = c]

with r learnt for each distance. Position t itself is left out, as its next id is not known. Keys are rounded to
127ths like hidden states, also in training; so a product of a query and a key can be a sum of integers.
"""

KEY = 64  # d: numbers of a query and of a key
OUTPUTS = 2 * KEY + 1  # numbers projected from the hidden state: the query, the key, the sentinel
KEY_LEVELS = 127  # a key is stored as the integer round(127 k)
SCALE = 1 / (KEY_LEVELS * KEY**0.5)  # converts a product of a query and such a key to a score
SENTINEL = 3.0  # initial g; r begins at -ln window, so an untrained network hardly uses attention

BLOCK = 16  # keys that the kernel reads in parallel; a window is a multiple of it
GROUP = 4  # numbers of a key in a float of the state
WINDOWS = (BLOCK, 4096)

KEYS, FOLLOWED, NEWEST = "keys", "followed", "newest"


def state_widths(window: int) -> dict[str, int]:
    """The parts of a row's state, in floats: a ring buffer of keys and of the ids that followed them.

    keys: the bytes of four integers in each float, [window / 16][KEY / 4][16][4]. Such a float may be NaN: it is only
    ever copied. followed: the id after each key plus 1; 0 if there is none yet. newest: the place of the last key in
    the ring plus 1; 0 before the first.
    """
    return {KEYS: window * KEY // GROUP, FOLLOWED: window, NEWEST: 1}
