/* Hold a rotary embedding in C against golden vectors: check_vectors FOLDER
 *
 * The folder is what rope_ref.conformance.vectors writes. Ends with 0 if every number is within its bound,
 * 1 if some are not, 2 if the folder cannot be read.
 */

#include "tensors.h"
#include "rope.h"

enum { X, POSITIONS, EXPECTED, BOUND, TENSORS };
static const char *NAMES[TENSORS] = {"x", "positions", "expected", "bound"};

/* Rotates x of one file; counts the numbers that are wrong and keeps the worst |y - expected| / bound. */
static const char *check_file(const char *path, const Rope *rope, long *wrong, double *worst)
{
    Tensor t[TENSORS];
    long size;
    char *file = read_file(path, &size);
    const char *error = file ? NULL : "cannot be read";
    for (int k = 0; k < TENSORS && !error; k++) error = find_tensor(file, size, NAMES[k], &t[k]);
    if (!error) {
        Tensor y = t[X];
        y.data = malloc((size_t)y.count * 8);
        rotate(rope, &t[X], &t[POSITIONS], &y);
        for (long i = 0; i < y.count; i++) {
            double off = fabs(get(&y, i) - get(&t[EXPECTED], i)), bound = get(&t[BOUND], i);
            if (!(off <= bound)) ++*wrong; /* NaN is wrong too */
            if (bound > 0 && off / bound > *worst) *worst = off / bound;
        }
        free(y.data);
    }
    free(file);
    return error;
}

int main(int count, char **words)
{
    char path[4096], name[256], key[300];
    long size, vectors = 0, failed = 0;
    double worst = 0;
    snprintf(path, sizeof path, "%s/index.json", count == 2 ? words[1] : "");
    char *index = read_file(path, &size);
    if (!index) return fprintf(stderr, "cannot read %s\n", path), 2;

    /* One line a vector: {"file": "llama3-far-float32.safetensors", "variant": "llama3", ...} */
    for (char *at = strstr(index, "{\"file\": "); at; at = strstr(at + 1, "{\"file\": "), vectors++) {
        Rope rope = {0};
        long wrong = 0;
        if (sscanf(value(at, "variant"), "\"%255[^\"]", name) != 1) return 2;
        snprintf(key, sizeof key, "\n\"%s\": {", name); /* its Rope is a line of its own */
        char *description = strstr(index, key);
        if (sscanf(value(at, "file"), "\"%255[^\"]", name) != 1) return 2;
        snprintf(path, sizeof path, "%s/%s", words[1], name);
        const char *error = description ? read_rope(description, &rope) : "has no Rope";
        if (!error) error = check_file(path, &rope, &wrong, &worst);
        free(rope.inv_freq);
        if (error) return printf("%s: %s\n", name, error), 2;
        if (wrong) printf("wrong: %s in %ld numbers\n", name, wrong);
        failed += wrong > 0;
    }
    printf("%ld vectors, %ld wrong; the worst error is %.3g of its bound\n", vectors, failed, worst);
    free(index);
    return failed > 0;
}
