/* The kernel for x86 processors with AVX-512 VNNI: 64 products of 8-bit numbers added up in one instruction. */

#if defined(__x86_64__)
#include <immintrin.h>

#include "kernel.h"
#include "target.h"
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")
#include "elements.h"
#include "cells.h"

#define PROCESSOR avx512
#include "vectors512.h"

#include "step.h"
#include "sample.h"
#include "attention.h"
#include "entry.h"
END_TARGET

#endif
