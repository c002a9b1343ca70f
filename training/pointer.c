/* The loss of rows of scores that point at earlier characters, and its gradient in their place; pointer_loss.py says
   what the arrays are. A row is done in one go: what PyTorch does in a dozen passes through memory takes longer than
   the products beside it. */

#include <stdint.h>

#if defined(__x86_64__) && (__GNUC__ >= 10 || __clang_major__ >= 9)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "../model/kernel/target.h"
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")

#define INLINE static inline __attribute__((always_inline))
#define LANES 16
#define WIDEST 4096 /* keys of a window */
#define RAREST 1e-30f
#define KEY 64        /* these three as in model/cells/attention.py */
#define LEVELS 127.0f
#define SCALE (1.0f / (LEVELS * 8.0f))

typedef uint16_t bf16;

INLINE __m512 widened(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

/* exp of numbers that are at most 0; 0 below -87 (Cephes). */
INLINE __m512 exponential(__m512 x) {
    const __mmask16 there = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.3981999507e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(there, p, n);
}

/* One position: `scores` (window + count) of which `keys` from `first` on are inside of its window. Returns its nats. */
static float point(bf16 *scores, int64_t width, int64_t first, int64_t keys, float own, float sentinel,
                   const float *recency, const int32_t *followed, int32_t target, float *of_own, float *of_sentinel,
                   float *of_recency) {
    static _Thread_local float shares[WIDEST] __attribute__((aligned(64)));
    const __m512i wanted = _mm512_set1_epi32(target + 1);
    if (target < 0) {
        memset(scores, 0, sizeof(bf16) * width);
        *of_own = *of_sentinel = 0;
        return 0;
    }
    __m512 most = _mm512_set1_ps(sentinel);
    for (int64_t at = 0; at < keys; at += LANES) {
        const __mmask16 some = keys - at < LANES ? (__mmask16)((1u << (keys - at)) - 1) : 0xFFFF;
        const __m512i ids = _mm512_maskz_loadu_epi32(some, followed + first + at);
        const __mmask16 there = _mm512_mask_cmpgt_epi32_mask(some, ids, _mm512_setzero_si512());
        __m512 x = widened(_mm256_maskz_loadu_epi16(some, scores + first + at));
        x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(some, recency + at));
        x = _mm512_mask_blend_ps(there, _mm512_set1_ps(-INFINITY), x);
        most = _mm512_max_ps(most, x);
        _mm512_store_ps(shares + at, x);
    }
    const float largest = _mm512_reduce_max_ps(most);
    most = _mm512_set1_ps(largest);
    __m512 sum = _mm512_setzero_ps(), sum_right = _mm512_setzero_ps();
    for (int64_t at = 0; at < keys; at += LANES) {
        const __mmask16 some = keys - at < LANES ? (__mmask16)((1u << (keys - at)) - 1) : 0xFFFF;
        const __mmask16 says = _mm512_mask_cmpeq_epi32_mask(some, _mm512_maskz_loadu_epi32(some, followed + first + at), wanted);
        const __m512 share = exponential(_mm512_sub_ps(_mm512_load_ps(shares + at), most));
        sum = _mm512_add_ps(sum, share);
        sum_right = _mm512_mask_add_ps(sum_right, says, sum_right, share);
        _mm512_store_ps(shares + at, share);
    }
    const float alone_of_all = expf(sentinel - largest), alone = alone_of_all * expf(own);
    const float whole = _mm512_reduce_add_ps(sum) + alone_of_all;
    float hit = _mm512_reduce_add_ps(sum_right) + alone;
    const int lost = hit < RAREST;
    hit = lost ? RAREST : hit;
    const __m512 of_all = _mm512_set1_ps(1 / whole), of_right = _mm512_set1_ps(1 / hit);
    memset(scores, 0, sizeof(bf16) * first);
    for (int64_t at = 0; at < keys; at += LANES) {
        const __mmask16 some = keys - at < LANES ? (__mmask16)((1u << (keys - at)) - 1) : 0xFFFF;
        const __mmask16 says = _mm512_mask_cmpeq_epi32_mask(some, _mm512_maskz_loadu_epi32(some, followed + first + at), wanted);
        const __m512 share = _mm512_load_ps(shares + at);
        __m512 slope = _mm512_mul_ps(share, of_all);
        slope = _mm512_mask_sub_ps(slope, says, slope, _mm512_mul_ps(share, of_right));
        _mm512_mask_storeu_ps(of_recency + at, some, _mm512_add_ps(_mm512_maskz_loadu_ps(some, of_recency + at), slope));
        _mm256_mask_storeu_epi16(scores + first + at, some, (__m256i)_mm512_cvtneps_pbh(slope));
    }
    memset(scores + first + keys, 0, sizeof(bf16) * (width - first - keys));
    *of_own = lost ? -1.0f : -alone / hit;
    *of_sentinel = alone_of_all / whole + *of_own;
    return logf(whole) - (lost ? sentinel - largest + own : logf(hit));
}

/* Queries, keys and sentinels of a stretch from what it was projected to (count, rows, outputs): query (rows, count, KEY),
   scaled; keys (rows, window + count, KEY), in whole numbers, `before` (rows, window, KEY) first; slopes (rows, count, KEY):
   of a key by what it was made of; sentinel (rows, count); after: as before, the last of all keys. */
void pointer_read(int64_t rows, int64_t count, int64_t window, int64_t outputs, const bf16 *projected,
                  const int8_t *before, bf16 *query, bf16 *keys, bf16 *slopes, float *sentinel, int8_t *after) {
    const __m512 levels = _mm512_set1_ps(LEVELS), one = _mm512_set1_ps(1.0f);
    for (int64_t row = 0; row < rows; row++) {
        bf16 *key = keys + row * (window + count) * KEY;
        const int8_t *old = before + row * window * KEY;
        int8_t *kept = after + row * window * KEY;
        const int64_t stay = count < window ? window - count : 0;
        memcpy(kept, old + (window - stay) * KEY, stay * KEY);
        for (int64_t j = 0; j < window * KEY; j += LANES, key += LANES) {
            const __m512 level = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(old + j))));
            _mm256_storeu_si256((void *)key, (__m256i)_mm512_cvtneps_pbh(level));
        }
        for (int64_t t = 0; t < count; t++) {
            const bf16 *from = projected + (t * rows + row) * outputs;
            const int64_t at = row * count + t, place = window + t - count;
            for (int64_t j = 0; j < KEY; j += LANES) {
                const __m512 q = widened(_mm256_loadu_si256((const void *)(from + j)));
                _mm256_storeu_si256((void *)(query + at * KEY + j), (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(q, _mm512_set1_ps(SCALE))));
                const __m512 k = widened(_mm256_loadu_si256((const void *)(from + KEY + j)));
                const __m512 e = exponential(_mm512_mul_ps(_mm512_abs_ps(k), _mm512_set1_ps(-2.0f)));
                const __m512 size = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
                const __m512 slope = _mm512_mul_ps(levels, _mm512_fnmadd_ps(size, size, one));
                __m512 level = _mm512_roundscale_ps(_mm512_mul_ps(size, levels), 0);
                level = _mm512_or_ps(level, _mm512_and_ps(k, _mm512_set1_ps(-0.0f)));
                _mm256_storeu_si256((void *)(slopes + at * KEY + j), (__m256i)_mm512_cvtneps_pbh(slope));
                _mm256_storeu_si256((void *)(key + t * KEY + j), (__m256i)_mm512_cvtneps_pbh(level));
                if (place >= 0)
                    _mm_storeu_si128((void *)(kept + place * KEY + j), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(level)));
            }
            const uint32_t bits = (uint32_t)from[2 * KEY] << 16;
            memcpy(sentinel + at, &bits, 4);
        }
    }
}

/* scores: (rows, count, window + count), each with recency (window - 1), that of the farthest first; followed (rows,
   window + count); the others (rows, count). */
void pointer_judge(int64_t rows, int64_t count, int64_t window, bf16 *scores, const float *own, const float *sentinel,
                   const float *recency, const int32_t *followed, const int32_t *targets, float *nats, float *of_own,
                   float *of_sentinel, float *of_recency) {
    const int64_t width = window + count;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t t = 0; t < count; t++) {
            const int64_t at = row * count + t;
            nats[at] = point(scores + at * width, width, t + 1, window - 1, own[at], sentinel[at], recency,
                             followed + row * width, targets[at], of_own + at, of_sentinel + at, of_recency);
        }
}

/* The gradient of what was projected, from those of queries and keys: (rows, count, KEY) to (count, rows, outputs). */
void pointer_go_back(int64_t rows, int64_t count, int64_t outputs, float above, const bf16 *of_query,
                     const bf16 *of_keys, const bf16 *slopes, const float *of_sentinel, bf16 *projected) {
    const __m512 of_q = _mm512_set1_ps(above * SCALE), of_k = _mm512_set1_ps(above);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t t = 0; t < count; t++) {
            bf16 *to = projected + (t * rows + row) * outputs;
            const int64_t at = row * count + t;
            for (int64_t j = 0; j < KEY; j += LANES) {
                const __m512 q = widened(_mm256_loadu_si256((const void *)(of_query + at * KEY + j)));
                const __m512 k = widened(_mm256_loadu_si256((const void *)(of_keys + at * KEY + j)));
                const __m512 slope = widened(_mm256_loadu_si256((const void *)(slopes + at * KEY + j)));
                _mm256_storeu_si256((void *)(to + j), (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(q, of_q)));
                _mm256_storeu_si256((void *)(to + KEY + j),
                                    (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_mul_ps(k, slope), of_k)));
            }
            const __m512 g = _mm512_set1_ps(of_sentinel[at] * above);
            _mm256_mask_storeu_epi16(to + 2 * KEY, 1, (__m256i)_mm512_cvtneps_pbh(g));
        }
}

END_TARGET
#else
void pointer_read(void) {}
void pointer_judge(void) {}
void pointer_go_back(void) {}
#endif
