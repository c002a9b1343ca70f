/* The kernel for 64-bit Arm processors with dot products of 8-bit numbers: Armv8.2 and later, Apple's included. */

#if defined(__aarch64__)
#include "target.h"
#if defined(__clang__) && __clang_major__ < 16 && !defined(__ARM_FEATURE_DOTPROD)
#define __ARM_FEATURE_DOTPROD 1 /* up to clang 15 arm_neon.h has dot products only where all of a file has them */
BEGIN_TARGET("dotprod")
#include <arm_neon.h>
END_TARGET
#else
#include <arm_neon.h>
#endif

#include "kernel.h"
#if defined(__clang__)
BEGIN_TARGET("dotprod")
#else
#undef __ARM_ARCH /* the target defines it anew */
BEGIN_TARGET("arch=armv8.2-a+dotprod") /* up to GCC 12 arm_neon.h has dot products for this architecture, no less */
#endif
#include "elements.h"
#include "cells.h"

#define PROCESSOR neon
#define LANES 4
#define VECTORS 8
#define MOST_ROWS 2
#define LEVEL_OFFSET 0
#define SIGNED_OFFSET 0
#define dot_signed dot

typedef int32x4_t vint;
typedef int8x16_t vlevels;
typedef float32x4_t vfloat;
typedef int8x16_t vweights;

INLINE vint load_int(const int32_t *from) { return vld1q_s32(from); }
INLINE void store_int(int32_t *to, vint x) { vst1q_s32(to, x); }
INLINE vweights load_weights(const char *from) { return vld1q_s8((const int8_t *)from); }
INLINE vlevels broadcast_levels(const char *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
INLINE vint dot(vint sum, vlevels levels, vweights weights) { return vdotq_s32(sum, levels, weights); }
INLINE vfloat load_float(const float *from) { return vld1q_f32(from); }
INLINE void store_float(float *to, vfloat x) { vst1q_f32(to, x); }
INLINE vfloat broadcast(float x) { return vdupq_n_f32(x); }
INLINE vfloat zero(void) { return vdupq_n_f32(0); }
INLINE vfloat to_float(vint x) { return vcvtq_f32_s32(x); }
INLINE vfloat multiply(vfloat a, vfloat b) { return vmulq_f32(a, b); }
INLINE vfloat add(vfloat a, vfloat b) { return vaddq_f32(a, b); }
INLINE vfloat larger(vfloat a, vfloat b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE vfloat multiply_add(vfloat a, vfloat b, vfloat c) { return vfmaq_f32(c, a, b); }

#include "step.h"
#include "sample.h"
#include "attention.h"
#include "entry.h"
END_TARGET

#endif
