/* The first layer's input as a table; once for all processors, since any of them is quick enough at it. */

#include <stdint.h>

#define TILE 64

/* weights.py's input_table: rows of `x` (V, E) times `weight` (E, N) plus bias (N,), N a multiple of 64, each sum in
   double precision from the first product to the last. */
void input_table(int64_t rows, int64_t embedding, int64_t outputs, const float *x, const double *weight,
                 const double *bias, float *table) {
    for (int64_t n = 0; n < outputs; n += TILE)
        for (int64_t v = 0; v < rows; v++) {
            double sum[TILE];
            for (int j = 0; j < TILE; j++) sum[j] = bias[n + j];
            for (int64_t k = 0; k < embedding; k++)
                for (int j = 0; j < TILE; j++) sum[j] += (double)x[v * embedding + k] * weight[k * outputs + n + j];
            for (int j = 0; j < TILE; j++) table[v * outputs + n + j] = (float)sum[j];
        }
}
