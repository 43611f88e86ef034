// As output_delta.cu, for cross-entropy after a softmax, but a is never read: it is computed again from z. There is one
// tile, and a team of threads a row. What a thread does not hold has no part in the sums. A whole block leaves those of
// its rows in `partial` : (slices, columns), where that is not null, for column_sum.
// In registers, a thread has its part of z and y of a row and of z of the next one, so that memory is busy while the
// team waits for its sums. What else it keeps is in shared memory, so that two blocks fit on a multiprocessor.
#include "cuda/output.cuh"
#include "cuda/row_team.cuh"

template <class Loss, int N, class Team>
__device__ void categorical_cross_entropy(const Output& of, const Team& team, real* room) {
    const int columns = of.tiling.columns, begin = blockIdx.y * of.tiling.rows_per_block, end = of.tiling.end();
    const HeldAside<N> biases{room}, sums{room + ROOM_ASIDE};
    for (int k = 0; k < HELD; ++k) {
        const int column = (k * team.size() + team.place()) * N;
        biases.store(k, column < columns ? of.biases<N>(column) : Pack<real, N>{});
        sums.store(k, {});
    }
    double cost = 0;
    // What the first row and, further down, the next one need is on its way before the row's turn.
    Pack<real, N> z[HELD];
    const bool any = begin + team.team() < end;
    const real* yr = any ? of.targets(begin + team.team()) : of.y;
    hold(team, of.z + (long long)(begin + team.team()) * columns, any ? columns : 0, z);
    for (int first = begin; first < end; first += team.teams()) {
        const int row = first + team.team(), here = row < end ? columns : 0, next = row + team.teams();
        const real *zr = of.z + (long long)row * columns, *yr_of_next = next < end ? of.targets(next) : of.y;
        const real weight = here && of.weights ? of.weights[row] : real(1), factor = weight * of.scale;
        Pack<real, N> y[HELD], z_of_next[HELD];
        hold(team, yr, here, y);
        hold(team, zr + (long long)team.teams() * columns, next < end ? columns : 0, z_of_next);
        const auto with_bias = [](Pack<real, N> own, const Pack<real, N>& bias) {
            for (int j = 0; j < N; ++j) own.entry[j] += bias.entry[j];
            return own;
        };
        const auto again = [&](int column) {
            return with_bias(load_pack<real, N>(zr + column), of.biases<N>(column));
        };
#pragma unroll
        for (int k = 0; k < HELD; ++k) z[k] = with_bias(z[k], biases.load(k));
        real top = minus_infinity();
        over_packs(team, here, z, again, [&](int, const Pack<real, N>& own) {
            for (int j = 0; j < N; ++j) top = larger(top, own.entry[j]);
        });
        const Softmax softmax = softmax_of_row(team, here, z, again, top);
        real own_cost = 0;
        const auto finish = [&](int column, const Pack<real, N>& zp, const Pack<real, N>& yp) {
            Pack<real, N> d;
            for (int j = 0; j < N; ++j) {
                const real below = zp.entry[j] - softmax.top;
                own_cost += Loss::cost(yp.entry[j], softmax.log_sum, below);
                d.entry[j] = factor * (softmax.value(below) - yp.entry[j]);
            }
            of.put_delta(row, column, d);
            return d;
        };
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            const int column = (k * team.size() + team.place()) * N;
            if (column < here) sums.store(k, with_bias(sums.load(k), finish(column, z[k], y[k])));
            z[k] = z_of_next[k];
        }
#pragma unroll 1
        for (int column = (HELD * team.size() + team.place()) * N; column < here; column += team.size() * N)
            finish(column, again(column), load_pack<real, N>(yr + column));
        yr = yr_of_next;
        cost += weight * own_cost;
    }
    Pack<real, N> sum[HELD];
    for (int k = 0; k < HELD; ++k) sum[k] = sums.load(k);
    if constexpr (Team::is_block) {
        for (int k = 0; k < HELD && of.partial; ++k) {
            const int column = (k * team.size() + team.place()) * N;
            if (column < columns) store_pack<real, N>(of.partial + (long long)blockIdx.y * columns + column, sum[k]);
        }
        Pack<real, 1> no_sum[1] = {};
        add_up(of, cost, no_sum);
    } else {
        add_up(of, cost, sum);
    }
}

template <class Loss> __device__ void categorical_cross_entropy(const Output& of, int width) {
    __shared__ Pack<real, 2 * ROOM_ASIDE> room;
    constexpr int wide = 16 / sizeof(real);
    const LanesOfAWarp lanes{of.tiling.log2_lanes};
    if (lanes.log2_lanes > 5 && width > 1)
        categorical_cross_entropy<Loss, wide>(of, WholeBlock{}, room.entry);
    else if (lanes.log2_lanes > 5)
        categorical_cross_entropy<Loss, 1>(of, WholeBlock{}, room.entry);
    else if (width > 1)
        categorical_cross_entropy<Loss, wide>(of, lanes, room.entry);
    else
        categorical_cross_entropy<Loss, 1>(of, lanes, room.entry);
}

extern "C" __global__ __launch_bounds__(256, 2)
    void output_delta_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<loss::categorical_cross_entropy>(GIVEN, width);
}
extern "C" __global__ __launch_bounds__(256, 2)
    void output_delta_clipped_categorical_cross_entropy_softmax(ARGUMENTS) {
    categorical_cross_entropy<loss::clipped_categorical_cross_entropy>(GIVEN, width);
}
