/* Which of the compiled kernels this processor, and the system that saves its registers, can run. */

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

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
#else
int supported_avx2(void) { return 0; }
int supported_avx512(void) { return 0; }
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
int supported_neon(void) { return (getauxval(AT_HWCAP) & 1UL << 20 /* ASIMDDP */) != 0; }
#elif defined(__aarch64__) && defined(__APPLE__)
int supported_neon(void) { return 1; }
#else
int supported_neon(void) { return 0; }
#endif
