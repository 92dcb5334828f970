/* The driver functions that kernels/cuda/device/driver.py calls, without a GPU: they write down what they were given. Tensor maps are
   refused where cuda.h, above cuTensorMapEncodeTiled, does not promise them. A launch is refused if it may begin early (programmatic
   stream serialization) and must not, or the reverse: see `rule`. */
#include <stdint.h>
#include <string.h>

struct {
    int32_t grid[3], block[3], shared, static_shared, parameters;
    int32_t sizes[64];  /* bytes of each parameter, set before the launch */
    uint64_t stream, context_sets, loads;
    int32_t attribute[4], attribute_count;
    unsigned char values[64][128];
    char name[64];
    int32_t map_kind, map_rank, map_interleave, map_swizzle, map_promotion, map_fill;
    uint64_t map_address, map_shape[5], map_strides[5];
    uint32_t map_box[5], map_steps[5];
    uint32_t refused_ranks;  /* bit r, set before the launch: maps of r axes are refused, whatever they are */
    int32_t dependent;  /* of the last launch: programmatic stream serialization */
    int32_t rule;  /* set before the launch: early 1: exactly where it can be, 2: never, 0: there at most */
    int32_t behind;  /* set by a collective: the next launch must not be early */
    uint64_t launches, early;  /* how many */
} seen;

/* A function that waits first for the launch before it: one of an image that says "waits". */
#define WAITS 1
static char functions[2];

int cuGetErrorName(int code, const char** text) { return *text = code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_OTHER", 0; }
int cuGetErrorString(int code, const char** text) { (void)code; return *text = "what it means", 0; }
int cuDriverGetVersion(int* version) { return *version = 12040, 0; }
int cuCtxGetCurrent(void** context) { return *context = (void*)0x77, 0; }
int cuCtxSetCurrent(void* context) { seen.context_sets++; return context == (void*)0x77 ? 0 : 201; }
int cuModuleLoadData(void** module, const void* image) {
    seen.loads++;
    if (!memcmp(image, "wrong", 5)) return 200;
    return *module = &functions[memcmp(image, "waits", 5) ? 0 : WAITS], 0;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    strncpy(seen.name, name, sizeof seen.name - 1);
    return *function = module, !module;
}
int cuFuncGetAttribute(int* value, int attribute, void* function) {
    (void)function;
    return *value = attribute == 1 ? seen.static_shared : -1, 0;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    (void)function;
    seen.attribute[seen.attribute_count++ % 4] = attribute == 8 ? value : -attribute;
    return 0;
}
static int launch(int early, void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                  void* stream, void** parameters, void** extra) {
    if ((function != &functions[0] && function != &functions[WAITS]) || extra) return 1;
    if (gx == 700) return 700;
    int may = function == &functions[WAITS] && !seen.behind && seen.rule != 2;
    if (early > may || (seen.rule == 1 && early < may)) return 801;
    seen.behind = 0, seen.launches++, seen.early += early;
    seen.grid[0] = gx, seen.grid[1] = gy, seen.grid[2] = gz, seen.block[0] = bx, seen.block[1] = by, seen.block[2] = bz;
    seen.shared = shared, seen.stream = (uint64_t)stream, seen.dependent = early;
    for (int i = 0; i < seen.parameters; i++) memcpy(seen.values[i], parameters[i], seen.sizes[i]);
    return 0;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void* stream, void** parameters, void** extra) {
    return launch(0, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
}
typedef struct {  /* CUlaunchAttribute */
    int32_t id;
    char padding[4];
    union { char bytes[64]; int32_t number; } value;
} attribute_t;
typedef struct {  /* CUlaunchConfig */
    unsigned gx, gy, gz, bx, by, bz, shared;
    void* stream;
    attribute_t* attributes;
    unsigned count;
} config_t;
int cuLaunchKernelEx(const config_t* c, void* function, void** parameters, void** extra) {
    if (c->count != 1 || c->attributes[0].id != 6 || c->attributes[0].value.number != 1) return 1;
    return launch(1, function, c->gx, c->gy, c->gz, c->bx, c->by, c->bz, c->shared, c->stream, parameters, extra);
}
/* Bytes of an element by CUtensorMapDataType; the packed types of 4 and 6 bits, which nothing here uses, have none. */
static const int SIZES[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
/* Bytes of the span by CUtensorMapSwizzle; none: any box. */
static const uint64_t SPANS[] = {~0ull, 32, 64, 128, 128, 128, 128};

static int promised(const void* map, int kind, uint32_t rank, uint64_t address, const uint64_t* shape, const uint64_t* strides,
                    const uint32_t* box, const uint32_t* steps, int interleave, int swizzle, int promotion, int fill) {
    if ((uint64_t)map % 64 || kind < 0 || kind > 12 || rank < 1 || rank > 5 || address % 16) return 0;
    if (interleave || swizzle < 0 || swizzle > 6 || promotion < 0 || promotion > 3 || fill) return 0;
    uint64_t size = SIZES[kind], inner = size;
    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] < 1 || shape[i] > 1ull << 32 || box[i] < 1 || box[i] > 256 || steps[i] < 1 || steps[i] > 8) return 0;
        if (i + 1 == rank) break;
        /* strides[0] = shape[0] * size + padding[0], strides[i] = strides[i - 1] * (shape[i] + padding[i]), and no less than shape[i] */
        if (strides[i] % 16 || strides[i] >= 1ull << 40 || strides[i] % inner || strides[i] / inner < shape[i]) return 0;
        inner = strides[i];
    }
    return box[0] * size % 16 == 0 && box[0] * size <= SPANS[swizzle];
}
int cuTensorMapEncodeTiled(void* map, int kind, uint32_t rank, void* address, const uint64_t* shape, const uint64_t* strides,
                           const uint32_t* box, const uint32_t* steps, int interleave, int swizzle, int promotion, int fill) {
    if (seen.refused_ranks >> rank & 1) return 1;
    if (!promised(map, kind, rank, (uint64_t)address, shape, strides, box, steps, interleave, swizzle, promotion, fill)) return 1;
    memset(map, 0xab, 128);
    seen.map_kind = kind, seen.map_rank = rank, seen.map_address = (uint64_t)address, seen.map_interleave = interleave;
    seen.map_swizzle = swizzle, seen.map_promotion = promotion, seen.map_fill = fill;
    for (uint32_t i = 0; i < rank; i++) {
        seen.map_shape[i] = shape[i], seen.map_box[i] = box[i], seen.map_steps[i] = steps[i];
        if (i + 1 < rank) seen.map_strides[i] = strides[i];
    }
    return 0;
}
