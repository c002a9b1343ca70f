/* Which of the compiled kernels this processor, and the system that saves its registers, can run. */

#define _DEFAULT_SOURCE /* of which `syscall` is */
#include "target.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Asked of the processor itself: what compilers offer for this needs a run-time library that not all of them link. */
static int has(int leaf, int register_of_four, uint32_t bits) {
    uint32_t found[4] = {0, 0, 0, 0};
    __get_cpuid_count(leaf, 0, &found[0], &found[1], &found[2], &found[3]);
    return (found[register_of_four] & bits) == bits;
}

static int saves(uint32_t registers) {
    uint32_t low, high;
    if (!has(1, 2, 1u << 27)) return 0; /* OSXSAVE: the next instruction exists */
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}

int supported_avx2(void) {
    return saves(0x06) && has(1, 2, 1u << 12 /* FMA */) && has(7, 1, 1u << 5 /* AVX2 */);
}

int supported_avx512(void) {
    const uint32_t f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return supported_avx2() && saves(0xE6) && has(7, 1, f_dq_bw_vl) && has(7, 2, 1u << 11 /* VNNI */);
}

/* Linux keeps room for tiles only for processes that ask. */
int supported_amx(void) {
#if defined(HAS_TILES) && defined(__linux__)
    const int ask = 0x1023 /* ARCH_REQ_XCOMP_PERM */, tiles = 18;
    return supported_avx512() && saves(0x60000) && has(7, 3, 1u << 24 | 1u << 25 /* AMX-TILE, AMX-INT8 */) &&
           syscall(SYS_arch_prctl, ask, tiles) == 0;
#else
    return 0;
#endif
}
#else
int supported_avx2(void) { return 0; }
int supported_avx512(void) { return 0; }
int supported_amx(void) { return 0; }
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
int supported_neon(void) { return (getauxval(AT_HWCAP) & 1UL << 20 /* ASIMDDP */) != 0; }
#elif defined(__aarch64__) && defined(__APPLE__)
int supported_neon(void) { return 1; }
#else
int supported_neon(void) { return 0; }
#endif
