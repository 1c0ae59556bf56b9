/* Token ids of a text: SentencePiece's normalisation and its most probable segmentation into pieces.

   The ids are those of the embedder's own tokenizer in Python, from the same tables and in the same arithmetic. It
   differs from SentencePiece's library in one way: each unknown character is a token of its own. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { UNKNOWN = 0, BEGIN = 1, END = 2, SPACE = 0x2581 };

typedef struct {
    /* a tree of the pieces' beginnings: a node's character, its first child (its children lie together, by character),
       and its piece or -1 */
    const uint32_t *codes;
    const int32_t *children, *pieces;
    const float *scores;
    /* the double array of what is replaced, and the replacements, each with a zero at its end */
    const uint32_t *units;
    const uint8_t *replacements;
    int32_t nodes, piece_count, unit_count, replacement_size;
    double unknown_score;
} tokenizer;

typedef struct {
    uint32_t *codes;
    size_t count, room;
} characters;

typedef struct {
    const uint8_t *bytes;
    size_t size;
} span;

/* The length of a character in UTF-8; 1 for what is none. */
static size_t character_size(const uint8_t *bytes, size_t rest) {
    size_t size = bytes[0] < 0x80 ? 1 : bytes[0] >> 5 == 0x6 ? 2 : bytes[0] >> 4 == 0xE ? 3 : bytes[0] >> 3 == 0x1E ? 4 : 1;
    for (size_t at = 1; at < size; at++)
        if (at >= rest || (bytes[at] & 0xC0) != 0x80) return 1;
    return size;
}

/* What the longest match at the beginning of a text is replaced with; `*used` gets the match's length. */
static span replace(const tokenizer *model, const uint8_t *text, size_t size, size_t *used) {
    uint32_t value = 0, unit = model->unit_count ? model->units[0] : 0;
    uint32_t node = (unit >> 10) << ((unit & 0x200) >> 6);
    size_t best = 0;
    for (size_t at = 0; at < size; at++) {
        node ^= text[at];
        if (node >= (uint32_t)model->unit_count) break;
        unit = model->units[node];
        if ((unit & 0x800000FF) != text[at]) break;
        node ^= (unit >> 10) << ((unit & 0x200) >> 6);
        if (unit & 0x100 && node < (uint32_t)model->unit_count) {
            best = at + 1;
            value = model->units[node] & 0x7FFFFFFF;
        }
    }
    if (!best || value >= (uint32_t)model->replacement_size) {
        *used = character_size(text, size);
        return (span){text, *used};
    }
    *used = best;
    const uint8_t *bytes = model->replacements + value;
    const uint8_t *end = memchr(bytes, 0, (size_t)model->replacement_size - value);
    return (span){bytes, end ? (size_t)(end - bytes) : (size_t)model->replacement_size - value};
}

static int append(characters *output, uint32_t code) {
    if (output->count == output->room) {
        size_t room = output->room * 2;
        uint32_t *codes = realloc(output->codes, room * sizeof *codes);
        if (!codes) return 0;
        output->codes = codes;
        output->room = room;
    }
    output->codes[output->count++] = code;
    return 1;
}

static int append_all(characters *output, span text) {
    for (size_t at = 0; at < text.size;) {
        const uint8_t *bytes = text.bytes + at;
        size_t size = character_size(bytes, text.size - at);
        uint32_t code = size == 1 ? bytes[0] : bytes[0] & (0x7F >> size);
        for (size_t next = 1; next < size; next++) code = code << 6 | (bytes[next] & 0x3F);
        if (!append(output, code == ' ' ? SPACE : code)) return 0;
        at += size;
    }
    return 1;
}

/* Replace what is to be replaced, and each run of spaces with one mark; 0 if there is no memory. */
static int normalise(const tokenizer *model, const uint8_t *text, size_t size, characters *output) {
    size_t at = 0, used = 0;
    while (at < size) {
        span part = replace(model, text + at, size - at, &used);
        if (part.size != 1 || part.bytes[0] != ' ') break;
        at += used;
    }
    if (at == size) return 1;
    if (!append(output, SPACE)) return 0;
    int after_space = 1;
    for (; at < size; at += used) {
        span part = replace(model, text + at, size - at, &used);
        while (after_space && part.size && part.bytes[0] == ' ') part = (span){part.bytes + 1, part.size - 1};
        if (!part.size) continue;
        after_space = part.bytes[part.size - 1] == ' ';
        if (!append_all(output, part)) return 0;
    }
    while (output->count && output->codes[output->count - 1] == SPACE) output->count--;
    return 1;
}

static int32_t find_child(const tokenizer *model, int32_t node, uint32_t code) {
    int32_t low = model->children[node], high = model->children[node + 1];
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (model->codes[middle] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < model->children[node + 1] && model->codes[low] == code ? low : -1;
}

typedef struct {
    double score;
    int32_t start, piece;
} best; /* way to a place in the text: the piece that ends there, and where that starts */

static void take(best *ways, int32_t start, int32_t end, int32_t piece, double score) {
    if (score > ways[end].score) ways[end] = (best){score, start, piece};
}

static void segment(const tokenizer *model, const characters *text, best *ways) {
    int32_t length = (int32_t)text->count;
    for (int32_t at = 0; at <= length; at++) ways[at] = (best){at ? -1e38 : 0, 0, UNKNOWN};
    for (int32_t start = 0; start < length; start++) {
        int has_single = 0;
        for (int32_t end = start + 1, node = 0; end <= length; end++) {
            node = find_child(model, node, text->codes[end - 1]);
            if (node < 0) break;
            int32_t piece = model->pieces[node];
            if (piece < 0 || piece >= model->piece_count) continue;
            take(ways, start, end, piece, ways[start].score + model->scores[piece]);
            has_single |= end == start + 1;
        }
        if (!has_single) take(ways, start, start + 1, UNKNOWN, ways[start].score + model->unknown_score);
    }
}

static int64_t write_tokens(const best *ways, int32_t length, int32_t *tokens, int64_t room) {
    int64_t count = 2;
    for (int32_t at = length; at > 0; at = ways[at].start) count++;
    if (!length) count++;
    if (count > room) return count;
    tokens[0] = BEGIN;
    if (!length) tokens[1] = UNKNOWN;
    tokens[count - 1] = END;
    int64_t next = count - 2;
    for (int32_t at = length; at > 0; at = ways[at].start) tokens[next--] = ways[at].piece;
    return count;
}

/* Write the token ids of a text in UTF-8, with their begin and end marks. Returns their number, and writes none if it is
   more than `room`; -1 if there is no memory. */
EXPORT int64_t kernels_tokenize(const tokenizer *model, const uint8_t *text, int64_t size, int32_t *tokens, int64_t room) {
    if (size < 0 || size > INT32_MAX / 64 || model->nodes < 1) return -1;
    characters output = {malloc(((size_t)size + 16) * sizeof(uint32_t)), 0, (size_t)size + 16};
    best *ways = NULL;
    int64_t count = -1;
    if (output.codes && normalise(model, text, (size_t)size, &output) &&
        (ways = malloc((output.count + 1) * sizeof *ways))) {
        segment(model, &output, ways);
        count = write_tokens(ways, (int32_t)output.count, tokens, room);
    }
    free(ways);
    free(output.codes);
    return count;
}
