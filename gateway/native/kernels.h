/* The loops of kernels.c in terms of PATH, TARGET, LANES and so on: included once for each kind of processor.

   LANES floats fill a register. A tile of a product is up to MAX_ROWS rows by COLUMNS registers: its sums stay in
   registers while the weights, a byte each, are read once. FROM_BYTES and its like read LANES integers as floats. */

#define PASTE_(name, path) name##_##path
#define PASTE(name, path) PASTE_(name, path)
#define FN(name) PASTE(name, PATH)
#define WITHIN static inline __attribute__((always_inline)) TARGET

typedef float FN(floats) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t FN(ints) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define FLOATS FN(floats)
#define LOAD(pointer) (*(const FLOATS *)(pointer))
#define STORE(pointer) (*(FLOATS *)(pointer))

WITHIN FLOATS FN(from_bytes)(const int8_t *values) { return (FLOATS)FROM_BYTES(values); }
WITHIN FLOATS FN(from_unsigned)(const uint8_t *values) { return (FLOATS)FROM_UNSIGNED(values); }
WITHIN FLOATS FN(from_shorts)(const int16_t *values) { return (FLOATS)FROM_SHORTS(values); }

WITHIN float FN(total)(FLOATS sums) {
    float lanes[LANES];
    STORE(lanes) = sums;
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

/* ---- products with matrices of bytes ---- */

/* `split` sums for each output where there are few rows: else each step would wait for the one before. */
WITHIN void FN(tile)(const float *const *inputs, float *const *outputs, const int8_t *weights, const matrix *by,
                     int column, int accumulate, const int rows, const int split) {
    FLOATS sums[MAX_ROWS * 4][COLUMNS];
    _Pragma("GCC unroll 64") for (int row = 0; row < rows * split; row++)
        _Pragma("GCC unroll 8") for (int part = 0; part < COLUMNS; part++) sums[row][part] = (FLOATS){0};
    for (int at = 0; at < by->depth; at += split) {
        _Pragma("GCC unroll 4") for (int step = 0; step < split; step++) {
            FLOATS factors[COLUMNS];
            _Pragma("GCC unroll 8") for (int part = 0; part < COLUMNS; part++)
                factors[part] = FN(from_bytes)(weights + (size_t)(at + step) * PANEL + part * LANES);
            _Pragma("GCC unroll 16") for (int row = 0; row < rows; row++) {
                float input = inputs[row][at + step];
                _Pragma("GCC unroll 8") for (int part = 0; part < COLUMNS; part++)
                    sums[row * split + step][part] += factors[part] * input;
            }
        }
    }
    _Pragma("GCC unroll 16") for (int row = 0; row < rows; row++)
        _Pragma("GCC unroll 8") for (int part = 0; part < COLUMNS; part++) {
            FLOATS sum = sums[row * split][part];
            _Pragma("GCC unroll 4") for (int step = 1; step < split; step++) sum += sums[row * split + step][part];
            float *output = outputs[row] + column + part * LANES;
            sum *= by->scale;
            if (accumulate) sum += LOAD(output);
            STORE(output) = sum;
        }
}

/* outputs = inputs · weights, or outputs += inputs · weights; `count` rows. */
static TARGET void FN(multiply)(const float *const *inputs, float *const *outputs, int count, const matrix *by,
                                int accumulate) {
    int groups = (count + MAX_ROWS - 1) / MAX_ROWS;
    for (int column = 0; column < by->width; column += COLUMNS * LANES) {
        const int8_t *weights = by->weights + (size_t)(column / PANEL) * PANEL * by->depth + column % PANEL;
        for (int group = 0; group < groups; group++) {
            int begin = count * group / groups, rows = count * (group + 1) / groups - begin;
            const float *const *in = inputs + begin;
            float *const *out = outputs + begin;
            switch (rows) {
#define TILE(number, split) \
    case number: FN(tile)(in, out, weights, by, column, accumulate, number, split); break;
                TILE(1, 4) TILE(2, 2) TILE(3, 1) TILE(4, 1)
#if MAX_ROWS > 4
                TILE(5, 1) TILE(6, 1)
#endif
#if MAX_ROWS > 6
                TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1) TILE(11, 1) TILE(12, 1)
#endif
#undef TILE
            }
        }
    }
}

/* ---- rows of tokens ---- */

static TARGET void FN(embed)(const encoder *model, int32_t token, float *output) {
    const uint8_t *row = model->table + (size_t)token * EMBEDDING;
    float step = model->steps[token % model->chunks], low = model->lows[token % model->chunks];
    for (int at = 0; at < EMBEDDING; at += LANES) STORE(output + at) = FN(from_unsigned)(row + at) * step + low;
}

/* values = (values - mean) / deviation; the deviation's inverse is returned. */
WITHIN float FN(normalise)(float *values, int count, float eps) {
    FLOATS sums = {0}, squares = {0};
    for (int at = 0; at < count; at += LANES) sums += LOAD(values + at);
    float mean = FN(total)(sums) / count;
    for (int at = 0; at < count; at += LANES) {
        FLOATS value = LOAD(values + at) - mean;
        squares += value * value;
        STORE(values + at) = value;
    }
    return 1 / sqrtf(FN(total)(squares) / count + eps);
}

/* A token's row is kept in 16 bits a number, with a step for each STEP of them. */
static TARGET void FN(pack)(const float *values, int16_t *row, float *steps, int count) {
    for (int begin = 0; begin < count; begin += STEP) {
        float largest = 0;
        for (int at = begin; at < begin + STEP; at++) largest = fabsf(values[at]) > largest ? fabsf(values[at]) : largest;
        float factor = largest > 0 ? 32767 / largest : 0;
        steps[begin / STEP] = largest / 32767;
        for (int at = begin; at < begin + STEP; at++) {
            float value = values[at] * factor;
            row[at] = (int16_t)(value + (value < 0 ? -0.5f : 0.5f));
        }
    }
}

/* Compute the rows of tokens that have a slot but no row yet. */
static TARGET void FN(fill)(encoder *model, const int32_t *slots, int count) {
    float *embedded = model->scratch, *projected = embedded + MISSES * EMBEDDING;
    float *contributions = projected + MISSES * BRANCHES * BRANCH;
    const float *inputs[MISSES];
    float *outputs[MISSES];
    for (int index = 0; index < count; index++)
        FN(embed)(model, model->token_of_slot[slots[index]], embedded + index * EMBEDDING);
    for (int branch = 0; branch < BRANCHES; branch++) {
        for (int index = 0; index < count; index++) {
            inputs[index] = embedded + index * EMBEDDING;
            outputs[index] = projected + (index * BRANCHES + branch) * BRANCH;
        }
        FN(multiply)(inputs, outputs, count, &model->project[branch], 0);
    }
    for (int index = 0; index < count; index++) {
        float *row = projected + index * BRANCHES * BRANCH;
        for (int at = 0; at < BRANCHES * BRANCH; at++) row[at] += model->project_bias[at];
        float factor = FN(normalise)(row, BRANCHES * BRANCH, model->eps);
        for (int at = 0; at < BRANCHES * BRANCH; at++)
            row[at] = row[at] * factor * model->project_gain[at] + model->project_shift[at];
    }
    for (int branch = 0, column = 0; branch < BRANCHES; column += SIZES[branch++]) {
        for (int index = 0; index < count; index++) {
            inputs[index] = projected + (index * BRANCHES + branch) * BRANCH;
            outputs[index] = contributions + (index * POSITIONS + column) * BRANCH;
        }
        FN(multiply)(inputs, outputs, count, &model->positions[branch], 0);
    }
    for (int index = 0; index < count; index++) {
        int16_t *row = model->rows + (size_t)slots[index] * NUMBERS;
        float *steps = model->row_steps + (size_t)slots[index] * (NUMBERS / STEP);
        FN(pack)(projected + index * BRANCHES * BRANCH, row, steps, BRANCHES * BRANCH);
        row += BRANCHES * BRANCH;
        steps += BRANCHES * BRANCH / STEP;
        FN(pack)(contributions + index * POSITIONS * BRANCH, row, steps, POSITIONS * BRANCH);
    }
}

/* ---- the network ---- */

/* The first convolution of one token, of the rows of the tokens round it: `slots[0]` is its own. */
static TARGET void FN(convolve)(const encoder *model, const int32_t *slots, int left, int right, float *output) {
    for (int branch = 0, column = BRANCHES; branch < BRANCHES; column += SIZES[branch++]) {
        const int16_t *rows[5], *own = model->rows + (size_t)slots[0] * NUMBERS + branch * BRANCH;
        const float *steps[5], *own_steps = model->row_steps + ((size_t)slots[0] * NUMBERS + branch * BRANCH) / STEP;
        int count = 0;
        for (int position = 0; position < SIZES[branch]; position++) {
            int shift = position - BEFORE[branch];
            if (shift < -left || shift > right) continue;
            size_t number = (size_t)slots[shift] * NUMBERS + (column + position) * BRANCH;
            rows[count] = model->rows + number;
            steps[count++] = model->row_steps + number / STEP;
        }
        float *branch_output = output + (size_t)branch * ROWS * BRANCH;
        for (int at = 0; at < BRANCH; at += LANES) {
            FLOATS sum = LOAD(model->first_bias + branch * BRANCH + at), zero = {0};
            for (int index = 0; index < count; index++)
                sum += FN(from_shorts)(rows[index] + at) * steps[index][at / STEP];
            sum = (FLOATS)((FN(ints))sum & (sum > zero));
            STORE(branch_output + at) = sum + FN(from_shorts)(own + at) * own_steps[at / STEP];
        }
    }
}

/* The second convolution of the layout's rows, and their sum for each text. */
static TARGET void FN(sum_rows)(encoder *model, const layout *rows, float *sums) {
    float *first = model->scratch, *second = first + BRANCHES * ROWS * BRANCH;
    const float *inputs[ROWS];
    float *outputs[ROWS];
    for (int branch = 0; branch < BRANCHES; branch++) {
        for (int index = 0; index < rows->count; index++) {
            inputs[index] = first + ((size_t)branch * ROWS + rows->row[index] - BEFORE[branch]) * BRANCH;
            outputs[index] = second + (size_t)index * BRANCHES * BRANCH + branch * BRANCH;
        }
        FN(multiply)(inputs, outputs, rows->count, &model->second[branch], 0);
    }
    for (int index = 0; index < rows->count; index++) {
        float feature[FEATURES];
        FN(embed)(model, rows->token[index], feature);
        for (int branch = 0; branch < BRANCHES; branch++) {
            const float *input = first + ((size_t)branch * ROWS + rows->row[index]) * BRANCH;
            const float *product = second + (size_t)index * BRANCHES * BRANCH + branch * BRANCH;
            const float *bias = model->second_bias + branch * BRANCH;
            float *output = feature + EMBEDDING + branch * BRANCH;
            for (int at = 0; at < BRANCH; at++) {
                float value = product[at] + bias[at];
                output[at] = (value > 0 ? value : 0) + input[at];
            }
        }
        float factor = FN(normalise)(feature, FEATURES, model->eps), *sum = sums + (size_t)rows->text[index] * FEATURES;
        for (int at = 0; at < FEATURES; at++) sum[at] += feature[at] * factor;
    }
}

WITHIN void FN(cut)(float *const *rows, int count, int width) {
    for (int row = 0; row < count; row++)
        for (int at = 0; at < width; at++) rows[row][at] = rows[row][at] > 0 ? rows[row][at] : 0;
}

/* The layers above the sums, for up to TEXTS texts; `vectors` get length 1. */
static TARGET void FN(finish)(encoder *model, float *sums, const int32_t *lengths, int count, float *vectors) {
    float *scratch = model->scratch;
    float *features[TEXTS] = {0}, *pooled[TEXTS] = {0}, *zeroth[TEXTS] = {0};
    float *first[TEXTS] = {0}, *second[TEXTS] = {0}, *output[TEXTS] = {0};
    for (int text = 0; text < count; text++) {
        features[text] = sums + (size_t)text * FEATURES;
        pooled[text] = scratch + (size_t)text * (2 * WIDE + 2 * NARROW);
        second[text] = pooled[text] + WIDE;
        zeroth[text] = second[text] + WIDE;
        first[text] = zeroth[text] + NARROW;
        output[text] = vectors + (size_t)text * WIDE;
        for (int at = 0; at < FEATURES; at++)
            features[text][at] = features[text][at] * model->gain[at] + lengths[text] * model->shift[at];
    }
#define IN(rows) ((const float *const *)(rows))
    FN(multiply)(IN(features), pooled, count, &model->pool, 0);
    for (int text = 0; text < count; text++) {
        float factor = 1 / sqrtf((float)lengths[text]);
        for (int at = 0; at < WIDE; at++)
            pooled[text][at] = (pooled[text][at] + lengths[text] * model->pool_bias[at]) * factor;
    }
    FN(multiply)(IN(pooled), zeroth, count, &model->dense[0], 0);
    FN(cut)(zeroth, count, NARROW);
    FN(multiply)(IN(pooled), first, count, &model->dense[1], 0);
    FN(multiply)(IN(zeroth), first, count, &model->dense[2], 1);
    FN(cut)(first, count, NARROW);
    FN(multiply)(IN(first), second, count, &model->dense[3], 0);
    FN(cut)(second, count, WIDE);
    FN(multiply)(IN(first), output, count, &model->dense[4], 0);
    FN(multiply)(IN(second), output, count, &model->dense[5], 1);
#undef IN
    for (int text = 0; text < count; text++) {
        float squares = 0;
        for (int at = 0; at < WIDE; at++) {
            output[text][at] = tanhf(output[text][at]);
            squares += output[text][at] * output[text][at];
        }
        float factor = 1 / sqrtf(fmaxf(squares, model->eps));
        for (int at = 0; at < WIDE; at++) output[text][at] *= factor;
    }
}

/* ---- cosines ---- */

/* Products of `count` (1 to 4) rows of bytes with a vector of floats; `next` are rows that follow later. */
WITHIN void FN(dot_few)(const float *vector, const int8_t *const *rows, const int8_t *const *next, int dimensions,
                        float *products, const int count) {
    FLOATS sums[4];
    _Pragma("GCC unroll 4") for (int row = 0; row < count; row++) sums[row] = (FLOATS){0};
    int at = 0;
    for (; at + LANES <= dimensions; at += LANES) {
        FLOATS factor = LOAD(vector + at);
        if (at % 64 == 0)
            for (int row = 0; row < count; row++) __builtin_prefetch(next[row] + at);
        _Pragma("GCC unroll 4") for (int row = 0; row < count; row++)
            sums[row] += FN(from_bytes)(rows[row] + at) * factor;
    }
    _Pragma("GCC unroll 4") for (int row = 0; row < count; row++) {
        products[row] = FN(total)(sums[row]);
        for (int rest = at; rest < dimensions; rest++) products[row] += rows[row][rest] * vector[rest];
    }
}

/* Products of the chosen rows, or of the first `count` where `chosen` is NULL. */
static TARGET void FN(dot)(const float *vector, const bytes_matrix *matrix, const int32_t *chosen, int64_t count,
                           float *products) {
    const int dimensions = matrix->dimensions;
    for (int64_t begin = 0; begin < count; begin += 4) {
        const int8_t *rows[4], *next[4];
        int few = count - begin < 4 ? (int)(count - begin) : 4;
        for (int row = 0; row < 4; row++) {
            int64_t index = begin + (row < few ? row : 0), later = index + AHEAD < count ? index + AHEAD : index;
            rows[row] = matrix->rows + (chosen ? chosen[index] : index) * dimensions;
            next[row] = matrix->rows + (chosen ? chosen[later] : later) * dimensions;
        }
        float four[4];
        FN(dot_few)(vector, rows, next, dimensions, four, 4);
        for (int row = 0; row < few; row++)
            products[begin + row] = four[row] * matrix->scales[chosen ? chosen[begin + row] : begin + row];
    }
}

static const functions FN(functions) = {FN(fill), FN(convolve), FN(sum_rows), FN(finish), FN(dot)};

#undef PASTE_
#undef PASTE
#undef FN
#undef WITHIN
#undef FLOATS
#undef LOAD
#undef STORE
#undef FROM_BYTES
#undef FROM_UNSIGNED
#undef FROM_SHORTS
#undef PATH
#undef TARGET
#undef LANES
#undef COLUMNS
#undef MAX_ROWS
