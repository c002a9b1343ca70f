/* How long a text agrees with a sample, by the sample's suffix automaton; what suffix_automaton.py says in Python.
   Once for all processors: it waits for memory, not for arithmetic. */

#include <stdint.h>

/* One transition; symbols are numbered from 1, so symbol 0 marks an empty entry of a table. */
typedef struct {
    int32_t state, symbol, target;
} edge;

/* Where a transition stands in a table of 2^bits entries, or the empty entry where it would: Fibonacci hashing, then
   the next free entry. A table is never full, so the search ends. */
static edge *entry_of(edge *table, int32_t bits, int32_t state, int32_t symbol) {
    const uint64_t last = ((uint64_t)1 << bits) - 1;
    uint64_t at = (((uint64_t)(uint32_t)state << 32 | (uint32_t)symbol) * 0x9E3779B97F4A7C15u) >> (64 - bits);
    while (table[at].symbol && (table[at].symbol != symbol || table[at].state != state)) at = (at + 1) & last;
    return &table[at];
}

/* Put transitions (E,) into an empty table; bits is at least 1, and 2^bits is above E. */
void enter_edges(int64_t count, const edge *edges, int32_t bits, edge *table) {
    for (int64_t e = 0; e < count; e++) *entry_of(table, bits, edges[e].state, edges[e].symbol) = edges[e];
}

/* Read symbols (n,), 0 for one the sample does not have, of which `before` were read earlier.
   link, longest: (S,) of each state its suffix link and its longest string; the root is state 0.
   now: (2,) the state the text has led to, and how much of its end that state stands for.
   best, where: (S,) the longest end of the text that ever led to each state, and after how many symbols it first did. */
void follow_edges(edge *table, int32_t bits, const int32_t *link, const int32_t *longest, const int32_t *symbols,
                  int64_t count, int64_t before, int32_t *now, int32_t *best, int64_t *where) {
    int32_t state = now[0], length = now[1];
    for (int64_t i = 0; i < count; i++) {
        const int32_t symbol = symbols[i];
        if (!symbol) {
            state = length = 0;
            continue;
        }
        const edge *next;
        while (!(next = entry_of(table, bits, state, symbol))->symbol) { /* from the root every symbol leads on */
            state = link[state];
            length = longest[state];
        }
        state = next->target;
        length++;
        if (length > best[state]) {
            best[state] = length;
            where[state] = before + i + 1;
        }
    }
    now[0] = state;
    now[1] = length;
}
