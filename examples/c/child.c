/* A rotary embedding in C that rope_ref can ask: it speaks the protocol of rope_ref.conformance.child.
 *
 * Requests come line by line on standard input; each is answered by a line on standard output:
 *     hello 1 ROPE   rotate IN OUT   tables IN OUT   frequencies OUT
 */

#include "tensors.h"
#include "rope.h"

/* A safetensors file of these tensors, one behind the other. */
static const char *write_tensors(const char *path, int tensors, const char **names, const Tensor *t)
{
    char header[1024] = "{", *end = header + 1;
    long offset = 0;
    for (int k = 0; k < tensors; k++) {
        end += sprintf(end, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", k ? "," : "", names[k], t[k].dtype);
        for (int i = 4 - t[k].rank; i < 4; i++) end += sprintf(end, "%ld%s", t[k].shape[i], i < 3 ? "," : "]");
        long bytes = t[k].count * width(t[k].dtype);
        end += sprintf(end, ",\"data_offsets\":[%ld,%ld]}", offset, offset + bytes);
        offset += bytes;
    }
    end += sprintf(end, "}");
    while ((end - header) % 8) end += sprintf(end, " ");
    uint64_t length = (uint64_t)(end - header);
    FILE *file = fopen(path, "wb");
    if (!file) return "cannot write the answer";
    fwrite(&length, 8, 1, file);
    fwrite(header, 1, length, file);
    for (int k = 0; k < tensors; k++) fwrite(t[k].data, (size_t)width(t[k].dtype), (size_t)t[k].count, file);
    return fclose(file) ? "cannot write the answer" : NULL;
}

static Tensor fresh(const char *dtype, int rank, long a, long b, long c, long d)
{
    Tensor t = {.rank = rank, .shape = {a, b, c, d}, .count = a * b * c * d};
    strcpy(t.dtype, dtype);
    t.data = calloc((size_t)t.count + 1, 8);
    return t;
}

static const char *hello(const char *path, Rope *rope)
{
    long size;
    char *text = read_file(path, &size);
    const char *error = text ? read_rope(text, rope) : "cannot read the description";
    free(text);
    return error;
}

static const char *answer_rotate(const Rope *rope, char *file, long size, const char *out)
{
    Tensor x, positions;
    const char *error = find_tensor(file, size, "x", &x), *name = "y";
    if (!error) error = find_tensor(file, size, "positions", &positions);
    if (error) return error;
    Tensor y = fresh(x.dtype, 4, x.shape[0], x.shape[1], x.shape[2], x.shape[3]);
    rotate(rope, &x, &positions, &y);
    error = write_tensors(out, 1, &name, &y);
    free(y.data);
    return error;
}

static const char *answer_tables(const Rope *rope, char *file, long size, const char *out)
{
    Tensor positions;
    const char *error = find_tensor(file, size, "positions", &positions), *names[] = {"cos", "sin"};
    if (error) return error;
    long batch = positions.shape[1], seq = positions.shape[2], i = 0;
    Tensor tables[2];
    for (int k = 0; k < 2; k++) tables[k] = fresh("F64", 4, batch, rope->heads, seq, rope->pairs);
    for (long b = 0; b < batch; b++)
        for (long head = 0; head < rope->heads; head++)
            for (long token = b * seq; token < (b + 1) * seq; token++)
                for (long pair = 0; pair < rope->pairs; pair++, i++) {
                    double c, s;
                    table(rope, &positions, token, head, pair, &c, &s);
                    put(&tables[0], i, c);
                    put(&tables[1], i, s);
                }
    error = write_tensors(out, 2, names, tables);
    for (int k = 0; k < 2; k++) free(tables[k].data);
    return error;
}

static const char *answer_frequencies(const Rope *rope, const char *out)
{
    const char *names[] = {"inv_freq", "scale"};
    Tensor t[2] = {fresh("F64", 3, 1, rope->heads, rope->pairs, rope->axes), fresh("F64", 1, 1, 1, 1, 1)};
    for (long i = 0; i < t[0].count; i++) put(&t[0], i, rope->inv_freq[i]);
    put(&t[1], 0, rope->attention_scale);
    const char *error = write_tensors(out, 2, names, t);
    for (int k = 0; k < 2; k++) free(t[k].data);
    return error;
}

int main(void)
{
    Rope rope = {0};
    char line[8192], in[4096], out[4096];
    while (fgets(line, sizeof line, stdin)) {
        const char *error = "a request that is not understood", *offer = "";
        if (sscanf(line, "hello 1 %4095s", in) == 1) {
            error = hello(in, &rope);
            offer = " rotate tables frequencies";
        } else if (sscanf(line, "frequencies %4095s", out) == 1) {
            error = answer_frequencies(&rope, out);
        } else if (sscanf(line, "%*s %4095s %4095s", in, out) == 2) {
            long size;
            char *file = read_file(in, &size);
            if (!file) error = "cannot read the question";
            else if (!strncmp(line, "rotate ", 7)) error = answer_rotate(&rope, file, size, out);
            else if (!strncmp(line, "tables ", 7)) error = answer_tables(&rope, file, size, out);
            free(file);
        }
        if (error) printf("error %s\n", error);
        else printf("ok%s\n", offer);
        fflush(stdout);
    }
    return 0;
}
