// Shared by output_delta.cu and output_delta_softmax.cu: their arguments, and the sums for the cost and the bias
// gradient.
#pragma once
#include "shared/activation.cuh"
#include "cuda/column_tiles.cuh"
#include "cuda/stored_pack.cuh"
#include "shared/loss.cuh"

#define ARGUMENTS                                                                                                   \
    const real *z, const real *b, const real *a, const real *y, const long long *order, const long long *at_step,   \
        long long batch, const real *weights, real *delta, unsigned short *narrow_delta, int delta_columns,         \
        real scale_at_launch, const real *scale_on_device, double *total, long long *step, double *parts,           \
        real *sums, real *partial, unsigned *tickets, int rows, int columns, int tiles, int rows_per_block,         \
        int log2_lanes, int width, real keep
#define GIVEN                                                                                                       \
    Output {                                                                                                        \
        z, b, a, y, order, at_step ? *at_step * batch : 0, weights, delta, narrow_delta, delta_columns,             \
            number(scale_at_launch, scale_on_device), total, step, parts, sums, partial, tickets, keep,             \
            Tiling { rows, columns, tiles, rows_per_block, log2_lanes, columns }                                    \
    }

struct Output {
    const real *z, *b, *a, *y;
    const long long *order;
    long long first_target;
    const real *weights;
    real* delta;
    unsigned short* narrow_delta;
    int delta_columns;
    real scale;
    double* total;
    long long *step;
    double *parts;
    real *sums, *partial;
    unsigned *tickets;
    real keep;
    Tiling tiling;

    // The row of y that belongs to a row of z.
    __device__ const real* targets(int row) const {
        const long long place = first_target + row;
        return y + (order ? order[place] : place) * tiling.columns;
    }
    // The biases of N units, added to their z; they are 0 where z has its bias already.
    template <int N> __device__ Pack<real, N> biases(int column) const {
        Pack<real, N> pack = {};
        for (int j = 0; j < N && b; ++j) pack.entry[j] = b[column + j];
        return pack;
    }
    template <int N> __device__ void put_delta(int row, int column, const Pack<real, N>& own) const {
        const long long at = (long long)row * delta_columns + column;
        if (narrow_delta) {
            store_rounded<N, Bfloat16Pack<N>>(narrow_delta + at, own);
        } else if (delta) {
            store_pack<real, N>(delta + at, own);
        }
    }
};

// Called a few times a block: spelled out in every kernel it would take the compiler a second more.
__device__ __noinline__ double over_the_block(double x) {
    __shared__ double of_warp[8];
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    __syncthreads();  // the earlier sum has been read
    if (threadIdx.x == 0) of_warp[threadIdx.y] = x;
    __syncthreads();
    x = of_warp[0];
    for (int warp = 1; warp < 8; ++warp) x += of_warp[warp];
    return x;
}

// Adds each thread's part of the cost to *total, and its sums over rows to `sums`.
template <int N, int K> __device__ void add_up(const Output& to, double cost, Pack<real, N> (&sum)[K]) {
    const int tiles = gridDim.x, slices = gridDim.y, thread = threadIdx.y * 32 + threadIdx.x;
    double* of_tiles = to.parts + (long long)slices * tiles;
    cost = over_the_block(cost);
    if (thread == 0 && slices > 1) to.parts[(long long)blockIdx.y * tiles + blockIdx.x] = cost;
    if (!add_up_slices(to.tiling, sum, to.sums, to.partial, to.tickets, to.keep)) return;
    if (slices > 1) {
        cost = 0;
        for (int slice = thread; slice < slices; slice += 256) cost += to.parts[(long long)slice * tiles + blockIdx.x];
        cost = over_the_block(cost);
    }
    if (tiles > 1) {
        if (thread == 0) of_tiles[blockIdx.x] = cost;
        if (!is_last_block(to.tickets + tiles, tiles)) return;
        cost = 0;
        for (int tile = thread; tile < tiles; tile += 256) cost += of_tiles[tile];
        cost = over_the_block(cost);
    }
    if (thread == 0) {
        *to.total += cost;
        if (to.step) *to.step += 1;
    }
}
