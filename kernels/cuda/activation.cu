// out = g(z) and out = g'(z), element by element: the functions dp.sigmoid and dp.sigmoid_grad on their own.
#include "shared/activation.cuh"
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

#define DEFINE(NAME, G)                                                                                 \
    extern "C" __global__ void activation_##NAME(const storage* z, storage* out, long long n) {          \
        map_entries(z, out, n, [](storage x) { return store(G::value(load(x))); });                      \
    }                                                                                                    \
    extern "C" __global__ void activation_gradient_##NAME(const storage* z, storage* out, long long n) { \
        map_entries(z, out, n, [](storage x) { return store(G::gradient(load(x))); });                   \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
