/* The kernel for x86 processors with AVX2: pairs of 8-bit products added in 16 bits, where they cannot overflow. */

#if defined(__x86_64__)
#include <immintrin.h>

#include "kernel.h"
#include "target.h"
BEGIN_TARGET("avx2,fma")
#include "elements.h"
#include "cells.h"

#define PROCESSOR avx2
#define LANES 8
#define VECTORS 4
#define MOST_ROWS 2
#define LEVEL_OFFSET 0
#define SIGNED_OFFSET 0
#define dot_signed dot

typedef __m256i vint;
typedef __m256i vlevels, vweights;
typedef __m256 vfloat;

INLINE vint load_int(const int32_t *from) { return _mm256_loadu_si256((const void *)from); }
INLINE void store_int(int32_t *to, vint x) { _mm256_storeu_si256((void *)to, x); }
INLINE vweights load_weights(const char *from) { return _mm256_loadu_si256((const void *)from); }
INLINE vlevels broadcast_levels(const char *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm256_set1_epi32(four);
}
/* |level| × (weight with the level's sign): two such products are at most 2 · 127 · 127 < 2¹⁵. */
INLINE vint dot(vint sum, vlevels levels, vweights weights) {
    vint pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(weights, levels));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE vfloat load_float(const float *from) { return _mm256_loadu_ps(from); }
INLINE void store_float(float *to, vfloat x) { _mm256_storeu_ps(to, x); }
INLINE vfloat broadcast(float x) { return _mm256_set1_ps(x); }
INLINE vfloat zero(void) { return _mm256_setzero_ps(); }
INLINE vfloat to_float(vint x) { return _mm256_cvtepi32_ps(x); }
INLINE vfloat multiply(vfloat a, vfloat b) { return _mm256_mul_ps(a, b); }
INLINE vfloat add(vfloat a, vfloat b) { return _mm256_add_ps(a, b); }
INLINE vfloat larger(vfloat a, vfloat b) { return _mm256_max_ps(a, b); }
INLINE vfloat multiply_add(vfloat a, vfloat b, vfloat c) { return _mm256_fmadd_ps(a, b, c); }

#include "step.h"
#include "sample.h"
#include "attention.h"
#include "entry.h"
END_TARGET

#endif
