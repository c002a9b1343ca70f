/* What Python calls, once for each processor: scratch is cut from the caller's workspace, nothing is allocated. */

#define JOIN(a, b) a##_##b
#define NAMED(name, processor) JOIN(name, processor)
#define ENTRY(name) NAMED(name, PROCESSOR)

INLINE int64_t padded(int64_t bytes) {
    return (bytes + 63) / 64 * 64;
}

/* Cut the scratch for B rows × T steps, for `judged` rows of logits of every id or, if 0, B of those that are drawn
   from, and for draws; the bytes it takes. */
static int64_t cut(const network *net, int rows, int steps, int judged, char *memory, scratch *s, float **logits,
                   draft *d, pointing *p) {
    int apart = 0; /* whether a layer has a product of its input alone */
    for (int l = 1; l < net->layers; l++) apart |= !net->layer[l].joined;
    int64_t hidden = (net->hidden + 3) / 4 * 4, at = 0;
    s->row_bytes = hidden * (net->whole ? 1 : 4);
    s->heard_bytes = s->row_bytes * (net->skip ? net->layers : 1);
    s->traced = 0;
    s->width = (CELLS[net->cell].gates * (int64_t)net->hidden + 15) / 16 * 16;
    int64_t both = (int64_t)rows * steps, columns = judged ? net->every.outputs : net->out.outputs;
#define CUT(name, bytes) name = (void *)(memory + at), at += padded(bytes)
    CUT(s->heard, both * s->heard_bytes);
    CUT(s->own, rows * s->row_bytes);
    CUT(s->past, both * s->width * 4);
    CUT(s->input, apart ? both * s->width * 4 : 0);
    CUT(*logits, (judged ? judged : rows) * columns * 4);
    CUT(d->logits, columns * 4);
    CUT(d->weights, columns * 4);
    CUT(d->blocks, (columns / BLOCK + 1) * 8);
    CUT(d->order, columns * 4);
    CUT(d->last, rows * 4);
    CUT(d->rows, rows * 4);
    CUT(d->slots, rows * 4);
    const attention *a = net->attention;
    CUT(s->projected, a ? both * a->project.outputs * 4 : 0);
    CUT(p->scores, a ? a->window * 4 : 0);
    CUT(p->mass, a ? (1 + a->vocabulary) * 4 : 0);
#undef CUT
    return at;
}

int64_t ENTRY(workspace_bytes)(const network *net, int rows, int steps, int judged) {
    scratch s;
    draft d;
    pointing p;
    float *logits;
    return cut(net, rows, steps, judged, 0, &s, &logits, &d, &p);
}

/* Whether all ids are the network's. */
static int known(const network *net, const int32_t *ids, int64_t count) {
    int32_t wrong = 0;
    for (int64_t j = 0; j < count; j++) wrong |= ids[j] < 0 || ids[j] >= net->vocabulary;
    return !wrong;
}

/* Read ids (B, T) into the states of `slots`. 0, or -1 for an id the network does not know, with nothing changed. */
int ENTRY(read)(const network *net, int rows, int steps, const int32_t *ids, const int32_t *slots, float *state,
                char *memory) {
    scratch s;
    draft d;
    pointing p;
    float *logits;
    cut(net, rows, steps, 0, memory, &s, &logits, &d, &p);
    if (!known(net, ids, (int64_t)rows * steps)) return -1;
    advance(net, rows, steps, ids, slots, state, &s);
    if (net->attention)
        for (int t = 0; t < steps; t++)
            for (int r = 0; r < rows; r++)
                remember(net->attention, ids[r * steps + t], projected_of(net, t * rows + r, &s),
                         slot_state(net, state, slots[r]));
    return 0;
}

/* Draw `steps` ids for each of `rows` slots of `table`, each step reading what the one before drew; fewer for a slot
   whose text ends. 0, or -1 for an id the network does not know, with nothing changed. */
int ENTRY(draw)(const network *net, int rows, int steps, const int32_t *slots, slot *table, float *state,
                const drawn *to, char *memory) {
    scratch s;
    draft d;
    pointing p;
    float *logits;
    cut(net, rows, 1, 0, memory, &s, &logits, &d, &p);
    int going = 0; /* rows that draw in the next step stand first in d.rows, d.slots and d.last */
    for (int r = 0; r < rows; r++) {
        if (to->counts) to->counts[r] = 0;
        if (table[slots[r]].ended) continue;
        d.rows[going] = r;
        d.slots[going] = slots[r];
        d.last[going++] = table[slots[r]].last;
    }
    if (!known(net, d.last, going)) return -1;
    for (int t = 0; t < steps && going; t++) {
        advance(net, going, 1, d.last, d.slots, state, &s);
        logits_of(net, &net->out, 0, going, logits, &s);
        int drawing = going;
        going = 0;
        for (int n = 0; n < drawing; n++) {
            int r = d.rows[n];
            slot *one = &table[d.slots[n]];
            float *row = logits + (int64_t)n * net->out.outputs;
            if (net->attention) {
                const float *own = projected_of(net, n, &s);
                float *mine = slot_state(net, state, d.slots[n]);
                remember(net->attention, d.last[n], own, mine);
                point(net->attention, net->whole, own, mine, row, net->columns, net->ids, &p, &d);
            }
            int column = draw_column(one, row, net->columns, &d);
            if (one->next && !follow(one, column)) continue;
            if (one->drawn) one->drawn[column]++;
            one->position++;
            one->last = to->ids[(int64_t)r * steps + t] = net->ids[column];
            if (to->counts) to->counts[r]++;
            if (to->logprobs) report(row, net->columns, column, net->ids, to, (int64_t)r * steps + t, &d);
            if (one->ended) continue;
            d.rows[going] = r;
            d.slots[going] = d.slots[n];
            d.last[going++] = one->last;
        }
    }
    return 0;
}

/* Read ids (B, T) into the states of `slots`, judge how likely the ids `next` (B, T) were after each of them,
   and trace the states. 0, or -1 for an id the network does not know, with nothing changed. */
int ENTRY(score)(const network *net, int rows, int steps, const int32_t *ids, const int32_t *next,
                 const int32_t *slots, float *state, const scored *to, char *memory) {
    scratch s;
    draft d;
    pointing p;
    float *logits;
    cut(net, rows, steps, rows * steps, memory, &s, &logits, &d, &p);
    if (!known(net, ids, (int64_t)rows * steps) || !known(net, next, (int64_t)rows * steps)) return -1;
    s.traced = to->states ? to : 0;
    advance(net, rows, steps, ids, slots, state, &s);
    logits_of(net, &net->every, 0, rows * steps, logits, &s);
    for (int t = 0; t < steps; t++)
        for (int r = 0; r < rows; r++) {
            int64_t at = (int64_t)r * steps + t;
            float *row = logits + ((int64_t)t * rows + r) * net->every.outputs;
            if (net->attention) {
                const float *own = projected_of(net, t * rows + r, &s);
                float *mine = slot_state(net, state, slots[r]);
                remember(net->attention, ids[at], own, mine);
                point(net->attention, net->whole, own, mine, row, net->vocabulary, 0, &p, &d);
            }
            judge(row, net->vocabulary, next[at], to, at, &d);
        }
    return 0;
}
