/* Compile what is between BEGIN_TARGET and END_TARGET for a processor with more instructions than the flags name. */

#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define BEGIN_TARGET(features) PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define BEGIN_TARGET(features) _Pragma("GCC push_options") PRAGMA(GCC target(features))
#define END_TARGET _Pragma("GCC pop_options")
#endif

/* Whether the compiler knows AMX's tiles. */
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define HAS_TILES

#include <stdint.h>

/* The compiler does not know that tiles read and write memory. */
#define IN_MEMORY __asm__ volatile("" ::: "memory")

/* What an instruction reads the shapes of the eight tiles from. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;
#endif
