/* An LSTM layer forward and back over a window, with products of bfloat16 numbers added up in fp32.

   lstm_window.py says what the arrays are. Forward, the products with the input are done for some characters at once;
   back, the gradients of weights and inputs are left to products over the whole window, which need only the gradients of
   the gates. PyTorch's kernel adds to the gradients of all weights at every character: threads that share rows then wait
   for the same cache. Here products are done in vectors (AVX512_BF16); tiles.c does them where there are tiles. */

#include "tiles.h"

#if defined(__x86_64__) && (__GNUC__ >= 10 || __clang_major__ >= 9)
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "../model/kernel/target.h"
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")

#define INLINE static inline __attribute__((always_inline))
#define WIDE 16  /* columns of a block: fp32 numbers in a register */
#define ROWS 8   /* of a tile */
#define DEPTH 512 /* factors that a tile adds up before the next: its weights then fit the first cache */

int supported_lstm(void) {
    unsigned a, b, c, d, low, high;
    const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c & 1u << 27)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 0xE6) != 0xE6) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & f_dq_bw_vl) != f_dq_bw_vl || a < 1) return 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5); /* AVX512_BF16 */
}

INLINE __m256i rounded(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

INLINE __m512 widened(const bf16 *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16));
}

/* Two registers of bf16 as pairs: a0 b0 a1 b1 … */
INLINE __m512i paired(__m256i a, __m256i b) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

/* Weights (n, k) packed for sums over k, for each block of 16 of n the pairs of k of its 16. n is a multiple of 16. */
void pack_rows(const float *weights, int64_t n, int64_t k, bf16 *packed) {
    for (int64_t block = 0; block < n; block += WIDE) {
        for (int64_t row = 0; row < WIDE; row++) {
            const float *from = weights + (block + row) * k;
            uint32_t *to = (uint32_t *)packed + block * k / 2 + row;
            int64_t at = 0;
            for (; at + 16 <= k; at += 16) {
                uint32_t pairs[8];
                _mm256_storeu_si256((void *)pairs, rounded(_mm512_loadu_ps(from + at)));
                for (int64_t pair = 0; pair < 8; pair++) to[(at / 2 + pair) * WIDE] = pairs[pair];
            }
            for (; at < k; at += 2) {
                uint32_t pairs[8];
                _mm256_storeu_si256((void *)pairs, rounded(_mm512_maskz_loadu_ps(3, from + at)));
                to[at / 2 * WIDE] = pairs[0];
            }
        }
    }
}

/* Weights (n, k) packed for sums over n, likewise: k is a multiple of 16. */
void pack_columns(const float *weights, int64_t n, int64_t k, bf16 *packed) {
    for (int64_t block = 0; block < k; block += WIDE)
        for (int64_t row = 0; row < n; row += 2) {
            const float *from = weights + row * k + block;
            const __m512i pairs = paired(rounded(_mm512_loadu_ps(from)), rounded(_mm512_loadu_ps(from + k)));
            _mm512_storeu_si512(packed + block * n + row * WIDE, pairs);
        }
}

/* A tile of sums (rows, 16 · blocks) += factors (rows, depth) · weights; depth_all: of which `depth` are a part. */
INLINE void tile(int rows, int blocks, const bf16 *factors, int64_t stride, const bf16 *weights, int64_t next_block,
                 int64_t depth, float *sums, int64_t width) {
    __m512 sum[ROWS][2];
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int block = 0; block < blocks; block++) sum[row][block] = _mm512_loadu_ps(sums + row * width + block * WIDE);
    for (int64_t at = 0; at < depth; at += 2) {
        __m512i weight[2];
#pragma GCC unroll 2
        for (int block = 0; block < blocks; block++)
            weight[block] = _mm512_loadu_si512(weights + block * next_block + at * WIDE);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            int32_t pair;
            memcpy(&pair, factors + row * stride + at, 4);
            const __m512bh factor = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
            for (int block = 0; block < blocks; block++)
                sum[row][block] = _mm512_dpbf16_ps(sum[row][block], factor, (__m512bh)weight[block]);
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int block = 0; block < blocks; block++) _mm512_storeu_ps(sums + row * width + block * WIDE, sum[row][block]);
}

INLINE void all_rows(int blocks, int64_t rows, const bf16 *factors, int64_t stride, const bf16 *weights,
                     int64_t next_block, int64_t depth, float *sums, int64_t width) {
#define TILE(count) tile(count, blocks, factors, stride, weights, next_block, depth, sums, width)
    for (; rows >= ROWS; rows -= ROWS, factors += ROWS * stride, sums += ROWS * width) TILE(8);
    switch (rows) {
    case 7: TILE(7); break;
    case 6: TILE(6); break;
    case 5: TILE(5); break;
    case 4: TILE(4); break;
    case 3: TILE(3); break;
    case 2: TILE(2); break;
    case 1: TILE(1); break;
    }
}

/* sums (rows, width) += factors (rows, depth) · packed weights. */
static void multiply_vectors(int64_t rows, int64_t width, int64_t depth, const bf16 *factors, const bf16 *weights,
                             float *sums) {
    const int64_t next_block = depth * WIDE;
    for (int64_t first = 0; first < depth; first += DEPTH) {
        const int64_t part = depth - first < DEPTH ? depth - first : DEPTH;
        const bf16 *from = weights + first * WIDE;
        int64_t at = 0;
        for (; at + 2 * WIDE <= width; at += 2 * WIDE)
            all_rows(2, rows, factors + first, depth, from + at * depth, next_block, part, sums + at, width);
        if (at < width) all_rows(1, rows, factors + first, depth, from + at * depth, next_block, part, sums + at, width);
    }
}

/* The same, in tiles where the processor has them. */
static void multiply(int64_t tiles, int64_t rows, int64_t width, int64_t depth, const bf16 *factors,
                     const bf16 *weights, float *sums) {
    (tiles ? multiply_tiles : multiply_vectors)(rows, width, depth, factors, weights, sums);
}

/* 1 / (1 + exp(-x)); exp as 2^n · a polynomial of a rest in [-½, ½] (Cephes, expf). */
INLINE __m512 sigmoid(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 bounded = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(80.0f)), _mm512_set1_ps(-80.0f));
    const __m512 power = _mm512_mul_ps(bounded, _mm512_set1_ps(-1.44269504088896341f));
    const __m512 whole = _mm512_roundscale_ps(power, 0);
    const __m512 rest = _mm512_mul_ps(_mm512_sub_ps(power, whole), _mm512_set1_ps(0.69314718055994531f));
    __m512 y = _mm512_set1_ps(1.0f / 720);
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(1.0f / 120));
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, rest, one);
    y = _mm512_fmadd_ps(y, rest, one);
    const __m512 answer = _mm512_div_ps(one, _mm512_add_ps(one, _mm512_scalef_ps(y, whole)));
    return _mm512_mask_mov_ps(answer, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x); /* what is no number stays none */
}

INLINE __m512 tanh_of(__m512 x) {
    return _mm512_fmsub_ps(_mm512_set1_ps(2.0f), sigmoid(_mm512_add_ps(x, x)), _mm512_set1_ps(1.0f));
}

/* The gates (rows, 4·hidden) of their sums, and the cell and hidden states after a character. */
static void step(int64_t rows, int64_t hidden, const float *sums, bf16 *gates, const float *cell, float *cell_after,
                 bf16 *hidden_after) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < hidden; at += WIDE) {
            const float *from = sums + row * 4 * hidden + at;
            bf16 *to = gates + row * 4 * hidden + at;
            const __m512 i = sigmoid(_mm512_loadu_ps(from)), f = sigmoid(_mm512_loadu_ps(from + hidden));
            const __m512 g = tanh_of(_mm512_loadu_ps(from + 2 * hidden)), o = sigmoid(_mm512_loadu_ps(from + 3 * hidden));
            const __m512 before = _mm512_loadu_ps(cell + row * hidden + at);
            const __m512 after = _mm512_fmadd_ps(f, before, _mm512_mul_ps(i, g));
            _mm256_storeu_si256((void *)to, rounded(i));
            _mm256_storeu_si256((void *)(to + hidden), rounded(f));
            _mm256_storeu_si256((void *)(to + 2 * hidden), rounded(g));
            _mm256_storeu_si256((void *)(to + 3 * hidden), rounded(o));
            _mm512_storeu_ps(cell_after + row * hidden + at, after);
            _mm256_storeu_si256((void *)(hidden_after + row * hidden + at), rounded(_mm512_mul_ps(o, tanh_of(after))));
        }
}

/* Read a window. counts: (length,) rows at each character, never more than at the one before: the first rows go on.
   tiles: whether tiles.c does the products. sums: (at_once·rows, 4·hidden), room to work in for so many characters. */
void lstm_read(int64_t tiles, int64_t length, int64_t width, int64_t hidden, int64_t at_once, const int64_t *counts,
                  const bf16 *inputs, const bf16 *weights_ih, const bf16 *weights_hh, const float *bias, bf16 *hiddens,
                  float *cells, bf16 *gates, float *sums) {
    int64_t before = 0, after = counts[0]; /* the states of a character's rows, in rows of states */
    for (int64_t first = 0; first < length; first += at_once) {
        const int64_t end = length - first < at_once ? length : first + at_once;
        int64_t total = 0;
        for (int64_t t = first; t < end; t++) total += counts[t];
        for (int64_t row = 0; row < total; row++) memcpy(sums + row * 4 * hidden, bias, 16 * hidden);
        multiply(tiles, total, 4 * hidden, width, inputs + (after - counts[0]) * width, weights_ih, sums);
        float *here = sums;
        for (int64_t t = first; t < end; t++) {
            multiply(tiles, counts[t], 4 * hidden, hidden, hiddens + before * hidden, weights_hh, here);
            step(counts[t], hidden, here, gates + (after - counts[0]) * 4 * hidden, cells + before * hidden,
                 cells + after * hidden, hiddens + after * hidden);
            here += counts[t] * 4 * hidden;
            before = after;
            after += counts[t];
        }
    }
}

/* The gates' gradients of one character, in the place of the gates; `cell_gradient` becomes that of the state before. */
static void step_back(int64_t rows, int64_t hidden, bf16 *gates, const float *cell, const float *cell_after,
                      const bf16 *above, const float *later, float *cell_gradient, float *bias_gradient) {
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < hidden; at += WIDE) {
            bf16 *gate = gates + row * 4 * hidden + at;
            const int64_t here = row * hidden + at;
            const __m512 i = widened(gate), f = widened(gate + hidden);
            const __m512 g = widened(gate + 2 * hidden), o = widened(gate + 3 * hidden);
            const __m512 y = tanh_of(_mm512_loadu_ps(cell_after + here));
            const __m512 dh = _mm512_add_ps(widened(above + here), _mm512_loadu_ps(later + here));
            const __m512 dc = _mm512_fmadd_ps(_mm512_mul_ps(dh, o), _mm512_fnmadd_ps(y, y, one),
                                              _mm512_loadu_ps(cell_gradient + here));
            const __m512 of_gate[4] = {
                _mm512_mul_ps(_mm512_mul_ps(dc, g), _mm512_mul_ps(i, _mm512_sub_ps(one, i))),
                _mm512_mul_ps(_mm512_mul_ps(dc, _mm512_loadu_ps(cell + here)), _mm512_mul_ps(f, _mm512_sub_ps(one, f))),
                _mm512_mul_ps(_mm512_mul_ps(dc, i), _mm512_fnmadd_ps(g, g, one)),
                _mm512_mul_ps(_mm512_mul_ps(dh, y), _mm512_mul_ps(o, _mm512_sub_ps(one, o))),
            };
            _mm512_storeu_ps(cell_gradient + here, _mm512_mul_ps(dc, f));
            for (int64_t number = 0; number < 4; number++) {
                float *bias = bias_gradient + number * hidden + at;
                _mm256_storeu_si256((void *)(gate + number * hidden), rounded(of_gate[number]));
                _mm512_storeu_ps(bias, _mm512_add_ps(_mm512_loadu_ps(bias), of_gate[number]));
            }
        }
}

/* Go back over the window that was read. later, cell_gradient: (rows, hidden), the gradients of each row's last state. */
void lstm_go_back(int64_t tiles, int64_t length, int64_t hidden, const int64_t *counts, const bf16 *weights_hh,
                  const float *cells, bf16 *gates, const bf16 *above, float *later, float *cell_gradient,
                  float *bias_gradient) {
    int64_t begin = 0; /* of a character's rows in the window */
    for (int64_t t = 0; t < length; t++) begin += counts[t];
    for (int64_t t = length - 1; t >= 0; t--) {
        begin -= counts[t];
        const int64_t after = counts[0] + begin, before = t ? after - counts[t - 1] : 0;
        bf16 *here = gates + begin * 4 * hidden;
        step_back(counts[t], hidden, here, cells + before * hidden, cells + after * hidden, above + begin * hidden, later,
                  cell_gradient, bias_gradient);
        memset(later, 0, 4 * counts[t] * hidden);
        multiply(tiles, counts[t], hidden, 4 * hidden, here, weights_hh, later);
    }
}
END_TARGET

#else
int supported_lstm(void) { return 0; }
#endif
