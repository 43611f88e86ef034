// A launch over (members, rows, columns): each thread keeps its columns, goes down the rows, and may add up each column
// on the way.
//
// A block has 32 x 8 threads. 2^log2_lanes lanes of a warp lie along a row; the other lanes take the next rows. A tile
// is the columns of a block: each lane has K packs of N columns, 2^log2_lanes packs apart. The grid's x axis counts the
// tiles of all members, its y axis slices of rows, so that y and z stay small.
//
// No atomics on numbers: the order of summation is fixed, so the same input gives the same bits.
#pragma once
#include "cuda/last_block.cuh"
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

struct Tiling {
    int rows, columns, tiles, rows_per_block, log2_lanes;
    int units;  // only the first `units` columns are summed

    __device__ int member() const { return tiles == int(gridDim.x) ? 0 : int(blockIdx.x) / tiles; }
    __device__ int tile() const { return int(blockIdx.x) - member() * tiles; }
    __device__ int lanes() const { return 1 << log2_lanes; }
    __device__ int lane() const { return threadIdx.x & (lanes() - 1); }
    // The number of rows that the block takes at a time, and the one that this thread takes.
    __device__ int at_a_time() const { return 256 >> log2_lanes; }
    __device__ int row() const { return threadIdx.y * (32 >> log2_lanes) + (threadIdx.x >> log2_lanes); }
    // This thread takes every at_a_time()-th row from the first one.
    __device__ int first() const { return blockIdx.y * rows_per_block + row(); }
    __device__ int end() const {
        const int end = (blockIdx.y + 1) * rows_per_block;
        return end < rows ? end : rows;
    }
    // The place of entry (row, column) of this member.
    __device__ long long entry(int row, int column) const {
        return ((long long)member() * rows + row) * columns + column;
    }
    // The first column of pack k of a lane.
    template <int N, int K> __device__ int column(int k, int lane) const {
        return ((tile() * K + k) * lanes() + lane) * N;
    }
};

// sum += rows first, first + step ... of x, whose row 0 is at `from` and whose rows are `columns` apart. Several rows
// are loaded at a time, also near the end.
template <int N, typename T, class F>
__device__ void add_rows(Pack<real, N>& sum, const T* from, int first, int end, int step, int columns, F convert) {
    constexpr int IN_FLIGHT = N > 2 ? 4 : 8;
    const long long down = (long long)step * columns;
    from += (long long)first * columns;
#pragma unroll 1
    for (int row = first; row < end; row += IN_FLIGHT * step, from += IN_FLIGHT * down) {
        Pack<T, N> x[IN_FLIGHT];
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u)
            if (row + u * step < end) x[u] = load_pack<T, N>(from + u * down);
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u)
            if (row + u * step < end)
                for (int j = 0; j < N; ++j) sum.entry[j] += convert(x[u].entry[j]);
    }
}

// Adds up, over the block's rows, the N values of each thread, one a column: thread c of the block gets the sum of
// column c. Threads beyond the columns get nothing.
template <int N> __device__ real down_the_block(Pack<real, N> sum, int log2_lanes) {
    __shared__ real of_warp[8][32 * N + 1];
    const int lanes = 1 << log2_lanes, thread = threadIdx.y * 32 + threadIdx.x;
    for (int distance = lanes; distance < 32; distance *= 2)
        for (int j = 0; j < N; ++j) sum.entry[j] += __shfl_xor_sync(0xffffffffu, sum.entry[j], distance);
    __syncthreads();  // the earlier sums have been read
    if (threadIdx.x < lanes)
        for (int j = 0; j < N; ++j) of_warp[threadIdx.y][threadIdx.x * N + j] = sum.entry[j];
    __syncthreads();
    if (thread >= lanes * N) return 0;
    real total = of_warp[0][thread];
    for (int warp = 1; warp < 8; ++warp) total += of_warp[warp][thread];
    return total;
}

// sums : (members, units) = keep * sums + the sum over all rows of each thread's `sum`, unless `sums` is null.
// With several slices, every block writes its sums to `partial` : (members, slices, columns), and the last block of
// a tile adds them up. Returns whether this is that block, which sees what all others wrote before.
template <int N, int K>
__device__ bool add_up_slices(const Tiling& tiling, Pack<real, N> (&sum)[K], real* sums, real* partial,
                              unsigned* tickets, real keep) {
    const int slices = gridDim.y, columns = tiling.columns, thread = threadIdx.y * 32 + threadIdx.x;
    const long long member = tiling.member();
    // write(column, sum) by one thread for each column of the tile
    const auto of_columns = [&](auto write) {
        for (int k = 0; k < K; ++k) {
            const int first = tiling.column<N, K>(k, 0), column = first + thread;
            if (K > 1 && first >= columns) break;
            const real total = down_the_block<N>(sum[k], tiling.log2_lanes);
            if (thread < tiling.lanes() * N && column < columns) write(column, total);
        }
    };
    if (slices > 1) {
        real* of_slices = partial + member * slices * columns;
        if (sums)
            of_columns([&](int column, real total) { of_slices[(long long)blockIdx.y * columns + column] = total; });
        if (!is_last_block(tickets + blockIdx.x, slices)) return false;
        for (int k = 0; k < K && sums; ++k) {
            const int column = tiling.column<N, K>(k, tiling.lane());
            sum[k] = {};
            if (column < columns)
                add_rows(sum[k], of_slices + column, tiling.row(), slices, tiling.at_a_time(), columns,
                         [](real x) { return x; });
        }
    }
    if (sums)
        of_columns([&](int column, real total) {
            if (column >= tiling.units) return;
            real* to = sums + member * tiling.units + column;
            *to = keep == real(0) ? total : keep * *to + total;
        });
    return true;
}
