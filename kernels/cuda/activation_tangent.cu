// The derivative of a = g(z) along a direction t of z, which, the Jacobian being symmetric, is also what it hands back
// to a direction t of a: g'(z) t, element by element; for softmax a (t - sum a t), one warp a row.
//   z, a, t, out : (rows, columns); out may be t itself
#include "shared/activation.cuh"
#include "cuda/real.cuh"
#include "cuda/warp.cuh"

template <class G>
__device__ void activation_tangent(const real* z, const real* t, real* out, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        out[i] = G::gradient(z[i]) * t[i];
}

extern "C" __global__ void activation_tangent_softmax(const real* a, const real* t, real* out, int columns,
                                                      long long rows) {
    const long long step = (long long)gridDim.x * blockDim.y;
    for (long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += step) {
        const long long first = row * columns;
        real sum = 0;
        for (int j = threadIdx.x; j < columns; j += 32) sum += a[first + j] * t[first + j];
        sum = warp_sum(sum);
        for (int j = threadIdx.x; j < columns; j += 32) out[first + j] = a[first + j] * (t[first + j] - sum);
    }
}

#define DEFINE(NAME, G)                                                                                       \
    extern "C" __global__ void activation_tangent_##NAME(const real* z, const real* t, real* out, long long n) { \
        activation_tangent<G>(z, t, out, n);                                                                  \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
