// z = (W a) + b, a = softmax(z) = e^(z - max z) / sum e^(z - max z): a team of threads a row.
//   z, a : (members, rows, columns)    b : (members, columns)
#include "shared/activation.cuh"
#include "cuda/row_team.cuh"

template <int N, class Team>
__device__ void softmax_rows(real* z, const real* __restrict__ b, real* a, int rows, int columns, long long b_stride,
                             long long all_rows, const Team& team) {
    const long long step = (long long)gridDim.x * team.teams();
    for (long long first = (long long)blockIdx.x * team.teams(); first < all_rows; first += step) {
        const long long row = first + team.team();
        const int here = row < all_rows ? columns : 0;
        real* zr = z + row * columns;
        real* ar = a + row * columns;
        const real* br = b + (b_stride ? row / rows * b_stride : 0);
        Pack<real, N> held[HELD];
        hold(team, zr, here, held);
        const auto again = [&](int column) { return load_pack<real, N>(zr + column); };
        real top = minus_infinity();
        over_packs(team, here, held, again, [&](int column, Pack<real, N>& own) {
            for (int j = 0; j < N; ++j) {
                own.entry[j] += br[column + j];
                top = larger(top, own.entry[j]);
            }
            store_pack<real, N>(zr + column, own);
        });
        const Softmax softmax = softmax_of_row(team, here, held, again, top);
        over_packs(team, here, held, again, [&](int column, Pack<real, N>& own) {
            for (int j = 0; j < N; ++j) own.entry[j] = softmax.value(own.entry[j] - softmax.top);
            store_pack<real, N>(ar + column, own);
        });
    }
}

extern "C" __global__ __launch_bounds__(256) void bias_softmax(
    real* z, const real* __restrict__ b, real* a, int rows, int columns, long long b_stride, int log2_team, int width,
    long long all_rows) {
    constexpr int wide = 16 / sizeof(real);
    const LanesOfAWarp lanes{log2_team};
    if (log2_team > 5 && width > 1)
        softmax_rows<wide>(z, b, a, rows, columns, b_stride, all_rows, WholeBlock{});
    else if (log2_team > 5)
        softmax_rows<1>(z, b, a, rows, columns, b_stride, all_rows, WholeBlock{});
    else if (width > 1)
        softmax_rows<wide>(z, b, a, rows, columns, b_stride, all_rows, lanes);
    else
        softmax_rows<1>(z, b, a, rows, columns, b_stride, all_rows, lanes);
}
