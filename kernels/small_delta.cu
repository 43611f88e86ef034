// delta^(l) = (W^T delta^(l+1)) * g'(z^(l)) and its sum over the samples, the bias gradient, in one launch, where the
// product is small.
//   delta : (rows, next)   W : (next, columns)   z, mask, out : (rows, columns)   sums : (columns,)
// A warp takes R rows and 128 columns, four a lane; the warps of a block (32 x up to MOST_WARPS threads) split the sum
// over `next`. part : (row tiles, columns) holds each tile's sum over its rows; the last block of a column tile adds them
// to keep * sums. Sums have a fixed order.
#include "chosen_activation.cuh"
#include "fragment.cuh"
#include "last_block.cuh"

#define MOST_WARPS (32 / int(sizeof(real)))

template <int R, typename D>
__device__ void small_delta(const D* delta, const real* W, const storage* z, const storage* mask, storage* out,
                            real* sums, real keep, real* part, unsigned* tickets, int rows, int next, int columns,
                            int activation, bool products_packed, bool packed) {
    __shared__ real partial[MOST_WARPS][R][128];
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y, across = (columns + 127) / 128;
    const int row_tile = int(blockIdx.x) / across, column_tile = int(blockIdx.x) % across;
    const int first_row = row_tile * R, column = column_tile * 128 + lane * 4, left = columns - column;
    real sum[R][4] = {};
    by_packing(products_packed, [&](auto as_packed) {
        for (int j = warp * 4; j < next; j += warps * 4) {
            real w[4][4], d[R][4];
            for (int q = 0; q < 4; ++q)
                load_four(as_packed, W + (long long)(j + q) * columns + column, j + q < next ? left : 0, w[q]);
            for (int i = 0; i < R; ++i)
                load_four(as_packed, delta + (long long)within(first_row + i, rows) * next + j, next - j, d[i]);
            for (int i = 0; i < R; ++i)
                for (int q = 0; q < 4; ++q)
                    for (int c = 0; c < 4; ++c) sum[i][c] += d[i][q] * w[q][c];
        }
    });
    for (int i = 0; i < R; ++i)
        for (int c = 0; c < 4; ++c) partial[warp][i][lane * 4 + c] = sum[i][c];
    __syncthreads();
    real of_rows[4] = {};
    by_packing(packed, [&](auto as_packed) {
        for (int i = warp; i < R; i += warps) {
            const int row = first_row + i;
            if (row >= rows || left <= 0) continue;
            const long long place = (long long)row * columns + column;
            real own[4], zs[4], mu[4];
            load_four(as_packed, z + place, left, zs);
            if (mask) load_four(as_packed, mask + place, left, mu);
            for (int c = 0; c < 4; ++c) {
                own[c] = partial[0][i][lane * 4 + c];
                for (int k = 1; k < warps; ++k) own[c] += partial[k][i][lane * 4 + c];
                own[c] *= chosen_gradient(activation, zs[c]);
                if (mask) own[c] *= mu[c];
                of_rows[c] += own[c];
            }
            store_four(as_packed, out + place, left, own);
        }
    });
    __syncthreads();
    for (int c = 0; c < 4; ++c) partial[warp][0][lane * 4 + c] = of_rows[c];
    __syncthreads();
    const int tiles = (rows + R - 1) / R;
    for (int c = warp * 32 + lane; c < 128; c += warps * 32) {
        const int to = column_tile * 128 + c;
        if (to >= columns) continue;
        real total = partial[0][0][c];
        for (int k = 1; k < warps; ++k) total += partial[k][0][c];
        part[(long long)row_tile * columns + to] = total;
    }
    if (!is_last_block(tickets + column_tile, tiles)) return;
    for (int c = warp * 32 + lane; c < 128; c += warps * 32) {
        const int to = column_tile * 128 + c;
        if (to >= columns) continue;
        real total = 0;
        for (int tile = 0; tile < tiles; ++tile) total += __ldcg(part + (long long)tile * columns + to);
        sums[to] = keep == real(0) ? total : keep * sums[to] + total;
    }
}

#define DEFINE(NAME, R, D)                                                                                           \
    extern "C" __global__ __launch_bounds__(256) void NAME(                                                          \
        const D* delta, const real* W, const storage* z, const storage* mask, storage* out, real* sums, real keep,   \
        real* part, unsigned* tickets, int rows, int next, int columns, int activation,                              \
        int products_packed, int packed) {                                                                           \
        small_delta<R>(delta, W, z, mask, out, sums, keep, part, tickets, rows, next, columns, activation,           \
                       products_packed, packed);                                                                     \
    }
DEFINE(small_delta_8, 8, storage)
DEFINE(small_delta_4, 4, storage)
DEFINE(small_delta_2, 2, storage)
#ifdef DELTAPROP_BFLOAT16  // delta of the output layer is float
DEFINE(small_delta_8_from_real, 8, real)
DEFINE(small_delta_4_from_real, 4, real)
DEFINE(small_delta_2_from_real, 2, real)
#endif
