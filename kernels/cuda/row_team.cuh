// A team of threads shares a row of softmax, in blocks of 32 x 8: some lanes of a warp or, for wide rows, the whole
// block. A thread takes every size()-th pack of N columns, from the place()-th on. It keeps K packs in registers, so
// that a row that fits is read from memory once; the rest of a longer row is read again in every pass.
#pragma once
#include "cuda/pack.cuh"
#include "cuda/real.cuh"
#include "cuda/warp.cuh"
#include "shared/loss.cuh"
#include "shared/quotient.cuh"

struct LanesOfAWarp {
    static constexpr bool is_block = false;
    int log2_lanes;

    __device__ int size() const { return 1 << log2_lanes; }
    __device__ int place() const { return threadIdx.x & (size() - 1); }
    // The number of teams in a block, and the number of this thread's team.
    __device__ int teams() const { return 256 >> log2_lanes; }
    __device__ int team() const { return threadIdx.y * (32 >> log2_lanes) + (threadIdx.x >> log2_lanes); }
    // Reductions over the team. Every thread of the block must call them, even if its team has no row.
    __device__ real max(real x) const { return warp_max(x, size()); }
    __device__ void sums(real& x, real& y) const { warp_sums(x, y, size()); }
};

struct WholeBlock {
    static constexpr bool is_block = true;
    __device__ int size() const { return 256; }
    __device__ int place() const { return threadIdx.y * 32 + threadIdx.x; }
    __device__ int teams() const { return 1; }
    __device__ int team() const { return 0; }
    // Maximum and sum must alternate: the barrier inside one separates two calls of the other.
    __device__ real max(real x) const {
        __shared__ real of_warp[8];
        x = warp_max(x);
        if (threadIdx.x == 0) of_warp[threadIdx.y] = x;
        __syncthreads();
        for (int warp = 0; warp < 8; ++warp) x = larger(x, of_warp[warp]);
        return x;
    }
    __device__ void sums(real& x, real& y) const {
        __shared__ real of_warp[2][8];
        warp_sums(x, y);
        if (threadIdx.x == 0) {
            of_warp[0][threadIdx.y] = x;
            of_warp[1][threadIdx.y] = y;
        }
        __syncthreads();
        x = y = 0;
        for (int warp = 0; warp < 8; ++warp) {
            x += of_warp[0][warp];
            y += of_warp[1][warp];
        }
    }
};

// Packs that a thread keeps: 4 packs of 16 bytes in 256 threads are 4096 floats.
constexpr int HELD = 4;

// This thread's part of a row in registers.
template <int N, class Team>
__device__ inline void hold(const Team& team, const real* row, int columns, Pack<real, N> (&held)[HELD]) {
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        const int column = (k * team.size() + team.place()) * N;
        if (column < columns) held[k] = load_pack<real, N>(row + column);
    }
}

// Calls f(column, pack) for each of this thread's packs: those in registers, and the others, which again(column) reads.
template <int N, class Team, class Again, class F>
__device__ inline void over_packs(const Team& team, int columns, Pack<real, N> (&held)[HELD], Again again, F f) {
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        const int column = (k * team.size() + team.place()) * N;
        if (column < columns) f(column, held[k]);
    }
#pragma unroll 1
    for (int column = (HELD * team.size() + team.place()) * N; column < columns; column += team.size() * N) {
        Pack<real, N> pack = again(column);
        f(column, pack);
    }
}

// A pack for each one that a thread holds, in shared memory. No other thread sees it.
template <int N> struct HeldAside {
    real* first;

    __device__ real* place(int k) const { return first + ((k * 8 + threadIdx.y) * 32 + threadIdx.x) * N; }
    __device__ Pack<real, N> load(int k) const { return load_pack<real, N>(place(k)); }
    __device__ void store(int k, const Pack<real, N>& pack) const { store_pack<real, N>(place(k), pack); }
};
// Entries of shared memory for it, whatever N is.
constexpr int ROOM_ASIDE = HELD * 256 * 16 / sizeof(real);

// Softmax of a row: e^below / sum, where below = z - top is never positive and the sum is never less than 1.
struct Softmax {
    real top, log_sum, sum, reciprocal;

    __device__ real value(real below) const { return activation::refined_quotient(exp(below), sum, reciprocal); }
};

// The softmax of the row that the team holds, and reads again, from the largest z that each thread has seen.
template <int N, class Team, class Again>
__device__ inline Softmax softmax_of_row(const Team& team, int columns, Pack<real, N> (&held)[HELD], Again again,
                                         real top) {
    top = team.max(top);
    loss::ExponentialSum<real> exponentials{0, 0};
    over_packs(team, columns, held, again, [&](int, const Pack<real, N>& z) {
        for (int j = 0; j < N; ++j) {
            const real below = z.entry[j] - top;
            exponentials.add(below, exp(below));
        }
    });
    team.sums(exponentials.others, exponentials.tops);
    const real sum = exponentials.value();
    return Softmax{top, exponentials.log(), sum, real(1) / sum};
}
