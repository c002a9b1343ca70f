/* What happens to single numbers, in exactly the operations and the order of arithmetic.py and sampling.py.
   Included once for each processor; the compiler must not fuse × and + (-ffp-contract=off). */

#define INLINE static inline __attribute__((always_inline))

INLINE float hyperbolic_tangent(float x) {
    const float most = 7.90531110763549805f;
    x = x < -most ? -most : x;
    x = x > most ? most : x;
    float s = x * x;
    float p = -2.76076847742355e-16f;
    p = p * s + 2.00018790482477e-13f;
    p = p * s + -8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    float q = 1.19825839466702e-06f;
    q = q * s + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return x * p / q;
}

INLINE float sigmoid(float x) {
    return 0.5f * hyperbolic_tangent(0.5f * x) + 0.5f;
}

/* The nearest whole number, ties to even, for |x| < 2²²: the sum has no room for a fraction. */
INLINE float nearest(float x) {
    const float shift = 12582912.0f; /* 1.5 · 2²³ */
    return (x + shift) - shift;
}

INLINE float exponential(float x) {
    const float least = -87.0f;
    float kept = x < least ? least : x;
    float n = nearest(kept * 1.44269504088896341f);
    float r = kept - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return x < least ? 0.0f : p * power;
}

/* ln of a positive normal number. */
INLINE float logarithm(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    int32_t n = (bits >> 23) - 126, part = (bits & 0x7FFFFF) | 0x3F000000;
    float m;
    memcpy(&m, &part, 4);
    int low = m < 0.70710678118654752f;
    float power = (float)(n - low), r = (low ? m + m : m) - 1.0f, s = r * r;
    float p = 7.0376836292e-2f;
    p = p * r + -1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r + -1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r + -1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r + -2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    float y = p * r * s + power * -2.12194440e-4f - 0.5f * s;
    return r + y + power * 0.693359375f;
}

INLINE uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

INLINE double uniform(uint64_t source, int64_t position) {
    return (double)(mix(source ^ (uint64_t)position) >> 11) * 0x1p-53;
}
