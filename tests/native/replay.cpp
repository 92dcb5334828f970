// Replays calls of the library that tests/native_record.py has recorded: for builds that Python cannot load, for another processor or with
// a sanitizer. Every array is a block of its own of just its size, so that AddressSanitizer sees what is touched beside it.
//   replay FILE THREADS: each call on one thread, on THREADS (the same bits), and with every array one element further on in memory.
// Results must be those recorded: floats to a relative norm of 1e-5 with NaN and infinities in the same places, all else exactly.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "vectors.h"

struct Value {  // an argument or a result
    char kind;  // v: nothing (a null pointer, no result); i: integer; d: floating-point; a: array
    int64_t integer;
    double real;
    char* address;
};

template <class T> T as(const Value& v) {
    if constexpr (std::is_pointer_v<T>)
        return (T)(void*)v.address;
    else
        return v.kind == 'd' ? (T)v.real : (T)v.integer;
}

template <class R, class... A, size_t... I> Value apply(R (*f)(A...), const Value* v, std::index_sequence<I...>) {
    if constexpr (std::is_void_v<R>) {
        f(as<A>(v[I])...);
        return {'v', 0, 0, nullptr};
    } else if constexpr (std::is_floating_point_v<R>) {
        return {'d', 0, f(as<A>(v[I])...), nullptr};
    } else {
        return {'i', (int64_t)f(as<A>(v[I])...), 0, nullptr};
    }
}
template <class R, class... A> Value apply(R (*f)(A...), const Value* v) { return apply(f, v, std::index_sequence_for<A...>{}); }

struct Function {
    const char* name;
    Value (*call)(const Value*);
};
#define FUNCTION(name) {#name, [](const Value* v) { return apply(name, v); }}
#include "exported.inc"  // declarations of all exported functions; FUNCTIONS: those that can be replayed

namespace {

constexpr double LIMIT = 1e-5;

struct Block {  // of memory: an array, or several that overlap
    std::string before, after;
};
struct Array {
    uint32_t argument, block, itemsize;
    uint64_t offset, bytes;
    bool floating;
};
struct Link {  // element `element` of array `table` is the address of `target`; these are numbers of arguments, or of what follows them
    uint32_t table, element, target;
};
struct Call {
    std::string name;
    std::vector<Value> values;
    Value result;
    std::vector<Array> arrays;
    std::vector<Link> links;
    std::vector<Block> blocks;
};

class Reader {
    std::string text;
    size_t at = 0;

  public:
    explicit Reader(const char* path) {
        std::ifstream file(path, std::ios::binary);
        text.assign(std::istreambuf_iterator<char>(file), {});
    }
    bool more() const { return at < text.size(); }
    std::string bytes(size_t n) {
        if (n > text.size() - at) {
            fprintf(stderr, "replay: the file of calls is cut off\n");
            exit(2);
        }
        at += n;
        return text.substr(at - n, n);
    }
    template <class T> T get() {
        T v;
        memcpy(&v, bytes(sizeof v).data(), sizeof v);
        return v;
    }
    Value value() {
        Value v{get<char>(), 0, 0, nullptr};
        if (v.kind == 'i') v.integer = get<int64_t>();
        if (v.kind == 'd') v.real = get<double>();
        return v;
    }
    Call call() {
        Call c;
        c.name = bytes(get<uint32_t>());
        c.result = value();
        for (uint32_t i = 0, n = get<uint32_t>(); i < n; i++) {
            c.values.push_back(value());
            if (c.values.back().kind != 'a') continue;
            Array a;
            a.argument = i, a.block = get<uint32_t>(), a.itemsize = get<uint32_t>(), a.floating = get<char>() == 'f';
            a.offset = get<uint64_t>(), a.bytes = get<uint64_t>();
            c.arrays.push_back(a);
        }
        for (uint32_t i = 0, n = get<uint32_t>(); i < n; i++) c.links.push_back(get<Link>());
        for (uint32_t i = 0, n = get<uint32_t>(); i < n; i++) {
            const auto size = get<uint64_t>();
            c.blocks.push_back({bytes(size), bytes(size)});
        }
        return c;
    }
};

template <class T> double difference(const char* got, const char* want, size_t bytes) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < bytes; i += sizeof(T)) {
        T g, w;
        memcpy(&g, got + i, sizeof g);
        memcpy(&w, want + i, sizeof w);
        if (!std::isfinite(g) || !std::isfinite(w)) {
            if (std::isnan(g) ? !std::isnan(w) : g != w) return INFINITY;
        } else {
            error += ((double)g - w) * ((double)g - w);
            norm += (double)w * w;
        }
    }
    return error > 0 ? std::sqrt(error / norm) : 0;
}

class Replay {
    const Call& call;
    std::vector<std::unique_ptr<char[]>> memory;
    std::vector<char*> starts;

  public:
    Value result;

    // shift: elements that arrays lie behind an address that suits any type
    Replay(const Call& c, const Function& function, int threads, int shift) : call(c) {
        for (size_t b = 0; b < c.blocks.size(); b++) {
            uint32_t item = 0;
            for (const Array& a : c.arrays)
                if (a.block == b) item = std::max(item, a.itemsize);
            const std::string& before = c.blocks[b].before;
            memory.emplace_back(new char[shift * item + before.size()]);
            starts.push_back(memory.back().get() + shift * item);
            memcpy(starts.back(), before.data(), before.size());
        }
        std::vector<Value> values = c.values;
        for (const Array& a : c.arrays) values[a.argument].address = starts[a.block] + a.offset;
        std::vector<std::string> recorded;
        for (const Link& l : c.links) {
            char* place = values[l.table].address + 8 * l.element;
            recorded.emplace_back(place, 8);
            memcpy(place, &values[l.target].address, 8);
        }
        set_threads(threads);
        result = function.call(values.data());
        for (size_t i = 0; i < c.links.size(); i++)  // back, for the comparison
            memcpy(values[c.links[i].table].address + 8 * c.links[i].element, recorded[i].data(), 8);
        if (take_error()) fail("found no memory", 0, 0);
    }
    [[noreturn]] void fail(const char* what, uint32_t argument, double error) const {
        fprintf(stderr, "replay: %s: %s (argument %u, error %.3g)\n", call.name.c_str(), what, argument, error);
        exit(1);
    }
    double compare_with_record() const {
        double worst = std::abs(result.real - call.result.real) / std::max(1e-300, std::abs(call.result.real));
        if (result.kind != call.result.kind || result.integer != call.result.integer || !(worst <= LIMIT)) fail("other result", 0, worst);
        for (const Array& a : call.arrays) {
            const Block& block = call.blocks[a.block];
            const char *got = starts[a.block] + a.offset, *want = block.after.data() + a.offset, *before = block.before.data() + a.offset;
            double error = 0;
            if (!a.floating || !memcmp(before, want, a.bytes))  // what was an input stays as it was
                error = memcmp(got, want, a.bytes) ? INFINITY : 0;
            else
                error = a.itemsize == 4 ? difference<float>(got, want, a.bytes) : difference<double>(got, want, a.bytes);
            if (!(error <= LIMIT)) fail("other values than recorded", a.argument, error);
            worst = std::max(worst, error);
        }
        return worst;
    }
    void compare_bits(const Replay& other) const {
        for (const Array& a : call.arrays)
            if (memcmp(starts[a.block], other.starts[a.block], call.blocks[a.block].before.size()))
                fail("other bits with another number of threads", a.argument, 0);
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return fprintf(stderr, "usage: replay FILE THREADS\n"), 2;
    const int threads = atoi(argv[2]);
    int calls = 0;
    double worst = 0;
    std::set<std::string> names;
    for (Reader reader(argv[1]); reader.more(); calls++) {
        const Call call = reader.call();
        const Function* function = nullptr;
        for (const Function& f : FUNCTIONS)
            if (call.name == f.name) function = &f;
        if (!function) return fprintf(stderr, "replay: %s: no such function in this build\n", call.name.c_str()), 1;
        const Replay one(call, *function, 1, 0), many(call, *function, threads, 0), moved(call, *function, threads, 1);
        many.compare_bits(one);
        worst = std::max({worst, one.compare_with_record(), many.compare_with_record(), moved.compare_with_record()});
        names.insert(call.name);
    }
    printf("%d calls of %zu functions, largest error %.1e, W = %d\n", calls, names.size(), worst, vector_width());
    return calls ? 0 : 1;
}
