/* Blocks of a product in whole numbers on AMX: tiles of 16 rows by 64 bytes, 16,384 products in one instruction.
   Sums of whole numbers are the same in any order, so the bytes are those of every other processor. */

#define TILE_ROWS 16
#define TILE_BYTES 64
#define TILE_GROUPS (TILE_BYTES / 4)

/* Which tile is which, beside four of sums: levels and weights of 16 groups, then those of the groups that are left.
   Instructions name them by a number that is part of their text. */
#define SUMS 4
#define LEVELS 4
#define WEIGHTS 5
#define LEFT_LEVELS 6
#define LEFT_WEIGHTS 7

/* Shape the tiles for a block of rows whose K leaves `left` groups beside whole tiles. */
INLINE void shape_tiles(int rows, int left) {
    tile_shapes shapes = {.palette = 1};
    for (int tile = 0; tile < SUMS; tile++) shapes.row_bytes[tile] = TILE_BYTES, shapes.rows[tile] = (uint8_t)rows;
    shapes.row_bytes[LEVELS] = shapes.row_bytes[WEIGHTS] = shapes.row_bytes[LEFT_WEIGHTS] = TILE_BYTES;
    shapes.rows[LEVELS] = shapes.rows[LEFT_LEVELS] = (uint8_t)rows;
    shapes.rows[WEIGHTS] = TILE_GROUPS;
    shapes.row_bytes[LEFT_LEVELS] = (uint16_t)(left ? left * 4 : 4);
    shapes.rows[LEFT_WEIGHTS] = (uint8_t)(left ? left : 1);
    IN_MEMORY;
    _tile_loadconfig(&shapes);
}

/* Each of up to four tiles of sums. */
#define EACH_SUM(vectors, DO)     \
    do {                          \
        DO(0);                    \
        if (vectors > 1) { DO(1); } \
        if (vectors > 2) { DO(2); } \
        if (vectors > 3) { DO(3); } \
    } while (0)

/* Sums of up to 16 rows by a panel of `vectors` · 16 columns, the tiles shaped for as many rows. */
INLINE void block_tiles(const int vectors, const stretch *x, int rows, int row, const char *weights,
                        int64_t group_bytes, const product *w, int column, float *sums, int64_t width, part half) {
    float *to = sums + row * width + column;
    IN_MEMORY;
#define BEGIN(v)                                                                       \
    if (half == SECOND_HALF) _tile_loadd(v, to + (v) * LANES, width * sizeof(float));  \
    else _tile_loadd(v, w->start + column + (v) * LANES, 0)
    EACH_SUM(vectors, BEGIN);
#undef BEGIN
    for (int s = 0; s < 2; s++) {
        const char *levels = x[s].x + row * x[s].stride;
        int groups = x[s].groups;
        for (; groups >= TILE_GROUPS; groups -= TILE_GROUPS) {
            _tile_loadd(LEVELS, levels, x[s].stride);
#define SUM(v)                                                           \
    _tile_loadd(WEIGHTS, weights + (v) * LANES * 4, group_bytes);        \
    _tile_dpbusd(v, LEVELS, WEIGHTS)
            EACH_SUM(vectors, SUM);
#undef SUM
            levels += TILE_BYTES;
            weights += TILE_GROUPS * group_bytes;
        }
        if (groups) {
            _tile_loadd(LEFT_LEVELS, levels, x[s].stride);
#define SUM(v)                                                           \
    _tile_loadd(LEFT_WEIGHTS, weights + (v) * LANES * 4, group_bytes);   \
    _tile_dpbusd(v, LEFT_LEVELS, LEFT_WEIGHTS)
            EACH_SUM(vectors, SUM);
#undef SUM
            weights += groups * group_bytes;
        }
    }
#define END(v) _tile_stored(v, to + (v) * LANES, width * sizeof(float))
    EACH_SUM(vectors, END);
#undef END
    IN_MEMORY;
    if (half == FIRST_HALF) return;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            float *at = to + r * width + v * LANES;
            vfloat value = multiply(to_float(load_int((const int32_t *)at)), load_float(w->scale + column + v * LANES));
            store_float(at, w->bias ? add(value, load_float(w->bias + column + v * LANES)) : value);
        }
}

/* As `multiply_rows`, in whole numbers: rows in blocks of like size, so that none has nearly nothing to do. */
static void multiply_tiles(const stretch x[2], int rows, const product *w, float *sums, int64_t width, part half) {
    int first = half == SECOND_HALF ? w->groups - x[0].groups - x[1].groups : 0;
    int left = (x[0].groups ? x[0].groups : x[1].groups) % TILE_GROUPS; /* two stretches are of the same width */
    int shaped = 0;
    for (int panel = 0; panel < w->outputs; panel += PANEL) {
        int columns = w->outputs - panel < PANEL ? w->outputs - panel : PANEL;
        const char *weights = (const char *)w->weights + panel * (int64_t)w->groups * 4 + first * columns * (int64_t)4;
        int blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
        for (int row = 0, some; row < rows; row += some, blocks--) {
            some = (rows - row + blocks - 1) / blocks;
            if (some != shaped) shape_tiles(some, left);
            shaped = some;
#define BLOCK_OF_TILES(V) block_tiles(V, x, some, row, weights, columns * 4, w, panel, sums, width, half)
            switch (columns / LANES) {
            case 1: BLOCK_OF_TILES(1); break;
            case 2: BLOCK_OF_TILES(2); break;
            case 3: BLOCK_OF_TILES(3); break;
            case 4: BLOCK_OF_TILES(4); break;
            }
#undef BLOCK_OF_TILES
        }
    }
    _tile_release(); /* or the system would save them whenever the thread is moved */
}
