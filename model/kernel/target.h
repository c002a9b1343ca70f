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
#endif
