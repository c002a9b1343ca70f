/* The kernel for x86 processors with AMX: as for AVX-512 VNNI, but several rows are multiplied in tiles. */

#include "target.h"

#if defined(__x86_64__) && defined(HAS_TILES)
#include <immintrin.h>

#include "kernel.h"
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,amx-tile,amx-int8")
#define PROCESSOR amx
#define LEAST_TILE_ROWS 7 /* fewer wait for their weights, and are faster by vectors */
#include "elements.h"
#include "cells.h"
#include "vectors512.h"

#include "step.h"
#include "sample.h"
#include "attention.h"
#include "entry.h"
END_TARGET

#endif
