// delta^(l) = (W^T delta^(l+1)) * g'(z^(l)), after the matrix product has written W^T delta^(l+1) into delta,
// and in the same pass the bias gradient, which is the sum of delta^(l) over the samples.
//   delta, z, mask : (members, rows, columns)    sums : (members, units); further columns fill rows up, see padding.py
// The mask, of dropout, may be null: delta^(l) is multiplied by it as a^(l) was. delta, z and mask are stored as
// `storage`; sums are `real`, of delta before it is rounded to that. What sums held before is kept `keep` times: 0
// writes them, 1 adds. How a launch is laid out, and what partial and tickets are for, is in column_tiles.cuh; a thread
// takes `width` columns, 1 or as many as fill 8 or 16 bytes.
#include "cuda/column_tiles.cuh"
#include "cuda/storage_activation.cuh"
#include "cuda/stored_pack.cuh"

#define ENDS                                                                                            \
    real *sums, real *partial, unsigned *tickets, int rows, int columns, int tiles, int rows_per_block, \
        int log2_lanes, int width, int units, real keep

// Rows of packs of N that a thread has on their way at a time: memory answers after some hundred cycles, and all of
// them together. More than 16 entries would be too many instructions.
template <int N> constexpr int rows_in_flight = N > 4 ? 2 : 4;

// Blocks that a multiprocessor has registers for: all that tiling.py asks for, but of double.
constexpr int BLOCKS_TOGETHER = sizeof(real) == 8 ? 3 : 4;

template <class G, int N>
__device__ void hidden_delta(storage* delta, const storage* z, const storage* __restrict__ mask, real* sums,
                             real* partial, unsigned* tickets, real keep, const Tiling& tiling) {
    constexpr int IN_FLIGHT = rows_in_flight<N>;
    Pack<real, N> sum[1] = {};
    const int columns = tiling.columns, column = tiling.column<N, 1>(0, tiling.lane());
    const int step = tiling.at_a_time(), end = column < columns ? tiling.end() : 0;
    const long long down = (long long)step * columns;
    int row = tiling.first();
    for (long long i = tiling.entry(row, column); row < end; row += IN_FLIGHT * step, i += IN_FLIGHT * down) {
        StoredPack<N> d[IN_FLIGHT], zi[IN_FLIGHT], mu;
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= end) continue;
            d[u] = load_stored<N>(delta + i + u * down);
            zi[u] = load_stored<N>(z + i + u * down);
        }
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= end) continue;
            if (mask) mu = load_stored<N>(mask + i + u * down);
            Pack<real, N> own;
            for (int j = 0; j < N; ++j) {
                own.entry[j] = d[u].entry(j) * G::gradient(zi[u].entry(j));
                if (mask) own.entry[j] *= mu.entry(j);
                sum[0].entry[j] += own.entry[j];
            }
            store_rounded<N>(delta + i + u * down, own);
        }
    }
    add_up_slices<N, 1>(tiling, sum, sums, partial, tickets, keep);
}

template <int N>
__device__ void sum_columns(const storage* x, real* sums, real* partial, unsigned* tickets, real keep,
                           const Tiling& tiling) {
    Pack<real, N> sum[1] = {};
    const int columns = tiling.columns, column = tiling.column<N, 1>(0, tiling.lane());
    if (column < columns)
        add_rows(sum[0], x + tiling.entry(0, column), tiling.first(), tiling.end(), tiling.at_a_time(), columns,
                 [](storage entry) { return load(entry); });
    add_up_slices<N, 1>(tiling, sum, sums, partial, tickets, keep);
}

#define FOR_WIDTH(F, ...)                                                          \
    const Tiling tiling{rows, columns, tiles, rows_per_block, log2_lanes, units};  \
    if (width == 1)                                                                \
        F(1)(__VA_ARGS__, sums, partial, tickets, keep, tiling);                   \
    else if (width == 8 / sizeof(storage))                                         \
        F(8 / sizeof(storage))(__VA_ARGS__, sums, partial, tickets, keep, tiling); \
    else                                                                           \
        F(16 / sizeof(storage))(__VA_ARGS__, sums, partial, tickets, keep, tiling);

// The sums alone: the bias gradient of the output layer.
#define COLUMN_SUM(N) sum_columns<N>
extern "C" __global__ __launch_bounds__(256) void column_sum(const storage* x, ENDS) { FOR_WIDTH(COLUMN_SUM, x) }

#define HIDDEN_DELTA(N) hidden_delta<Activation, N>
#define DEFINE(NAME, G)                                                                            \
    extern "C" __global__ __launch_bounds__(256, BLOCKS_TOGETHER) void hidden_delta_##NAME(        \
        storage* delta, const storage* z, const storage* mask, ENDS) {                             \
        using Activation = ForStorage<G>;                                                          \
        FOR_WIDTH(HIDDEN_DELTA, delta, z, mask)                                                    \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
