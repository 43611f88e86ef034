// The minibatch of a step that a CUDA graph replays: which step it is stands on the device.
//   x : (n, columns of x)   y : (n, columns of y)   w : (n,) or null, in the order of the epoch
//   order : (n,) or null    table : (steps, TERMS), what differs from step to step
// Rows order[first] ... order[first + rows - 1] of x and y, first = step * batch, go to to_x and to_y, their weights to
// to_w, and the numbers of this step to `current`, from where the kernels that follow take them. The kernel of
// the output layer counts the step.
// The first x_blocks blocks copy x, the others all else: 2^log2_x threads a row of x, 2^log2_y a row of y, x_bytes and
// y_bytes at a time. to_x holds `storage`; where that is 16 bits, its rows are filled up to to_columns.
#include "cuda/narrow_row.cuh"
#include "cuda/real.cuh"

struct alignas(16) Sixteen {
    unsigned word[4];
};
struct alignas(8) Eight {
    unsigned word[2];
};

// Pieces that a thread has on their way at a time.
constexpr int IN_FLIGHT = 4;

// Which rows a block copies, and with how many threads each.
struct RowsOfBlock {
    int log2_threads;
    const long long* order;
    long long first;
    unsigned rows, block, blocks;  // with 64 bits the compiler would not store a pack at once

    __device__ int threads() const { return 1 << log2_threads; }
    __device__ int thread() const { return threadIdx.x & (threads() - 1); }
    __device__ long long place(unsigned row) const { return order && row < rows ? order[first + row] : first + row; }
    // f(row, place) for each row of this thread and where it comes from. The place of the row after it is on its way
    // while f runs.
    template <class F> __device__ void each(F f) const {
        const unsigned at_a_time = 256 >> log2_threads, step = blocks * at_a_time;
        unsigned row = block * at_a_time + (threadIdx.x >> log2_threads);
        long long from = place(row);
#pragma unroll 1
        for (; row < rows; row += step) {
            const long long next = place(row + step);
            f(row, from);
            from = next;
        }
    }
};

template <class Piece> __device__ void copy_rows(const real* from, real* to, int columns, const RowsOfBlock& rows) {
    const int pieces = columns * (int)sizeof(real) / (int)sizeof(Piece), threads = rows.threads();
    rows.each([&](unsigned row, long long place) {
        const Piece* source = reinterpret_cast<const Piece*>(from) + place * pieces;
        Piece* target = reinterpret_cast<Piece*>(to) + (long long)row * pieces;
#pragma unroll 1
        for (int piece = rows.thread(); piece < pieces; piece += IN_FLIGHT * threads) {
            Piece held[IN_FLIGHT];
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; ++u)
                if (piece + u * threads < pieces) held[u] = source[piece + u * threads];
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; ++u)
                if (piece + u * threads < pieces) target[piece + u * threads] = held[u];
        }
    });
}

__device__ void copy(int bytes, const real* from, real* to, int columns, int, const RowsOfBlock& rows) {
    if (bytes == 16)
        copy_rows<Sixteen>(from, to, columns, rows);
    else if (bytes == 8)
        copy_rows<Eight>(from, to, columns, rows);
    else
        copy_rows<real>(from, to, columns, rows);
}

#ifdef DELTAPROP_BFLOAT16
__device__ void copy(int bytes, const real* from, storage* to, int columns, int to_columns, const RowsOfBlock& rows) {
    rows.each([&](unsigned row, long long place) {
        narrow_row(from + place * columns, to + (long long)row * to_columns, columns, to_columns, rows.thread(),
                   rows.threads(), bytes == 16, to_bfloat16_pair);
    });
}
#endif

extern "C" __global__ __launch_bounds__(256) void minibatch(
    const real* x, const real* y, const real* w, const long long* order, const real* table, const long long* step,
    storage* to_x, real* to_y, real* to_w, real* current, int x_columns, int to_columns, int y_columns, int x_bytes,
    int y_bytes, int log2_x, int log2_y, unsigned x_blocks, int terms, long long batch, long long rows) {
    const long long k = step[0], first = k * batch;
    if (blockIdx.x < x_blocks) {
        const RowsOfBlock own{log2_x, order, first, unsigned(rows), blockIdx.x, x_blocks};
        copy(x_bytes, x, to_x, x_columns, to_columns, own);
        return;
    }
    const unsigned block = blockIdx.x - x_blocks, blocks = gridDim.x - x_blocks;
    copy(y_bytes, y, to_y, y_columns, y_columns, RowsOfBlock{log2_y, order, first, unsigned(rows), block, blocks});
    const long long thread = (long long)block * blockDim.x + threadIdx.x, all = (long long)blocks * blockDim.x;
    if (w)
        for (long long i = thread; i < rows; i += all) to_w[i] = w[first + i];
    if (thread < terms) current[thread] = table[k * terms + thread];
}
