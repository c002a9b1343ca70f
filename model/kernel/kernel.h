/* What Python and the kernel hand each other: plain structures of numbers and of addresses that Python owns. */

#ifndef UNROLL_KERNEL_H
#define UNROLL_KERNEL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST_PARTS 4 /* of the state of a layer */

/* One product of a step, x (B, K) -> x Wᵀ · scale + bias (B, N), its weights packed
   as `pack` in model/decoding/kernel_weights.py lays them. */
typedef struct {
    int32_t outputs;      /* N, a multiple of 16 */
    int32_t groups;       /* K / 4, K a multiple of 4 */
    const void *weights;  /* panels of 64 columns, then one of the rest: [K / 4][columns][4] int8 or [K][columns] float */
    const float *scale;   /* (N,) what a whole sum is worth; null in floats */
    const float *bias;    /* (N,) or null */
    const int32_t *start; /* (N,) what whole sums begin with; null in floats */
} product;

typedef struct {
    int32_t joined;    /* whether `recurrent` also takes the hidden state below, as its first half */
    int32_t state[MOST_PARTS]; /* where in a slot's state each part of the layer's begins, the hidden state first */
    product input;     /* of the hidden state below where it is not joined; no weights in the first layer */
    product recurrent;
} layer;

/* Attention over a window; see numpy_attention.py. */
typedef struct {
    int32_t window, vocabulary;
    int32_t keys, followed, newest; /* where in a slot's state its parts begin */
    const float *recency;   /* (2 · window - 1,) what a place s of the ring adds to its score, where the newest key is
                               in place p, at s - p + window - 1 */
    product project;        /* of what the output reads: query, key, sentinel */
} attention;

typedef struct {
    int32_t cell; /* its number in cells.h */
    int32_t layers, hidden, vocabulary, columns;
    int32_t floats; /* of a slot's state */
    int32_t whole;  /* products in whole numbers, not in floats */
    const float *table;  /* (V, G·H) what each id adds to the gates of the first layer */
    const layer *layer;
    const int32_t *ids;  /* (S,) the id of each column of logits */
    product out;
    product every; /* logits of every id, also of those no text is drawn from; for scoring */
    int32_t skip;  /* whether `out` and `every` read the hidden states of all layers, from the lowest up */
    const attention *attention; /* null for none */
} network;

/* What stands in a table in place of a state; CALL - n is call n. As in transitions.py. */
enum following { NOWHERE = -1, RETURN = -2, CALL = -3, DEEPEST = 32 };

/* How one slot draws; see SamplingParameters in sampling.py. */
typedef struct {
    uint64_t source;    /* seed and choice, mixed */
    int64_t position;   /* how many ids it has drawn */
    int32_t *drawn;     /* (S,) how often each column was drawn; null without penalties and bias */
    const uint8_t *in_prompt; /* (S,) */
    const float *bias;  /* (S,) */
    const int32_t *next;     /* (states, class_count) where columns lead; null for a text without pattern */
    const int32_t *classes;  /* (S,) the class of each column; see transitions.py */
    const int32_t *shortest; /* (states,) */
    const int32_t *complete; /* (states,) */
    const int32_t *calls;    /* (calls, 2) */
    const int32_t *depths;   /* (states,) */
    int64_t left;       /* how many ids it may still draw; without a pattern nobody looks */
    double top_p, typical_p;
    float temperature, min_p, repetition, presence, frequency;
    int32_t greedy, top_k;
    int32_t last;       /* the id it reads next */
    int32_t class_count, state;
    int32_t ended;      /* 0 goes on; COMPLETE or CUT: it draws no more */
    int32_t open, owed; /* how many calls are open, and the ids that the shortest way takes from their returns on */
    int32_t stack[DEEPEST]; /* the states that the open calls return to */
} slot;

enum ended { COMPLETE = 1, CUT = 2 };

/* Room for what the slots of one call draw: arrays (B, steps) and (B, steps, top); null where not asked for. */
typedef struct {
    int32_t *ids;
    float *logprobs;
    int32_t *top_ids;
    float *top_logprobs;
    int32_t top;
    int32_t *counts; /* (B,) how many ids each row drew: fewer than `steps` where its text ended */
} drawn;

/* Room for how likely given ids were: arrays (B, T), and (B, T, top); null where not asked for. */
typedef struct {
    float *logprobs;  /* ln p of the id that came */
    int32_t *ranks;   /* how many ids were likelier, or as likely and before it */
    float *entropies; /* of the distribution it was drawn from, in nats */
    int32_t *top_ids;
    float *top_logprobs;
    float *weights; /* (B, T, V) exp of the logits less the largest */
    double *wholes; /* (B, T) what they add up to */
    int32_t top;
    float *states; /* (B, T, traced) numbers of the state after each id; null where not asked for */
    const int32_t *columns; /* (traced,) where in a slot's state they stand, ascending */
    int32_t traced;
} scored;

#endif
