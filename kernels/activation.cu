// out = g(z) and out = g'(z), element by element: the functions dp.sigmoid and dp.sigmoid_grad on their own.
#include "activation.cuh"
#include "pack.cuh"
#include "real.cuh"

template <class F> __device__ void map(const storage* z, storage* out, long long n, F f) {
    over_entries<storage>(n, aligned(z, out), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        Pack<storage, N> pack = load_pack<storage, N>(z + i);
        for (int j = 0; j < N; ++j) pack.entry[j] = store(f(load(pack.entry[j])));
        store_pack<storage, N>(out + i, pack);
    });
}

#define DEFINE(NAME, G)                                                                                 \
    extern "C" __global__ void activation_##NAME(const storage* z, storage* out, long long n) {          \
        map(z, out, n, [](real x) { return G::value(x); });                                              \
    }                                                                                                    \
    extern "C" __global__ void activation_gradient_##NAME(const storage* z, storage* out, long long n) { \
        map(z, out, n, [](real x) { return G::gradient(x); });                                           \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
