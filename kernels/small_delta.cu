// delta^(l) = (W^T delta^(l+1)) * g'(z^(l)) in one launch, where the product is small. Its sum over the samples is left to
// small_gradient.cu, for which no other kernel waits.
//   delta : (rows, next)   W : (next, columns)   z, mask, out : (rows, columns)
// Rows of delta are delta_columns apart, those of z, mask and out z_columns: they may be filled up, see padding.py.
// A block takes R rows and 128 columns, four a lane. Its warps (32 x R threads or more) split the sum over `next`; then
// each of the first R takes a row. Sums have a fixed order.
#include "chosen_activation.cuh"
#include "fragment.cuh"

#define MOST_WARPS (32 / int(sizeof(real)))

template <int R, typename D>
__device__ void small_delta(const D* delta, const real* W, const storage* z, const storage* mask, storage* out,
                            int rows, int next, int columns, int delta_columns, int z_columns, int activation,
                            bool products_packed, bool packed) {
    __shared__ real partial[MOST_WARPS][R][128];
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y, across = (columns + 127) / 128;
    const int first_row = int(blockIdx.x) / across * R, column = int(blockIdx.x) % across * 128 + lane * 4;
    const int left = columns - column, row = first_row + warp;
    const bool there = warp < R && row < rows;
    const long long place = (long long)row * z_columns + column;
    real zs[4] = {}, mu[4] = {real(1), real(1), real(1), real(1)};
    by_packing(packed, [&](auto as_packed) {  // read before the product, so that nothing waits for them after it
        load_four(as_packed, z + place, there ? left : 0, zs);
        if (mask) load_four(as_packed, mask + place, there ? left : 0, mu);
    });
    real sum[R][4] = {};
    by_packing(products_packed, [&](auto as_packed) {
#pragma unroll 2
        for (int j = warp * 4; j < next; j += warps * 4) {
            real w[4][4], d[R][4];
            for (int q = 0; q < 4; ++q)
                load_four(as_packed, W + (long long)(j + q) * columns + column, j + q < next ? left : 0, w[q]);
            for (int i = 0; i < R; ++i)
                load_four(as_packed, delta + (long long)within(first_row + i, rows) * delta_columns + j, next - j, d[i]);
            for (int i = 0; i < R; ++i)
                for (int q = 0; q < 4; ++q)
                    for (int c = 0; c < 4; ++c) sum[i][c] += d[i][q] * w[q][c];
        }
    });
    for (int i = 0; i < R; ++i)
        for (int c = 0; c < 4; ++c) partial[warp][i][lane * 4 + c] = sum[i][c];
    __syncthreads();
    if (!there) return;
    real own[4] = {};
    for (int k = 0; k < warps; ++k)
        for (int c = 0; c < 4; ++c) own[c] += partial[k][warp][lane * 4 + c];
    for (int c = 0; c < 4; ++c) own[c] *= chosen_gradient(activation, zs[c]) * mu[c];
    by_packing(packed, [&](auto as_packed) { store_four(as_packed, out + place, left, own); });
}

#define DEFINE(NAME, R, D)                                                                                            \
    extern "C" __global__ __launch_bounds__(256) void NAME(const D* delta, const real* W, const storage* z,           \
                                                           const storage* mask, storage* out, int rows, int next,     \
                                                           int columns, int delta_columns, int z_columns,             \
                                                           int activation, int products_packed, int packed) {         \
        small_delta<R>(delta, W, z, mask, out, rows, next, columns, delta_columns, z_columns, activation,             \
                       products_packed, packed);                                                                      \
    }
DEFINE(small_delta_4, 4, storage)
DEFINE(small_delta_2, 2, storage)
#ifdef DELTAPROP_BFLOAT16  // delta of the output layer is float
DEFINE(small_delta_4_from_real, 4, real)
DEFINE(small_delta_2_from_real, 2, real)
#endif
