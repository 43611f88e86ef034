// z = (W a) + b, a = g(z), after the matrix product has written W a into z: one pass for both.
//   z, a, mask : (members, rows, columns)    b : (members, columns)
// The mask, of dropout, may be null: a = g(z) * mask.
#include "activation.cuh"
#include "real.cuh"

template <class G>
__device__ void bias_activation(real* z, const real* b, const real* mask, real* a, int rows, int columns,
                                long long b_stride, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const long long row = i / columns;
        const real zi = z[i] + b[row / rows * b_stride + (i - row * columns)];
        z[i] = zi;
        a[i] = mask ? G::value(zi) * mask[i] : G::value(zi);
    }
}

#define DEFINE(NAME, G)                                                                                    \
    extern "C" __global__ void bias_activation_##NAME(real* z, const real* b, const real* mask, real* a, int rows, \
                                                      int columns, long long b_stride, long long n) {      \
        bias_activation<G>(z, b, mask, a, rows, columns, b_stride, n);                                     \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
