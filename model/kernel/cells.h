/* The cells, in the order of CELLS in model/cells/spec.py. Included once for each processor.

   A cell takes the gates `past` (G·H) of the product of its hidden state, `x` of its input, or null where `past` holds
   the sum of both, and moves the parts of its layer's state in place: the hidden state h, then what else it carries. */

INLINE void lstm(int width, const float *restrict past, const float *restrict x, float *restrict h, float *restrict c) {
    for (int j = 0; j < width; j++) {
        float i = past[j], f = past[j + width], g = past[j + 2 * width], o = past[j + 3 * width];
        if (x) i = i + x[j], f = f + x[j + width], g = g + x[j + 2 * width], o = o + x[j + 3 * width];
        c[j] = sigmoid(f) * c[j] + sigmoid(i) * hyperbolic_tangent(g);
        h[j] = sigmoid(o) * hyperbolic_tangent(c[j]);
    }
}

INLINE void gru(int width, const float *restrict past, const float *restrict x, float *restrict h) {
    for (int j = 0; j < width; j++) {
        float r = sigmoid(x[j] + past[j]), z = sigmoid(x[j + width] + past[j + width]);
        float n = hyperbolic_tangent(x[j + 2 * width] + r * past[j + 2 * width]);
        h[j] = n + z * (h[j] - n);
    }
}

INLINE void rnn(int width, const float *restrict past, const float *restrict x, float *restrict h) {
    for (int j = 0; j < width; j++) h[j] = hyperbolic_tangent(x ? past[j] + x[j] : past[j]);
}

/* The compiler makes a loop of vectors for each case, with and without x. */
static void lstm_step(int width, const float *past, const float *x, float *const *state) {
    if (x) lstm(width, past, x, state[0], state[1]);
    else lstm(width, past, 0, state[0], state[1]);
}

static void gru_step(int width, const float *past, const float *x, float *const *state) {
    gru(width, past, x, state[0]);
}

static void rnn_step(int width, const float *past, const float *x, float *const *state) {
    if (x) rnn(width, past, x, state[0]);
    else rnn(width, past, 0, state[0]);
}

typedef struct {
    int gates, parts; /* of the state of a layer */
    void (*step)(int width, const float *past, const float *x, float *const *state);
} cell;

static const cell CELLS[] = {
    {4, 2, lstm_step},
    {3, 1, gru_step},
    {1, 1, rnn_step},
};
