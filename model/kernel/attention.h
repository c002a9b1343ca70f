/* Attention over a window, as numpy_attention.py defines it. Included once for each processor. */

#define KEY 64       /* these as in model/cells/attention.py */
#define KEYS_BLOCK 16
#define KEY_SCALE (1.0f / (127.0f * 8.0f))
#define MOST_GAP 60.0f

/* Scratch: scores of the ring (window,), and what points at each id (1 + V,), after what points at none. */
typedef struct {
    float *scores, *mass;
} pointing;

/* Let the id that was read follow the last key, and take the key of `own`, what reading it was projected to. */
static void remember(const attention *a, int32_t id, const float *own, float *state) {
    float *followed = state + a->followed;
    int newest = (int)state[a->newest];
    if (newest > 0) followed[newest - 1] = (float)(id + 1);
    int place = newest % a->window;
    followed[place] = 0;
    state[a->newest] = (float)(place + 1);
    int8_t key[KEY];
    for (int j = 0; j < KEY; j++) key[j] = (int8_t)(int32_t)nearest(hyperbolic_tangent(own[KEY + j]) * 127.0f);
    float *to = state + a->keys + place / KEYS_BLOCK * (KEYS_BLOCK * KEY / 4) + place % KEYS_BLOCK;
    for (int g = 0; g < KEY / 4; g++) memcpy(to + g * KEYS_BLOCK, key + 4 * g, 4);
}

/* Sums of products of a query and the keys of one block. */
INLINE void score_block(const int8_t *query, const char *keys, int32_t start, int32_t *sums) {
    vint sum[KEYS_BLOCK / LANES];
    int32_t starts[KEYS_BLOCK];
    for (int j = 0; j < KEYS_BLOCK; j++) starts[j] = start;
    for (int v = 0; v < KEYS_BLOCK / LANES; v++) sum[v] = load_int(starts);
    for (int g = 0; g < KEY / 4; g++) {
        vlevels four = broadcast_levels((const char *)query + 4 * g);
        for (int v = 0; v < KEYS_BLOCK / LANES; v++)
            sum[v] = dot_signed(sum[v], four, load_weights(keys + (g * KEYS_BLOCK + v * LANES) * 4));
    }
    for (int v = 0; v < KEYS_BLOCK / LANES; v++) store_int(sums + v * LANES, sum[v]);
}

/* What each key of the ring scores by its product with the query, in whole numbers, into `scores`. */
static void score_whole(const attention *a, const float *own, const char *keys, float *scores) {
    int8_t query[KEY];
    int32_t sums[KEYS_BLOCK], all = 0;
    float most = 0;
    for (int j = 0; j < KEY; j++) most = fabsf(own[j]) > most ? fabsf(own[j]) : most;
    float one = (most > 1e-12f ? most : 1e-12f) / 127.0f, scale = one * KEY_SCALE;
    for (int j = 0; j < KEY; j++) {
        query[j] = (int8_t)(int32_t)nearest(own[j] / one);
        all += query[j];
    }
    for (int at = 0; at < a->window; at += KEYS_BLOCK) {
        score_block(query, keys + at * KEY, -SIGNED_OFFSET * all, sums);
        for (int s = 0; s < KEYS_BLOCK; s++) scores[at + s] = (float)sums[s] * scale;
    }
}

/* The same in floats. */
static void score_float(const attention *a, const float *own, const char *keys, float *scores) {
    for (int at = 0; at < a->window; at += KEYS_BLOCK) {
        const int8_t *block = (const int8_t *)keys + at * KEY;
        float sums[KEYS_BLOCK] = {0};
        for (int j = 0; j < KEY; j++)
            for (int s = 0; s < KEYS_BLOCK; s++)
                sums[s] = sums[s] + own[j] * (float)block[(j / 4 * KEYS_BLOCK + s) * 4 + j % 4];
        for (int s = 0; s < KEYS_BLOCK; s++) scores[at + s] = sums[s] * KEY_SCALE;
    }
}

/* exp of the scores of the ring less the largest of them, which it returns; 0 of places that no id has followed. */
static float score_ring(const attention *a, int whole, const float *own, const float *state, float *scores) {
    const float *followed = state + a->followed, *recency = a->recency + a->window - (int)state[a->newest];
    const int window = a->window;
    (whole ? score_whole : score_float)(a, own, (const char *)(state + a->keys), scores);
    for (int s = 0; s < window; s++) scores[s] = followed[s] > 0 ? scores[s] + recency[s] : -INFINITY;
    float most = largest(scores, window);
    for (int s = 0; s < window; s++) scores[s] = followed[s] > 0 ? exponential(scores[s] - most) : 0.0f;
    return most;
}

/* Add what places of the ring, from `first` down to `last`, point at to `mass`. */
static void gather(const attention *a, const float *followed, int first, int last, const float *scores, float *mass) {
    const uint32_t vocabulary = (uint32_t)a->vocabulary;
    for (int s = first; s >= last; s--) {
        uint32_t follower = (uint32_t)(int32_t)followed[s]; /* an id and 1 */
        mass[follower <= vocabulary ? follower : 0] += scores[s];
    }
}

/* Make logits (count,) those of the mixture. own: the query, the key and the sentinel of the last id read.
   ids: of the logits; null where there is one for each id. */
static void point(const attention *a, int whole, const float *own, const float *state, float *logits, int count,
                  const int32_t *ids, const pointing *p, draft *d) {
    const float *followed = state + a->followed;
    int newest = (int)state[a->newest] - 1;
    float most = score_ring(a, whole, own, state, p->scores);
    if (most == -INFINITY) return;
    memset(p->mass, 0, sizeof(float) * (size_t)(1 + a->vocabulary));
    gather(a, followed, newest - 1, 0, p->scores, p->mass);
    gather(a, followed, a->window - 1, newest + 1, p->scores, p->mass);
    float *mass = d->logits;
    for (int j = 0; j < count; j++) mass[j] = p->mass[1 + (ids ? ids[j] : j)];
    float top = largest(logits, count), gap = most - own[2 * KEY];
    for (int j = 0; j < count; j++) d->weights[j] = exponential(logits[j] - top);
    float factor = (float)sum_blocks(d->weights, count, d->blocks) * exponential(gap < MOST_GAP ? gap : MOST_GAP);
    for (int j = 0; j < count; j++) {
        float share = d->weights[j] + factor * mass[j];
        int pointed = (mass[j] > 0) & (share >= 0x1p-126f);
        float mixed = top + logarithm(share >= 0x1p-126f ? share : 0x1p-126f);
        logits[j] = pointed ? mixed : logits[j];
    }
}
