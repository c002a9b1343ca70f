/* One id per row of logits, as sampling.py defines it. Included once for each processor. */

#define BLOCK 16

/* Scratch of a draw, for S columns: penalised logits, weights, sums of blocks, an order of columns; and for B rows
   the id each reads next, which row it is, and its slot. */
typedef struct {
    float *logits, *weights;
    double *blocks;
    int32_t *order;
    int32_t *last, *rows, *slots;
} draft;

static float largest(const float *x, int count) {
    float most = x[0];
    if (count < LANES) {
        for (int j = 1; j < count; j++) most = x[j] > most ? x[j] : most;
        return most;
    }
    float lanes[LANES];
    vfloat several = load_float(x + count - LANES); /* the last ones may be read twice */
    for (int j = 0; j + LANES <= count; j += LANES) several = larger(load_float(x + j), several);
    store_float(lanes, several);
    for (int l = 0; l < LANES; l++) most = lanes[l] > most ? lanes[l] : most;
    return most;
}

static int first_largest(const float *x, int count) {
    float most = largest(x, count);
    int at = 0;
    while (at < count - 1 && x[at] != most) at++; /* no number equals NaN */
    return at;
}

/* Running sums of blocks of 16 weights into `blocks`; the last of them is the sum of all. */
static double sum_blocks(const float *weights, int count, double *blocks) {
    int whole = count / BLOCK, rest = count % BLOCK;
    double running = 0;
    for (int b = 0; b < whole + (rest > 0); b++) {
        int size = b < whole ? BLOCK : rest;
        double sum = weights[b * BLOCK];
        for (int j = 1; j < size; j++) sum += weights[b * BLOCK + j];
        blocks[b] = running = b ? running + sum : sum;
    }
    return running;
}

static int invert(const float *weights, int count, double share, double *blocks) {
    double goal = share * sum_blocks(weights, count, blocks);
    int block = 0;
    while (blocks[block] <= goal) block++;
    double running = block ? blocks[block - 1] : 0;
    int end = (block + 1) * BLOCK < count ? (block + 1) * BLOCK : count, last = 0;
    for (int j = block * BLOCK; j < end; j++) {
        running += weights[j];
        if (weights[j] > 0) last = j;
        if (running > goal) break;
    }
    return last;
}

static void penalise(const slot *p, const float *logits, int count, float *to) {
    for (int j = 0; j < count; j++) {
        float x = logits[j] + p->bias[j];
        if (p->drawn[j] > 0 || p->in_prompt[j]) x = x > 0 ? x / p->repetition : x * p->repetition;
        x = x - (p->drawn[j] > 0 ? p->presence : 0.0f);
        to[j] = x - p->frequency * (float)p->drawn[j];
    }
}

/* Whether column a comes before column b: larger first, equal ones from left to right. */
INLINE int before(const float *x, int32_t a, int32_t b) {
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

static void sift(int32_t *heap, int size, int at, const float *x) {
    int32_t moving = heap[at];
    for (int child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && before(x, heap[child + 1], heap[child])) child++;
        if (before(x, moving, heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static void make_heap(int32_t *heap, int size, const float *x) {
    for (int j = 0; j < size; j++) heap[j] = j;
    for (int j = size / 2 - 1; j >= 0; j--) sift(heap, size, j, x);
}

/* Take the first column out of the heap; it is kept behind the heap's new end. */
static int32_t take_first(int32_t *heap, int *size, const float *x) {
    int32_t first = heap[0];
    heap[0] = heap[--*size];
    heap[*size] = first;
    if (*size) sift(heap, *size, 0, x);
    return first;
}

/* Set to zero what top-k, top-p and min-p leave out. */
static void filter(const slot *p, float *weights, int count, draft *d) {
    int size = count, kept = 0;
    if (p->top_k && p->top_k < count) {
        make_heap(d->order, count, weights);
        while (kept++ < p->top_k) take_first(d->order, &size, weights);
        for (int j = 0; j < size; j++) weights[d->order[j]] = 0;
    }
    if (p->top_p < 1) {
        double most = p->top_p * sum_blocks(weights, count, d->blocks), running = 0;
        size = count;
        make_heap(d->order, count, weights);
        while (size && running < most) running += weights[take_first(d->order, &size, weights)];
        for (int j = 0; j < size; j++) weights[d->order[j]] = 0;
    }
    for (int j = 0; j < count; j++) weights[j] = weights[j] >= p->min_p ? weights[j] : 0;
}

/* Whether a way may be gone: what is begun there can be completed in the ids that are left after it, no deeper than
   there is room. */
static int fits(const slot *p, int32_t to) {
    if (to == NOWHERE) return 0;
    int32_t cost = 0, deeper = -1;
    if (to >= 0) {
        cost = p->shortest[to];
        deeper = p->calls ? p->depths[to] : 0;
    } else if (to <= CALL) {
        const int32_t *call = p->calls + 2 * (int64_t)(CALL - to);
        cost = p->shortest[call[0]] + p->shortest[call[1]];
        deeper = 1 + p->depths[call[0]] > p->depths[call[1]] ? 1 + p->depths[call[0]] : p->depths[call[1]];
    }
    return p->owed + cost < p->left && p->open + deeper <= DEEPEST;
}

/* Leave only the columns that continue a text which is not complete. */
static void constrain(const slot *p, const float *logits, int count, float *to) {
    const int32_t *next = p->next + (int64_t)p->state * p->class_count;
    for (int j = 0; j < count; j++) to[j] = fits(p, next[p->classes[j]]) ? logits[j] : -INFINITY;
}

/* Go on with a drawn column, and see whether the text ends with it; whether the column is part of the text. */
static int follow(slot *p, int column) {
    int32_t state = p->next[(int64_t)p->state * p->class_count + p->classes[column]];
    if (!fits(p, state)) {
        p->ended = COMPLETE;
        return 0;
    }
    if (state == RETURN) {
        state = p->stack[--p->open];
        p->owed -= p->shortest[state];
    } else if (state <= CALL) {
        const int32_t *call = p->calls + 2 * (int64_t)(CALL - state);
        state = call[0];
        p->stack[p->open++] = call[1];
        p->owed += p->shortest[call[1]];
    }
    p->state = state;
    p->left--;
    const int32_t *next = p->next + (int64_t)state * p->class_count;
    int follows = 0;
    for (int c = 0; c < p->class_count; c++) follows |= p->left > 0 ? fits(p, next[c]) : next[c] != NOWHERE;
    if (!follows || p->left <= 0) p->ended = !follows && p->complete[state] ? COMPLETE : CUT;
    return 1;
}

/* Set to zero all but the most typical; see `keep_typical` in sampler.py. `near` is scratch. */
static void keep_typical(const slot *p, const float *logits, float most, float *weights, int count, float *near,
                         draft *d) {
    double whole = sum_blocks(weights, count, d->blocks), running = 0;
    /* `near` may be `logits`: each number is read before it is written */
    for (int j = 0; j < count; j++) near[j] = (logits[j] - most) / p->temperature;
    float *products = (float *)d->order; /* until there is an order */
    for (int j = 0; j < count; j++) products[j] = weights[j] > 0 ? weights[j] * near[j] : 0;
    float mean = (float)(sum_blocks(products, count, d->blocks) / whole);
    for (int j = 0; j < count; j++) near[j] = weights[j] > 0 ? -fabsf(mean - near[j]) : -INFINITY;
    int size = count;
    make_heap(d->order, count, near);
    while (size && running < p->typical_p * whole) running += weights[take_first(d->order, &size, near)];
    for (int j = 0; j < size; j++) weights[d->order[j]] = 0;
}

/* The column one slot draws from its logits. */
static int draw_column(slot *p, const float *logits, int count, draft *d) {
    if (p->drawn) {
        penalise(p, logits, count, d->logits);
        logits = d->logits;
    }
    if (p->next && !p->complete[p->state]) {
        constrain(p, logits, count, d->logits);
        logits = d->logits;
    }
    if (p->greedy) return first_largest(logits, count);
    float most = largest(logits, count);
    for (int j = 0; j < count; j++) d->weights[j] = exponential((logits[j] - most) / p->temperature);
    if (p->top_k || p->top_p < 1 || p->min_p > 0) filter(p, d->weights, count, d);
    if (p->typical_p < 1) keep_typical(p, logits, most, d->weights, count, d->logits, d);
    return invert(d->weights, count, uniform(p->source, p->position), d->blocks);
}

/* ln p of a column is (its logit − the largest) − ln of the sum of exp of all such differences, which this returns. */
static double log_sum(const float *logits, int count, float most, draft *d) {
    for (int j = 0; j < count; j++) d->weights[j] = exponential(logits[j] - most);
    return log(sum_blocks(d->weights, count, d->blocks));
}

INLINE float log_probability(float logit, float most, double sum) {
    return (float)(((double)logit - most) - sum);
}

/* The likeliest columns, by id (column itself where `ids` is null), with their ln p. */
static void likeliest(const float *logits, int count, float most, double sum, const int32_t *ids, int top,
                      int32_t *top_ids, float *top_logprobs, draft *d) {
    int size = count;
    if (top) make_heap(d->order, count, logits);
    for (int n = 0; n < top; n++) {
        int32_t next = take_first(d->order, &size, logits);
        top_ids[n] = ids ? ids[next] : next;
        top_logprobs[n] = log_probability(logits[next], most, sum);
    }
}

/* How likely the drawn column was, in the model's own distribution. */
static void report(const float *logits, int count, int column, const int32_t *ids, const drawn *to, int64_t at,
                   draft *d) {
    float most = largest(logits, count);
    double sum = log_sum(logits, count, most, d);
    to->logprobs[at] = log_probability(logits[column], most, sum);
    likeliest(logits, count, most, sum, ids, to->top, to->top_ids + at * to->top, to->top_logprobs + at * to->top, d);
}

/* How likely an id was among all of them, by `logits` (V,). */
static void judge(const float *logits, int count, int32_t id, const scored *to, int64_t at, draft *d) {
    float most = largest(logits, count), own = logits[id];
    double sum = log_sum(logits, count, most, d);
    to->logprobs[at] = log_probability(own, most, sum);
    if (to->weights) {
        memcpy(to->weights + at * count, d->weights, (size_t)count * sizeof(float));
        to->wholes[at] = d->blocks[(count - 1) / BLOCK];
    }
    if (to->ranks) {
        int32_t likelier = 0;
        for (int j = 0; j < count; j++) likelier += logits[j] > own || (logits[j] == own && j < id);
        to->ranks[at] = likelier;
    }
    if (to->entropies) { /* −Σ p ln p, of which p is weight / Σ weights */
        for (int j = 0; j < count; j++) d->logits[j] = d->weights[j] * (logits[j] - most);
        double weights = sum_blocks(d->weights, count, d->blocks);
        to->entropies[at] = (float)(sum - sum_blocks(d->logits, count, d->blocks) / weights);
    }
    if (to->top_ids)
        likeliest(logits, count, most, sum, 0, to->top, to->top_ids + at * to->top, to->top_logprobs + at * to->top, d);
}
