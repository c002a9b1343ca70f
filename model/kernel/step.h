/* The network's step: hidden states to levels, products, cells (cells.h). Included once for each processor, after its vectors. */

#define PANEL 64   /* columns */
#define AHEAD 2048 /* bytes */

/* Where a block of rows gets its x from: up to two stretches of K, each (B, 4 · groups), `stride` bytes a row. */
typedef struct {
    const char *x;
    int64_t stride;
    int32_t groups;
} stretch;

typedef enum { WHOLE_CALL, FIRST_HALF, SECOND_HALF } part; /* of a joined product */

/* rows × vectors sums of one panel, kept in registers. `weights` points at the panel's first wanted group. */
INLINE void block_whole(const int rows, const int vectors, const stretch *x, int row, const char *weights,
                        int64_t group_bytes, const product *w, int column, float *sums, int64_t width, part half) {
    vint sum[MOST_ROWS][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = half == SECOND_HALF
                            ? load_int((const int32_t *)(sums + (row + r) * width) + column + v * LANES)
                            : load_int(w->start + column + v * LANES);
    for (int s = 0; s < 2; s++) {
        const char *from = x[s].x + row * x[s].stride;
        for (int g = 0; g < x[s].groups; g++, weights += group_bytes) {
            vweights column_weights[VECTORS];
            if (rows == 1) /* one row waits for its weights: 15 % of a step on the processor this was tried on */
                for (int v = 0; v < vectors; v++) __builtin_prefetch(weights + AHEAD + v * LANES * 4);
            for (int v = 0; v < vectors; v++) column_weights[v] = load_weights(weights + v * LANES * 4);
            for (int r = 0; r < rows; r++) {
                vlevels levels = broadcast_levels(from + r * x[s].stride + g * 4);
                for (int v = 0; v < vectors; v++) sum[r][v] = dot(sum[r][v], levels, column_weights[v]);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            float *to = sums + (row + r) * width + column + v * LANES;
            if (half == FIRST_HALF) {
                store_int((int32_t *)to, sum[r][v]);
                continue;
            }
            vfloat value = multiply(to_float(sum[r][v]), load_float(w->scale + column + v * LANES));
            store_float(to, w->bias ? add(value, load_float(w->bias + column + v * LANES)) : value);
        }
}

/* The same in floats: each sum runs over K from its first number to its last, beside any other rows. */
INLINE void block_float(const int rows, const int vectors, const stretch *x, int row, const char *weights,
                        int64_t group_bytes, const product *w, int column, float *sums, int64_t width, part half) {
    vfloat sum[MOST_ROWS][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = half == SECOND_HALF ? load_float(sums + (row + r) * width + column + v * LANES) : zero();
    for (int s = 0; s < 2; s++) {
        const char *from = x[s].x + row * x[s].stride;
        for (int k = 0; k < x[s].groups * 4; k++, weights += group_bytes / 4) {
            vfloat column_weights[VECTORS];
            for (int v = 0; v < vectors; v++) column_weights[v] = load_float((const float *)weights + v * LANES);
            for (int r = 0; r < rows; r++) {
                vfloat h = broadcast(*((const float *)(from + r * x[s].stride) + k));
                for (int v = 0; v < vectors; v++) sum[r][v] = multiply_add(h, column_weights[v], sum[r][v]);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            vfloat value = sum[r][v];
            if (half != FIRST_HALF && w->bias) value = add(value, load_float(w->bias + column + v * LANES));
            store_float(sums + (row + r) * width + column + v * LANES, value);
        }
}

#define BLOCK_OF(R, V)                                                                                              \
    (whole ? block_whole(R, V, x, row, weights, group_bytes, w, column, sums, width, half)                          \
           : block_float(R, V, x, row, weights, group_bytes, w, column, sums, width, half))

/* A block of up to MOST_ROWS rows by a register's worth of vectors, or by the 16 columns of a narrow panel's piece. */
static void rows_of_block(int rows, int full, int whole, const stretch *x, int row, const char *weights,
                          int64_t group_bytes, const product *w, int column, float *sums, int64_t width, part half) {
    if (!full) {
        if (rows == MOST_ROWS) BLOCK_OF(MOST_ROWS, 16 / LANES);
        else
            for (; rows; rows--, row++) BLOCK_OF(1, 16 / LANES);
        return;
    }
    switch (rows) {
    case 1: BLOCK_OF(1, VECTORS); break;
    case 2: BLOCK_OF(2, VECTORS); break;
#if MOST_ROWS > 2
    case 3: BLOCK_OF(3, VECTORS); break;
    case 4: BLOCK_OF(4, VECTORS); break;
    case 5: BLOCK_OF(5, VECTORS); break;
    case 6: BLOCK_OF(6, VECTORS); break;
#endif
    }
}

#ifdef LEAST_TILE_ROWS
#include "tiles.h"
#endif

/* sums (rows, width) of a product; of a joined one in one call, or its input half and its recurrent half apart. */
static void multiply_rows(int whole, const stretch x[2], int rows, const product *w, float *sums, int64_t width,
                          part half) {
#ifdef LEAST_TILE_ROWS
    if (whole && rows >= LEAST_TILE_ROWS) {
        multiply_tiles(x, rows, w, sums, width, half);
        return;
    }
#endif
    int64_t item = whole ? 1 : 4;
    int first = half == SECOND_HALF ? w->groups - x[0].groups - x[1].groups : 0;
    for (int panel = 0; panel < w->outputs; panel += PANEL) {
        int columns = w->outputs - panel < PANEL ? w->outputs - panel : PANEL;
        int64_t group_bytes = columns * 4 * item;
        const char *start = (const char *)w->weights + panel * (int64_t)w->groups * 4 * item + first * group_bytes;
        int step = columns == PANEL ? VECTORS * LANES : 16;
        for (int row = 0; row < rows; row += MOST_ROWS) {
            int some = rows - row < MOST_ROWS ? rows - row : MOST_ROWS;
            for (int at = 0; at < columns; at += step)
                rows_of_block(some, columns == PANEL, whole, x, row, start + at * 4, group_bytes, w,
                              panel + at, sums, width, half);
        }
    }
}

static void keep_levels(const network *net, void *to, const float *h) {
    const int hidden = net->hidden; /* a store of bytes might change what lies in memory, for all the compiler knows */
    if (net->whole) {
        uint8_t *level = to;
        for (int j = 0; j < hidden; j++) level[j] = (uint8_t)((int32_t)nearest(h[j] * 127.0f) + LEVEL_OFFSET);
    } else { /* what pads K to a multiple of 4 meets weights of 0, and must be a number */
        memcpy(to, h, sizeof(float) * hidden);
        for (int j = hidden; j % 4; j++) ((float *)to)[j] = 0;
    }
}

/* Scratch of a call: `heard` (T·B) levels, `heard_bytes` apart, of the layer below and then of this one, or with skip
   connections of all layers side by side; `own` (B, H) levels; the products. */
typedef struct {
    char *heard, *own;
    float *past, *input;
    float *projected; /* (T·B, outputs) for the attention */
    int64_t row_bytes, heard_bytes, width;
    const scored *traced; /* where numbers of the states go after each step; null for nowhere */
} scratch;

/* Where the levels of a layer begin in `heard`. */
static char *heard_of(const network *net, int at, const scratch *s) {
    return s->heard + (net->skip ? at * s->row_bytes : 0);
}

static float *slot_state(const network *net, float *state, int32_t slot) {
    return state + (int64_t)slot * net->floats;
}

/* Copy the numbers that are traced in one layer from a slot's state, as step `at` of B·T left it. */
static void trace(const network *net, const layer *l, int parts, const float *state, const scored *to, int64_t at) {
    float *values = to->states + at * to->traced;
    for (int p = 0, u = 0; p < parts; p++) {
        while (u < to->traced && to->columns[u] < l->state[p]) u++;
        for (; u < to->traced && to->columns[u] < l->state[p] + net->hidden; u++) values[u] = state[to->columns[u]];
    }
}

/* One layer over `steps` steps of `rows` rows, its input half for all steps at once where there are several. */
static void layer_steps(const network *net, int at, int rows, int steps, const int32_t *ids, const int32_t *slots,
                        float *state, scratch *s) {
    const layer *l = &net->layer[at];
    const cell *kind = &CELLS[net->cell];
    int groups = (int)(s->row_bytes / (net->whole ? 4 : 16));
    const stretch none = {s->own, 0, 0}, below = {at ? heard_of(net, at - 1, s) : 0, s->heard_bytes, groups};
    int apart = at > 0 && (!l->joined || steps > 1);
    if (apart) {
        stretch x[2] = {below, none};
        if (l->joined) multiply_rows(net->whole, x, rows * steps, &l->recurrent, s->past, s->width, FIRST_HALF);
        else multiply_rows(net->whole, x, rows * steps, &l->input, s->input, s->width, WHOLE_CALL);
    }
    for (int r = 0; r < rows; r++)
        keep_levels(net, s->own + r * s->row_bytes, slot_state(net, state, slots[r]) + l->state[0]);
    for (int t = 0; t < steps; t++) {
        float *past = s->past + (apart && l->joined ? t * rows * s->width : 0);
        stretch own = {s->own, s->row_bytes, groups};
        stretch both[2] = {at > 0 && l->joined && !apart ? below : none, own};
        multiply_rows(net->whole, both, rows, &l->recurrent, past, s->width,
                      apart && l->joined ? SECOND_HALF : WHOLE_CALL);
        for (int r = 0; r < rows; r++) {
            float *own_state[MOST_PARTS];
            for (int p = 0; p < kind->parts; p++) own_state[p] = slot_state(net, state, slots[r]) + l->state[p];
            const float *x = at == 0 ? net->table + (int64_t)ids[r * steps + t] * kind->gates * net->hidden
                             : l->joined ? 0 : s->input + (t * rows + r) * s->width;
            kind->step(net->hidden, past + r * s->width, x, own_state);
            if (s->traced) trace(net, l, kind->parts, slot_state(net, state, slots[r]), s->traced, (int64_t)r * steps + t);
            keep_levels(net, s->own + r * s->row_bytes, own_state[0]);
            memcpy(heard_of(net, at, s) + (t * rows + r) * s->heard_bytes, s->own + r * s->row_bytes, s->row_bytes);
        }
    }
}

/* logits (rows, width) of what was heard from the `first` on, of T·B step by step. */
static void logits_of(const network *net, const product *out, int first, int rows, float *logits, const scratch *s) {
    const char *levels = s->heard + first * s->heard_bytes;
    stretch x[2] = {{levels, s->heard_bytes, out->groups}, {levels, 0, 0}};
    multiply_rows(net->whole, x, rows, out, logits, out->outputs, WHOLE_CALL);
}

static void advance(const network *net, int rows, int steps, const int32_t *ids, const int32_t *slots, float *state,
                    scratch *s) {
    for (int at = 0; at < net->layers; at++) layer_steps(net, at, rows, steps, ids, slots, state, s);
    if (net->attention) logits_of(net, &net->attention->project, 0, rows * steps, s->projected, s);
}

/* What step t of row r was projected to. */
static const float *projected_of(const network *net, int row, const scratch *s) {
    return s->projected + (int64_t)row * net->attention->project.outputs;
}
