// z = (W a) + b, a = g(z), after the matrix product has written W a into z: one pass for both.
//   z, a, mask : (members, rows, columns)    b : (members, columns)
// The mask, of dropout, may be null: a = g(z) * mask. z, a and mask are stored as `storage`, b is a `real`.
// How a launch is laid out is in column_tiles.cuh: a thread stays in its columns, whose biases it holds, and goes down
// the rows. It takes `width` columns, 1 or as many as fill 8 or 16 bytes.
#include "activation.cuh"
#include "column_tiles.cuh"

// Rows a thread has on their way at a time.
constexpr int IN_FLIGHT = 2;

template <class G, int N>
__device__ void down_the_rows(storage* z, const real* b, const storage* __restrict__ mask, storage* a, long long b_stride,
                              const Tiling& tiling) {
    const int columns = tiling.columns, column = tiling.column<N, 1>(0, tiling.lane());
    if (column >= columns) return;
    const int step = tiling.at_a_time(), end = tiling.end();
    const long long down = (long long)step * columns;
    real bias[N];
    for (int j = 0; j < N; ++j) bias[j] = b[tiling.member() * b_stride + column + j];
    int row = tiling.first();
    for (long long i = tiling.entry(row, column); row < end; row += IN_FLIGHT * step, i += IN_FLIGHT * down) {
        Pack<storage, N> zi[IN_FLIGHT], mu, ai;
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u)
            if (row + u * step < end) zi[u] = load_pack<storage, N>(z + i + u * down);
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= end) continue;
            if (mask) mu = load_pack<storage, N>(mask + i + u * down);
            for (int j = 0; j < N; ++j) {
                const real own = load(zi[u].entry[j]) + bias[j];
                zi[u].entry[j] = store(own);
                ai.entry[j] = store(G::value(own));
                if (mask) ai.entry[j] = store(load(ai.entry[j]) * load(mu.entry[j]));
            }
            store_pack<storage, N>(z + i + u * down, zi[u]);
            store_pack<storage, N>(a + i + u * down, ai);
        }
    }
}

#define DEFINE(NAME, G)                                                                                         \
    extern "C" __global__ __launch_bounds__(256) void                                                           \
        bias_activation_##NAME(storage* z, const real* b, const storage* mask, storage* a, long long b_stride,  \
                               int rows, int columns, int tiles, int rows_per_block, int log2_lanes, int width) { \
        const Tiling tiling{rows, columns, tiles, rows_per_block, log2_lanes};                                  \
        if (width == 1)                                                                                         \
            down_the_rows<G, 1>(z, b, mask, a, b_stride, tiling);                                               \
        else if (width == 8 / sizeof(storage))                                                                  \
            down_the_rows<G, 8 / sizeof(storage)>(z, b, mask, a, b_stride, tiling);                             \
        else                                                                                                    \
            down_the_rows<G, 16 / sizeof(storage)>(z, b, mask, a, b_stride, tiling);                            \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
