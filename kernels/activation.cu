// out = g(z) and out = g'(z), element by element: the functions dp.sigmoid and dp.sigmoid_grad on their own.
#include "activation.cuh"
#include "real.cuh"

template <class G>
__device__ void value(const storage* z, storage* out, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        out[i] = store(G::value(load(z[i])));
}

template <class G>
__device__ void gradient(const storage* z, storage* out, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        out[i] = store(G::gradient(load(z[i])));
}

#define DEFINE(NAME, G)                                                                      \
    extern "C" __global__ void activation_##NAME(const storage* z, storage* out, long long n) { \
        value<G>(z, out, n);                                                                 \
    }                                                                                        \
    extern "C" __global__ void activation_gradient_##NAME(const storage* z, storage* out, long long n) { \
        gradient<G>(z, out, n);                                                              \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
