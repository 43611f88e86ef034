// Multiplies R rows of x by U rows of W: (R, U) dot products over the inputs. The warps of a block split the
// inputs, and the lanes of a warp take four at a time.
#pragma once
#include "cuda/fragment.cuh"

#define MOST_WARPS 8

// Writes this warp's share of the sums to `partial`, (R, U), in shared memory; the caller adds up all warps' shares.
// Rows beyond `rows` and units beyond `units` repeat the last one. Rows of x are x_columns apart.
template <int R, int U>
__device__ inline void dot_tile(const storage* x, const real* W, int first_row, int first_unit, int rows, int inputs,
                                int x_columns, int units, bool packed, real* partial) {
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y;
    real sum[R * U] = {};
    by_packing(packed, [&](auto as_packed) {
        for (int k = (warp * 32 + lane) * 4; k < inputs; k += warps * 128) {
            real xs[R][4], ws[U][4];
            for (int i = 0; i < R; ++i)
                load_four(as_packed, x + (long long)within(first_row + i, rows) * x_columns + k, inputs - k, xs[i]);
            for (int j = 0; j < U; ++j)
                load_four(as_packed, W + (long long)within(first_unit + j, units) * inputs + k, inputs - k, ws[j]);
            for (int i = 0; i < R; ++i)
                for (int j = 0; j < U; ++j)
                    for (int q = 0; q < 4; ++q) sum[i * U + j] += xs[i][q] * ws[j][q];
        }
    });
    add_lanes(sum);
    constexpr int each = R * U < 32 ? 1 : R * U / 32, lanes_each = R * U < 32 ? 32 / (R * U) : 1;
    if (lane % lanes_each == 0)
        for (int i = 0; i < each; ++i) partial[lane / lanes_each * each + i] = sum[i];
}
