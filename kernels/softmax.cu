// z = (W a) + b, a = softmax(z) = e^(z - max z) / sum e^(z - max z): one warp a row.
//   z, a : (members, rows, columns)    b : (members, columns)
#include "activation.cuh"
#include "real.cuh"
#include "warp.cuh"

extern "C" __global__ void bias_softmax(real* z, const real* b, real* a, int rows, int columns, long long b_stride,
                                        long long all_rows) {
    const int lane = threadIdx.x;
    const long long step = (long long)gridDim.x * blockDim.y;
    for (long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y; row < all_rows; row += step) {
        real* zr = z + row * columns;
        real* ar = a + row * columns;
        const real* br = b + row / rows * b_stride;
        real top = minus_infinity();
        for (int j = lane; j < columns; j += 32) {
            const real zj = zr[j] + br[j];
            zr[j] = zj;
            top = (zj > top || zj != zj) ? zj : top;
        }
        top = warp_max(top);
        real sum = 0;
        for (int j = lane; j < columns; j += 32) {
            const real e = exp(zr[j] - top);
            ar[j] = e;
            sum += e;
        }
        sum = warp_sum(sum);
        for (int j = lane; j < columns; j += 32) ar[j] /= sum;
    }
}
