/* The online memory of one text, as model/online_memory/reference.py defines it; once for all processors: whole
   numbers, and doubles and floats in + − × ÷ in one order. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { ORDERS = 6, LONGEST = 8, GROUPS = 3, WEIGHTS = GROUPS * 3 * 3 * 6, NONE = -1 };

static const int32_t ORDER[ORDERS] = {2, 3, 4, 5, 6, 8}, GROUP[ORDERS] = {0, 1, 1, 2, 2, 2};
static const double SURE[5] = {0.05, 0.2, 0.5, 0.8, 0.95};
static const float FADE = 0.75f, LEAST = 0.015625f;
static const double PRIOR = 20, LOWEST = 0.0001, HIGHEST = 0.9999, RAREST = 0x1p-126;

typedef struct {
    uint64_t key;
    int32_t chain, newer, older, first; /* in its bucket; by last use; its first successor, or the next free one */
} context;

typedef struct {
    int32_t id;
    float count;
    int32_t next;
} successor;

/* layout.py's HEADER; then `buckets` int32, `contexts` contexts and `successors` successors. */
typedef struct {
    int32_t contexts, successors, buckets; /* how many there is room for; buckets is a power of two */
    int32_t free_context, free_successor, newest, oldest;
    int32_t length, history[LONGEST]; /* the last ids, the newest first */
    int32_t seen[WEIGHTS];
    double most; /* how many times a weight was used at most, as its rate of learning has it */
    double weight[WEIGHTS];
} memory;

typedef struct {
    memory *header;
    int32_t *bucket;
    context *contexts;
    successor *successors;
} parts;

/* What the contexts of one place say: of those that were met, from the shortest up. */
typedef struct {
    int32_t count, first[ORDERS], weight[ORDERS];
    double total[ORDERS], share[ORDERS];
} opinion;

static parts parts_of(char *bytes) {
    parts m;
    m.header = (memory *)bytes;
    m.bucket = (int32_t *)(bytes + sizeof(memory));
    m.contexts = (context *)(bytes + sizeof(memory) + 4 * (int64_t)m.header->buckets);
    m.successors = (successor *)(m.contexts + m.header->contexts);
    return m;
}

int64_t memory_header_bytes(void) {
    return (int64_t)sizeof(memory);
}

/* Chain what is free; the header has the sizes and the weights, and all else is 0. */
void memory_begin(char *bytes) {
    parts m = parts_of(bytes);
    memset(m.bucket, 0xff, 4 * (size_t)m.header->buckets);
    for (int32_t j = 0; j < m.header->contexts; j++) m.contexts[j].first = j + 1 < m.header->contexts ? j + 1 : NONE;
    for (int32_t j = 0; j < m.header->successors; j++)
        m.successors[j].next = j + 1 < m.header->successors ? j + 1 : NONE;
    m.header->free_context = m.header->free_successor = 0;
    m.header->newest = m.header->oldest = NONE;
}

static uint64_t key_of(const memory *m, int32_t order) {
    uint64_t key = (uint64_t)order * 0x9E3779B97F4A7C15u;
    for (int32_t j = 0; j < order; j++) {
        key = (key ^ (uint64_t)(m->history[j] + 1)) * 0xD6E8FEB86659FD93u;
        key ^= key >> 32;
    }
    return key;
}

static int32_t *place_of(parts *m, uint64_t key) {
    return &m->bucket[key & (uint64_t)(m->header->buckets - 1)];
}

static int32_t find(parts *m, uint64_t key) {
    int32_t at = *place_of(m, key);
    while (at != NONE && m->contexts[at].key != key) at = m->contexts[at].chain;
    return at;
}

static void unlink_use(parts *m, int32_t at) {
    context *c = &m->contexts[at];
    *(c->newer == NONE ? &m->header->newest : &m->contexts[c->newer].older) = c->older;
    *(c->older == NONE ? &m->header->oldest : &m->contexts[c->older].newer) = c->newer;
}

static void use(parts *m, int32_t at) {
    context *c = &m->contexts[at];
    c->newer = NONE;
    c->older = m->header->newest;
    *(c->older == NONE ? &m->header->oldest : &m->contexts[c->older].newer) = at;
    m->header->newest = at;
}

static void release(parts *m, int32_t at) {
    m->successors[at].next = m->header->free_successor;
    m->header->free_successor = at;
}

/* Forget the context that was not used for the longest time. */
static void forget(parts *m) {
    int32_t at = m->header->oldest;
    context *c = &m->contexts[at];
    int32_t *link = place_of(m, c->key);
    while (*link != at) link = &m->contexts[*link].chain;
    *link = c->chain;
    unlink_use(m, at);
    for (int32_t s = c->first, next; s != NONE; s = next) {
        next = m->successors[s].next;
        release(m, s);
    }
    c->first = m->header->free_context;
    m->header->free_context = at;
}

/* The context with this key, now the one used last; a new one has no successors. */
static int32_t taken(parts *m, uint64_t key) {
    int32_t at = find(m, key);
    if (at != NONE) {
        unlink_use(m, at);
    } else {
        if (m->header->free_context == NONE) forget(m);
        at = m->header->free_context;
        m->header->free_context = m->contexts[at].first;
        int32_t *place = place_of(m, key);
        m->contexts[at] = (context){key, *place, NONE, NONE, NONE};
        *place = at;
    }
    use(m, at);
    return at;
}

/* An id has followed a context: what followed before fades, and what has faded is forgotten. */
static void follow(parts *m, int32_t at, int32_t id) {
    int met = 0;
    for (int32_t *link = &m->contexts[at].first; *link != NONE;) {
        int32_t here = *link;
        successor *s = &m->successors[here];
        s->count = s->count * FADE;
        if (s->id == id) {
            s->count = s->count + 1.0f;
            met = 1;
        }
        if (s->count < LEAST) {
            *link = s->next;
            release(m, here);
        } else {
            link = &s->next;
        }
    }
    if (met) return;
    while (m->header->free_successor == NONE) forget(m); /* never this one: it was used last */
    int32_t new = m->header->free_successor;
    m->header->free_successor = m->successors[new].next;
    m->successors[new] = (successor){id, 1.0f, m->contexts[at].first};
    m->contexts[at].first = new;
}

static void push(memory *m, int32_t id) {
    memmove(m->history + 1, m->history, sizeof(int32_t) * (LONGEST - 1));
    m->history[0] = id;
    if (m->length < LONGEST) m->length++;
}

static void learn(parts *m, int32_t id) {
    for (int o = 0; o < ORDERS && ORDER[o] <= m->header->length; o++)
        follow(m, taken(m, key_of(m->header, ORDER[o])), id);
    push(m->header, id);
}

static double fraction(const parts *m, int32_t first, double total, int32_t id) {
    for (int32_t s = first; s != NONE; s = m->successors[s].next)
        if (m->successors[s].id == id) return (double)m->successors[s].count / total;
    return 0;
}

static double own_share(const float *weights, double whole, int32_t id) {
    double weight = (double)weights[id];
    return (weight < RAREST ? RAREST : weight) / whole;
}

/* The probability of an id as the network and the first `count` contexts have it. */
static double mixed(const parts *m, const opinion *o, int count, const float *weights, double whole, int32_t id) {
    double p = own_share(weights, whole, id);
    for (int j = 0; j < count; j++)
        p = (1 - o->share[j]) * p + o->share[j] * fraction(m, o->first[j], o->total[j], id);
    return p;
}

static opinion ask(parts *m, const float *weights, double whole) {
    opinion o;
    o.count = 0;
    for (int j = 0; j < ORDERS && ORDER[j] <= m->header->length; j++) {
        int32_t at = find(m, key_of(m->header, ORDER[j]));
        if (at == NONE) break;
        int n = o.count, different = 0, sure = 0;
        int32_t likeliest = NONE;
        float most = 0;
        o.first[n] = m->contexts[at].first;
        o.total[n] = 0;
        for (int32_t s = o.first[n]; s != NONE; s = m->successors[s].next) {
            const successor *one = &m->successors[s];
            o.total[n] = o.total[n] + (double)one->count;
            different++;
            if (one->count > most) most = one->count, likeliest = one->id;
        }
        double before = mixed(m, &o, n, weights, whole, likeliest);
        for (int k = 0; k < 5; k++) sure += before > SURE[k];
        int often = o.total[n] < 1.5 ? 0 : o.total[n] < 3 ? 1 : 2;
        o.weight[n] = ((GROUP[j] * 3 + often) * 3 + (different > 3 ? 3 : different) - 1) * 6 + sure;
        o.share[n] = m->header->weight[o.weight[n]];
        o.count++;
    }
    return o;
}

/* The weights move towards the share that each context had in what came. */
static double adapt(parts *m, const opinion *o, const float *weights, double whole, int32_t id) {
    double p[ORDERS + 1], given[ORDERS], left = 1;
    p[0] = own_share(weights, whole, id);
    for (int j = 0; j < o->count; j++) {
        given[j] = o->share[j] * fraction(m, o->first[j], o->total[j], id);
        p[j + 1] = (1 - o->share[j]) * p[j] + given[j];
    }
    for (int j = o->count - 1; j >= 0; j--) {
        int32_t at = o->weight[j];
        double merit = given[j] / p[j + 1], times = ++m->header->seen[at] + PRIOR;
        if (times > m->header->most) {
            times = m->header->most;
            m->header->seen[at]--; /* so that it never overflows */
        }
        double weight = m->header->weight[at] + left * (merit - o->share[j]) / times;
        m->header->weight[at] = weight < LOWEST ? LOWEST : weight > HIGHEST ? HIGHEST : weight;
        left = left * (1 - merit);
    }
    return p[o->count];
}

/* ln p of every id, as `mixed` has each. room: (vocabulary,). */
static void log_all(const parts *m, const opinion *o, int vocabulary, const float *weights, double whole, double *room,
                    float *all) {
    for (int32_t id = 0; id < vocabulary; id++) room[id] = own_share(weights, whole, id);
    for (int j = 0; j < o->count; j++) {
        for (int32_t id = 0; id < vocabulary; id++) room[id] = (1 - o->share[j]) * room[id];
        for (int32_t s = o->first[j]; s != NONE; s = m->successors[s].next) {
            const successor *one = &m->successors[s];
            room[one->id] = room[one->id] + o->share[j] * ((double)one->count / o->total[j]);
        }
    }
    for (int32_t id = 0; id < vocabulary; id++) all[id] = (float)log(room[id]);
}

/* Read `steps` ids of a text, whose distributions without memory are `weights` (steps, vocabulary) of which each row
   adds up to `whole` (steps,), and learn the ids `next` that followed. logprobs: ln p of each (steps,). all: ln p of
   every id (steps, vocabulary), for which `room` is (vocabulary,); null where not asked for. 0, or -1 for an id beyond the
   vocabulary, nothing changed. */
int memory_score(char *bytes, int steps, int vocabulary, const int32_t *ids, const int32_t *next,
                 const float *weights, const double *whole, float *logprobs, float *all,
                 double *room) {
    parts m = parts_of(bytes);
    for (int t = 0; t < steps; t++)
        if (ids[t] < 0 || ids[t] >= vocabulary || next[t] < 0 || next[t] >= vocabulary) return -1;
    for (int t = 0; t < steps; t++, weights += vocabulary) {
        if (!m.header->length) push(m.header, ids[t]);
        opinion o = ask(&m, weights, whole[t]);
        if (all) log_all(&m, &o, vocabulary, weights, whole[t], room, all + (int64_t)t * vocabulary);
        logprobs[t] = (float)log(adapt(&m, &o, weights, whole[t], next[t]));
        learn(&m, next[t]);
    }
    return 0;
}

/* What is expected after the last id of a text, of which nothing is learnt: as `memory_score` has it in `all` for the
   step whose distribution is `weights` (vocabulary,), which adds up to `whole`. 0, or -1 for an id beyond it. */
int memory_expect(char *bytes, int vocabulary, int32_t last, const float *weights, double whole, double *room,
                  float *all) {
    parts m = parts_of(bytes);
    if (last < 0 || last >= vocabulary) return -1;
    if (!m.header->length) push(m.header, last);
    opinion o = ask(&m, weights, whole);
    log_all(&m, &o, vocabulary, weights, whole, room, all);
    return 0;
}

/* The same as `memory_score` of many texts side by side, each with its own memory, null where it has none: arrays (rows, steps), and
   (rows, steps, vocabulary) of weights. */
int memory_score_rows(char *const *bytes, int rows, int steps, int vocabulary, const int32_t *ids, const int32_t *next,
                      const float *weights, const double *whole, float *logprobs) {
    int wrong = 0;
    for (int64_t r = 0; r < rows; r++)
        if (bytes[r])
            wrong |= memory_score(bytes[r], steps, vocabulary, ids + r * steps, next + r * steps,
                                  weights + r * steps * vocabulary, whole + r * steps, logprobs + r * steps, 0, 0);
    return wrong;
}
