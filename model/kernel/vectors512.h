/* Vectors of 512 bits: 64 products of 8-bit numbers added up in one instruction. Included for each processor that has them. */

#define LANES 16
#define VECTORS 4
#define MOST_ROWS 6
#define LEVEL_OFFSET 128 /* the instruction takes one factor unsigned */
#define SIGNED_OFFSET 128

typedef __m512i vint;
typedef __m512i vlevels, vweights;
typedef __m512 vfloat;

INLINE vint load_int(const int32_t *from) { return _mm512_loadu_si512(from); }
INLINE void store_int(int32_t *to, vint x) { _mm512_storeu_si512(to, x); }
INLINE vweights load_weights(const char *from) { return _mm512_loadu_si512(from); }
INLINE vlevels broadcast_levels(const char *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm512_set1_epi32(four);
}
INLINE vint dot(vint sum, vlevels levels, vweights weights) { return _mm512_dpbusd_epi32(sum, levels, weights); }
/* Keys and queries have signs, and the instruction takes one factor unsigned: keys are moved up by SIGNED_OFFSET. */
INLINE vint dot_signed(vint sum, vlevels query, vweights keys) {
    return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(keys, _mm512_set1_epi8((char)0x80)), query);
}
INLINE vfloat load_float(const float *from) { return _mm512_loadu_ps(from); }
INLINE void store_float(float *to, vfloat x) { _mm512_storeu_ps(to, x); }
INLINE vfloat broadcast(float x) { return _mm512_set1_ps(x); }
INLINE vfloat zero(void) { return _mm512_setzero_ps(); }
INLINE vfloat to_float(vint x) { return _mm512_cvtepi32_ps(x); }
INLINE vfloat multiply(vfloat a, vfloat b) { return _mm512_mul_ps(a, b); }
INLINE vfloat add(vfloat a, vfloat b) { return _mm512_add_ps(a, b); }
INLINE vfloat larger(vfloat a, vfloat b) { return _mm512_max_ps(a, b); }
INLINE vfloat multiply_add(vfloat a, vfloat b, vfloat c) { return _mm512_fmadd_ps(a, b, c); }
