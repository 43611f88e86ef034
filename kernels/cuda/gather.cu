// out[i] = x[index[i]]: the rows of a minibatch.
//   x : (n, columns)    index : (rows,)    out : (rows, columns)
#include "cuda/real.cuh"

extern "C" __global__ void gather(const real* x, const long long* index, real* out, int columns, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const long long row = i / columns;
        out[i] = x[index[row] * columns + (i - row * columns)];
    }
}
