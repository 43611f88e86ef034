// Runs CUDA kernels on the host, faithfully enough to test their arithmetic and their indexing: every thread of a
// block is a fiber of its own, __syncthreads waits for every fiber of the block and a shuffle for every lane of the
// warp. Blocks run one after another, those of a cluster together, each with dynamic shared memory of its own, which
// the others reach by its address. Included ahead of a .cu file that is compiled as C++.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __host__
#define __device__
#define __shared__ static  // one block at a time: kernels for clusters have dynamic shared memory only
#define __noinline__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define DELTAPROP_DYNAMIC_SHARED(NAME) unsigned char* NAME = host::shared_memory(host::fibers[host::current].rank)

using std::exp;
using std::log;
using std::sqrt;

struct dim3 {
    unsigned x, y, z;
};
static dim3 gridDim, blockDim, blockIdx, threadIdx;

inline float __int_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

namespace host {

enum State { ready, at_warp, at_block, at_cluster, done };
struct Fiber {  // made once, and used for one thread after another
    jmp_buf place;  // where it goes on; in place of swapcontext, which asks the system about signals at each turn
    std::vector<char> stack;
    State state;
    dim3 index;
    unsigned rank;  // of its block in the cluster
};
static std::vector<Fiber> fibers;
static unsigned blocks_a_cluster = 1, shared_bytes = 0;
// Of every block of the cluster, one after the other. Poisoned before each: what is read has to have been written.
static std::vector<unsigned char> dynamic_shared;
inline unsigned char* shared_memory(unsigned rank) {
    unsigned char* first = dynamic_shared.data();
    return first + (16 - reinterpret_cast<std::size_t>(first) % 16) % 16 + std::size_t(rank) * shared_bytes;
}
static jmp_buf scheduler;
static unsigned current;
static double lanes[16384];

inline void let_others_run() {
    if (!_setjmp(fibers[current].place)) _longjmp(scheduler, 1);
}

inline void wait(State barrier) {
    fibers[current].state = barrier;
    let_others_run();
}

template <typename T> inline T shuffle_xor(T x, int mask) {
    const unsigned me = current;
    std::memcpy(&lanes[me], &x, sizeof(T));
    wait(at_warp);
    T other;
    std::memcpy(&other, &lanes[(me & ~31u) | ((me ^ mask) & 31u)], sizeof(T));
    wait(at_warp);
    return other;
}

// Let go of the fibers first … last−1 if all that are left of them wait at `barrier`.
inline bool release(unsigned first, unsigned last, State barrier) {
    bool any = false;
    for (unsigned i = first; i < last; ++i) {
        if (fibers[i].state == done) continue;
        if (fibers[i].state != barrier) return false;
        any = true;
    }
    for (unsigned i = first; i < last; ++i)
        if (fibers[i].state == barrier) fibers[i].state = ready;
    return any;
}

static void (*body)(void*);
static void* body_argument;
inline void enter() {
    for (;;) {
        body(body_argument);
        wait(done);
    }
}

// Run the current fiber until it waits. A function of its own, since a jump back restores no variables.
__attribute__((noinline)) inline void run_current() {
    if (_setjmp(scheduler)) return;
    Fiber& f = fibers[current];
    if (!f.stack.empty()) _longjmp(f.place, 1);
    f.stack.resize(32768);
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = f.stack.data();
    start.uc_stack.ss_size = f.stack.size();
    start.uc_link = nullptr;
    makecontext(&start, enter, 0);
    setcontext(&start);
}

// The blocks of one cluster, the first of which is at blockIdx.
inline void run_cluster() {
    const unsigned n = blockDim.x * blockDim.y * blockDim.z, all = n * blocks_a_cluster, first_block = blockIdx.x;
    if (blocks_a_cluster > 1 && n % 32 != 0) std::abort();  // a warp would straddle two blocks
    dynamic_shared.assign(std::size_t(shared_bytes) * blocks_a_cluster + 16, 0xff);
    if (fibers.size() < all) fibers.resize(all);
    for (unsigned i = 0; i < all; ++i) {
        Fiber& f = fibers[i];
        const unsigned t = i % n;
        f.state = ready;
        f.rank = i / n;
        f.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
    }
    for (;;) {
        bool ran = false;
        for (current = 0; current < all; ++current)
            if (fibers[current].state == ready) {
                threadIdx = fibers[current].index;
                blockIdx.x = first_block + fibers[current].rank;
                run_current();
                ran = true;
            }
        blockIdx.x = first_block;
        for (unsigned block = 0; block < all; block += n) {
            for (unsigned warp = 0; warp < n; warp += 32)
                ran |= release(block + warp, block + (warp + 32 < n ? warp + 32 : n), at_warp);
            ran |= release(block, block + n, at_block);
        }
        ran |= release(0, all, at_cluster);
        if (ran) continue;
        for (unsigned i = 0; i < all; ++i)
            if (fibers[i].state != done) {
                std::fprintf(stderr, "deadlock: thread %u of block %u waits for ever\n", i % n, fibers[i].rank);
                std::abort();
            }
        return;
    }
}

template <typename... A, std::size_t... I>
void launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, void** arguments,
            std::index_sequence<I...>) {
    std::tuple<A...> values{*static_cast<std::remove_cv_t<A>*>(arguments[I])...};
    std::pair<void (*)(A...), std::tuple<A...>*> call{kernel, &values};
    body = [](void* p) {
        auto* c = static_cast<std::pair<void (*)(A...), std::tuple<A...>*>*>(p);
        std::apply(c->first, *c->second);
    };
    body_argument = &call;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x += blocks_a_cluster) run_cluster();
}

// Bytes of every parameter, for the caller to compare with what it passes; negative for floating point.
template <typename... A> int sizes(void (*)(A...), int* out) {
    const int all[] = {(std::is_floating_point<A>::value ? -int(sizeof(A)) : int(sizeof(A)))...};
    std::memcpy(out, all, sizeof all);
    return sizeof...(A);
}

}  // namespace host

inline void __syncthreads() { host::wait(host::at_block); }
inline void __syncwarp() { host::wait(host::at_warp); }
inline void __threadfence() {}
inline unsigned host_increment(unsigned* place, unsigned last) {  // fibers take turns
    const unsigned before = *place;
    *place = before >= last ? 0 : before + 1;
    return before;
}

// What kernels/cluster.cuh is on a device.
template <int BLOCKS> inline int cluster_rank() { return int(host::fibers[host::current].rank); }
template <int BLOCKS> inline void cluster_sync() { host::wait(host::at_cluster); }
template <int BLOCKS, typename T> inline T* of_block(T* mine, int rank) {
    auto* here = reinterpret_cast<unsigned char*>(mine);
    return reinterpret_cast<T*>(here - host::shared_memory(host::fibers[host::current].rank) + host::shared_memory(rank));
}
struct HostArrivals {  // in the 8 bytes of an Arrivals
    int missing;       // bytes, fewer than 0 where they came before they were expected
    short expected, phase;
    void settle() {
        if (!expected || missing) return;
        expected = 0;
        phase ^= 1;
    }
};
typedef unsigned long long Arrivals;
inline HostArrivals& host_arrivals(Arrivals* arrivals) { return *reinterpret_cast<HostArrivals*>(arrivals); }
inline void arrivals_begin(Arrivals* arrivals) { host_arrivals(arrivals) = {0, 0, 0}; }
inline void arrivals_expected(Arrivals* arrivals, int bytes) {
    HostArrivals& here = host_arrivals(arrivals);
    if (here.expected) {
        std::fprintf(stderr, "bytes are expected twice in one phase\n");
        std::abort();
    }
    here.missing += bytes;
    here.expected = 1;
    here.settle();
}
inline void arrivals_wait(Arrivals* arrivals, unsigned parity) {
    for (int turns = 0; unsigned(host_arrivals(arrivals).phase) == parity; ++turns) {
        if (turns == 100000) {
            std::fprintf(stderr, "deadlock: bytes that are expected never come\n");
            std::abort();
        }
        host::let_others_run();
    }
}
template <typename T> inline void send(T* mine, const T& x, Arrivals* arrivals, int rank) {
    *of_block<2>(mine, rank) = x;
    HostArrivals& theirs = host_arrivals(of_block<2>(arrivals, rank));
    theirs.missing -= int(sizeof(T));
    theirs.settle();
}
inline void copy_async(void* to, const void* from, int bytes) {
    if (reinterpret_cast<std::size_t>(to) % bytes || reinterpret_cast<std::size_t>(from) % bytes) {
        std::fprintf(stderr, "a copy of %d bytes is not aligned\n", bytes);
        std::abort();
    }
    std::memcpy(to, from, bytes);
}
inline void copies_done() {}

// float16 bits of x, |x| <= 65504, rounded to nearest, ties to even: x is a whole number of units of the last place.
inline unsigned short host_float16(float x) {
    if (x != x) return 0x7e00;
    const double size = std::fabs(double(x));
    int exponent;
    std::frexp(size, &exponent);
    if (size == 0 || exponent < -13) exponent = -13;  // zero, or subnormal from here on
    const double unit = std::ldexp(1.0, exponent - 11);
    const double units = std::nearbyint(size / unit);
    const unsigned sign = std::signbit(x) ? 0x8000u : 0u;
    // The bits of a float16 count units of the last place from 0 upwards, binade after binade of 1024.
    return (unsigned short)(sign + unsigned(exponent + 13) * 1024u + unsigned(units));
}
template <typename T> inline T __shfl_xor_sync(unsigned, T x, int mask) { return host::shuffle_xor(x, mask); }
template <typename T> inline T __shfl_sync(unsigned, T x, int lane) {
    return host::shuffle_xor(x, (host::current ^ lane) & 31);
}
template <typename T> inline T __ldcg(const T* place) { return *place; }

// What the tensor cores of a warp do in kernels/tensor_core.cuh: lane 4 g + t brings four entries of row g, of row g + 8 and
// of column g, and takes the sums of these rows at columns 2 t and 2 t + 1.
inline void host_multiply_add(float (&sum)[4], const float (&top)[4], const float (&bottom)[4], const float (&column)[4]) {
    static float brought[1024][3][4];
    const unsigned me = host::current % 1024, warp = me & ~31u, g = (me & 31u) / 4, t = me % 4;
    std::memcpy(brought[me][0], top, sizeof top);
    std::memcpy(brought[me][1], bottom, sizeof bottom);
    std::memcpy(brought[me][2], column, sizeof column);
    host::wait(host::at_warp);
    for (int half = 0; half < 2; ++half)
        for (unsigned c = 0; c < 2; ++c)
            for (unsigned lane = 0; lane < 4; ++lane)
                for (int i = 0; i < 4; ++i)
                    sum[2 * half + c] += brought[warp + 4 * g + lane][half][i] * brought[warp + 4 * (2 * t + c) + lane][2][i];
    host::wait(host::at_warp);
}

#define HOST_KERNEL(NAME)                                                                                   \
    template <typename... A> static void host_call_##NAME(void (*k)(A...), const unsigned* g, const unsigned* b, \
                                                          void** a) {                                       \
        host::launch(k, g, b, a, std::index_sequence_for<A...>());                                          \
    }                                                                                                       \
    extern "C" void host_launch_##NAME(const unsigned* g, const unsigned* b, void** a, unsigned blocks,     \
                                       unsigned bytes) {                                                    \
        host::blocks_a_cluster = blocks;                                                                    \
        host::shared_bytes = bytes;                                                                         \
        host_call_##NAME(NAME, g, b, a);                                                                    \
    }                                                                                                       \
    extern "C" int host_sizes_##NAME(int* out) { return host::sizes(NAME, out); }
