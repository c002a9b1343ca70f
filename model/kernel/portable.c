/* The kernel in plain C, for every other processor; the compiler finds what vectors there are. */

#include "kernel.h"
#include "elements.h"

#define PROCESSOR portable
#define LANES 16
#define VECTORS 1
#define MOST_ROWS 2
#define LEVEL_OFFSET 0

typedef struct { int32_t lane[LANES]; } vint;
typedef struct { int8_t lane[4]; } vlevels;
typedef struct { float lane[LANES]; } vfloat;
typedef struct { int8_t lane[LANES][4]; } vweights;

INLINE vint load_int(const int32_t *from) {
    vint x;
    memcpy(&x, from, sizeof x);
    return x;
}
INLINE void store_int(int32_t *to, vint x) { memcpy(to, &x, sizeof x); }
INLINE vweights load_weights(const char *from) {
    vweights x;
    memcpy(&x, from, sizeof x);
    return x;
}
INLINE vlevels broadcast_levels(const char *from) {
    vlevels x;
    memcpy(&x, from, sizeof x);
    return x;
}
INLINE vint dot(vint sum, vlevels levels, vweights w) {
    for (int n = 0; n < LANES; n++)
        sum.lane[n] += levels.lane[0] * w.lane[n][0] + levels.lane[1] * w.lane[n][1] +
                       levels.lane[2] * w.lane[n][2] + levels.lane[3] * w.lane[n][3];
    return sum;
}
INLINE vfloat load_float(const float *from) {
    vfloat x;
    memcpy(&x, from, sizeof x);
    return x;
}
INLINE void store_float(float *to, vfloat x) { memcpy(to, &x, sizeof x); }
#define EACH(expression)                                     \
    vfloat y;                                                \
    for (int n = 0; n < LANES; n++) y.lane[n] = expression;  \
    return y
INLINE vfloat broadcast(float x) { EACH(x); }
INLINE vfloat zero(void) { EACH(0.0f); }
INLINE vfloat to_float(vint x) { EACH((float)x.lane[n]); }
INLINE vfloat multiply(vfloat a, vfloat b) { EACH(a.lane[n] * b.lane[n]); }
INLINE vfloat add(vfloat a, vfloat b) { EACH(a.lane[n] + b.lane[n]); }
INLINE vfloat multiply_add(vfloat a, vfloat b, vfloat c) { EACH(a.lane[n] * b.lane[n] + c.lane[n]); }

#include "step.h"
#include "sample.h"
#include "entry.h"
