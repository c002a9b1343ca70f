/* The products of lstm.c on processors with AMX, in tiles: 16 rows by 32 factors by 16 columns in one instruction.

   Sums are added up in one order, whatever other rows there are: a row alone has the bits that it has among others, so
   even a single row is multiplied here. It is another order than that of the vectors in lstm.c, as an instruction adds up
   its own products before it adds them to the sum. */

#define _DEFAULT_SOURCE /* of which `syscall` is */
#include "tiles.h"

#include "../model/kernel/target.h"

#if defined(__x86_64__) && defined(__linux__) && defined(HAS_TILES)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
BEGIN_TARGET("amx-tile,amx-bf16")

#define INLINE static inline __attribute__((always_inline))
#define WIDE 16       /* rows, and columns, of a tile of sums */
#define PANEL 64      /* columns whose sums are in tiles at once */
#define PAIR_BYTES 64 /* of packed weights: a pair of factors for each of 16 columns */
#define MOST_PAIRS 16 /* of factors in a tile */

/* Linux keeps room for tiles only for processes that ask. */
int supported_tiles(void) {
    const unsigned bf16_and_tiles = 1u << 22 | 1u << 24;
    const long ask = 0x1023 /* ARCH_REQ_XCOMP_PERM */, tiles = 18;
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c & 1u << 27)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 0x60000) != 0x60000) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & bf16_and_tiles) != bf16_and_tiles) return 0;
    return syscall(SYS_arch_prctl, ask, tiles) == 0;
}

/* Tiles 0 to 3 are sums, 4 is factors, 5 to 7 are weights. */
static void shape_tiles(int rows, int pairs) {
    tile_shapes shapes = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        shapes.row_bytes[tile] = (uint16_t)(tile == 4 ? 4 * pairs : PAIR_BYTES);
        shapes.rows[tile] = (uint8_t)(tile <= 4 ? rows : pairs);
    }
    IN_MEMORY;
    _tile_loadconfig(&shapes);
}

/* sums += factors · weights of a block of rows, which the tiles are shaped for, and `count` times 16 columns. */
INLINE void multiply_block(const int count, int64_t width, int64_t depth, int pairs, const bf16 *factors,
                           const bf16 *weights, float *sums) {
    const int64_t sum_bytes = 4 * width, factor_bytes = 2 * depth, next = depth * WIDE;
/* DO each 16 columns, with tiles for their sums and weights. */
#define EACH(DO)                  \
    do {                          \
        DO(0, 5);                 \
        if (count > 1) DO(1, 6);  \
        if (count > 2) DO(2, 7);  \
        if (count > 3) DO(3, 5);  \
    } while (0)
#define BEGIN(sum, weight) _tile_loadd(sum, sums + sum * WIDE, sum_bytes)
#define ADD(sum, weight)                                          \
    do {                                                          \
        _tile_loadd(weight, weights + sum * next, PAIR_BYTES);    \
        _tile_dpbf16ps(sum, 4, weight);                           \
    } while (0)
#define END(sum, weight) _tile_stored(sum, sums + sum * WIDE, sum_bytes)
    IN_MEMORY;
    EACH(BEGIN);
    for (int64_t at = 0; at < depth; at += 2 * pairs) {
        _tile_loadd(4, factors + at, factor_bytes);
        EACH(ADD);
        weights += 2 * pairs * WIDE;
    }
    EACH(END);
    IN_MEMORY;
}

void multiply_tiles(int64_t rows, int64_t width, int64_t depth, const bf16 *factors, const bf16 *weights, float *sums) {
    int pairs = MOST_PAIRS; /* that all tiles have, so that none is left: of 48 factors a tile has 24 */
    while (depth / 2 % pairs) pairs--;
    int64_t shaped = 0;
    for (int64_t column = 0; column < width; column += PANEL) {
        /* Blocks of like size, so that none has nearly nothing to do. */
        int64_t blocks = (rows + WIDE - 1) / WIDE;
        for (int64_t row = 0, some; row < rows; row += some, blocks--) {
            some = (rows - row + blocks - 1) / blocks;
            if (some != shaped) shape_tiles((int)some, pairs);
            shaped = some;
#define BLOCK(count)                                                                                     \
    multiply_block(count, width, depth, pairs, factors + row * depth, weights + column * depth,          \
                   sums + row * width + column)
            switch ((width - column) / WIDE) {
            case 1: BLOCK(1); break;
            case 2: BLOCK(2); break;
            case 3: BLOCK(3); break;
            default: BLOCK(4);
            }
        }
    }
    _tile_release(); /* or the system would save them whenever the thread is moved */
}
END_TARGET

#else
int supported_tiles(void) { return 0; }

void multiply_tiles(int64_t rows, int64_t width, int64_t depth, const bf16 *factors, const bf16 *weights, float *sums) {
    (void)rows, (void)width, (void)depth, (void)factors, (void)weights, (void)sums;
}
#endif
