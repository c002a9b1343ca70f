/* What tiles.c has for lstm.c. */

#include <stdint.h>

typedef uint16_t bf16;

/* Whether this processor has tiles of bf16, and the system lets this process use them; to be asked before they are. */
int supported_tiles(void);

/* sums (rows, width) += factors (rows, depth) · packed weights. */
void multiply_tiles(int64_t rows, int64_t width, int64_t depth, const bf16 *factors, const bf16 *weights, float *sums);
