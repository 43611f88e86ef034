// delta^(L) = scale * dcost/dz^(L), the cost and the bias gradient, in one pass over the output; after a softmax,
// output_delta_softmax.cu.
//   z, a, y : (rows, columns)    b, sums : (columns,)    delta : (rows, delta_columns)    weights : (rows,)
// z may be the product W a^(L-1) alone: then b holds the biases and a is null, and z + b and a = g(z + b) are computed
// on the way, to be written nowhere. Else b is null. sums may be b.
// y may be the targets of all samples: then row i belongs to row order[*at_step * batch + i] of y, as in minibatch.cu.
// order may be null (one after the other), and so may at_step (0).
// weights, with which the samples count, may be null (all 1), and so may delta (the cost alone is wanted) and sums. As
// an operand of products, in rows that are filled up (see padding.py), delta is wanted in bfloat16: narrow_delta. Costs
// are weighted, but not scaled, and added to *total, which is double, for it adds up a whole epoch. Of what sums held,
// `keep` times is kept. Where `step` is not null it is counted up: this is the kernel of a step that runs once and
// after all that read it (see minibatch.cu).
// How a launch is laid out, and what partial and tickets are for, is in column_tiles.cuh; parts : (slices + 1, tiles)
// are the costs of blocks and, last, of tiles. A thread takes `width` columns at once, 1 or as many as fill 16 bytes.
#include "cuda/output.cuh"

// Rows a thread has on their way at a time.
constexpr int IN_FLIGHT = 2;
// Blocks that a multiprocessor has registers for; a grid has 4 for each. In double, arithmetic takes more of them.
constexpr int AT_ONCE = sizeof(real) == 8 ? 3 : 4;

template <class Loss, class G, int N> __device__ void output_delta(const Output& of) {
    const Tiling& tiling = of.tiling;
    const int columns = tiling.columns, column = tiling.column<N, 1>(0, tiling.lane());
    const int step = tiling.at_a_time(), end = column < columns ? tiling.end() : 0;
    const Pack<real, N> bias = column < columns ? of.biases<N>(column) : Pack<real, N>{};
    double cost = 0;
    Pack<real, N> sum[1] = {};
    const long long down = (long long)step * columns;
    int row = tiling.first();
    for (long long i = tiling.entry(row, column); row < end; row += IN_FLIGHT * step, i += IN_FLIGHT * down) {
        Pack<real, N> z[IN_FLIGHT], a[IN_FLIGHT], y[IN_FLIGHT];
        real weight[IN_FLIGHT];
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= end) continue;
            z[u] = load_pack<real, N>(of.z + i + u * down);
            if (of.a) a[u] = load_pack<real, N>(of.a + i + u * down);
            y[u] = load_pack<real, N>(of.targets(row + u * step) + column);
            weight[u] = of.weights ? of.weights[row + u * step] : real(1);
        }
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= end) continue;
            real own = 0;
            Pack<real, N> d;
            for (int j = 0; j < N; ++j) {
                const real zj = z[u].entry[j] + bias.entry[j], yj = y[u].entry[j];
                const real aj = of.a ? a[u].entry[j] : G::value(zj);
                own += Loss::template cost<G>(zj, aj, yj);
                d.entry[j] = weight[u] * of.scale * Loss::template delta<G>(zj, aj, yj);
                sum[0].entry[j] += d.entry[j];
            }
            cost += weight[u] * own;
            of.put_delta(row + u * step, column, d);
        }
    }
    add_up(of, cost, sum);
}

#define DELTAPROP_DO(LOSS, NAME, G)                                                                          \
    extern "C" __global__ __launch_bounds__(256, AT_ONCE) void output_delta_##LOSS##_##NAME(ARGUMENTS) {     \
        if (width > 1)                                                                                       \
            output_delta<loss::LOSS, G, 16 / sizeof(real)>(GIVEN);                                           \
        else                                                                                                 \
            output_delta<loss::LOSS, G, 1>(GIVEN);                                                           \
    }

// Python has each loss compiled alone, by its row of the table in loss.cuh: all at once take ten seconds.
#ifdef DELTAPROP_LOSS
#define DELTAPROP_PAIRS_OF(...) DELTAPROP_PAIRS(__VA_ARGS__)
DELTAPROP_PAIRS_OF(DELTAPROP_LOSS)
#else
DELTAPROP_FOR_EACH_PAIR
#endif
