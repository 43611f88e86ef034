// Products of 16 rows by 8 columns on the tensor cores of a warp, 16 terms of the sum at a time. Operands are bfloat16,
// or float that is rounded to TF32; the sums are float.
//
// Lane 4 g + t holds entries 4 t ... 4 t + 3 of row or column g. The instructions expect another order of the terms,
// but the sum is the same as long as both operands use the same order. So a lane can read four entries at once.
#pragma once
#include "cuda/bfloat16.cuh"
#include "cuda/fragment.cuh"

#if !defined(DELTAPROP_DOUBLE) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
#define DELTAPROP_TENSOR_CORES

#ifndef __CUDACC__
struct Four {
    float x[4];
};
#ifdef DELTAPROP_BFLOAT16
inline float host_rounded(float x) { return from_bfloat16(to_bfloat16(x)); }
#else
inline float host_rounded(float x) {  // ten bits after the point; ties away from zero
    FloatBits u;
    u.number = x;
    if (x - x == 0) u.bits = (u.bits + 0x1000u) & ~0x1fffu;
    return u.number;
}
#endif
inline Four rounded(real a, real b, real c, real d) {
    return {{host_rounded(a), host_rounded(b), host_rounded(c), host_rounded(d)}};
}
inline void multiply_add(real (&sum)[4], const Four& top, const Four& bottom, const Four& column) {
    host_multiply_add(sum, top.x, bottom.x, column.x);
}

#elif defined(DELTAPROP_BFLOAT16)
struct Four {
    unsigned low, high;  // two entries each
};
__device__ inline unsigned pair_of(real first, real second) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}
__device__ inline Four rounded(real a, real b, real c, real d) { return {pair_of(a, b), pair_of(c, d)}; }
__device__ inline void multiply_add(real (&sum)[4], const Four& top, const Four& bottom, const Four& column) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(top.low), "r"(bottom.low), "r"(top.high), "r"(bottom.high), "r"(column.low), "r"(column.high));
}

#else
struct Four {
    unsigned x[4];
};
__device__ inline unsigned tf32_of(real x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
__device__ inline Four rounded(real a, real b, real c, real d) {
    return {{tf32_of(a), tf32_of(b), tf32_of(c), tf32_of(d)}};
}
__device__ inline void multiply_add(real (&sum)[4], const Four& top, const Four& bottom, const Four& column) {
    for (int i = 0; i < 4; i += 2)  // eight entries of the sum each
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(top.x[i]), "r"(bottom.x[i]), "r"(top.x[i + 1]), "r"(bottom.x[i + 1]), "r"(column.x[i]),
              "r"(column.x[i + 1]));
}
#endif

// One warp's product of 16 M rows by 8 N columns, or a part of its sum. The reader of the operands chooses the rows.
// The order of the columns gives each lane 2 N neighbours: column N g + n is number g of the n-th product of 8.
template <int M, int N> struct TensorTile {
    static constexpr int rows = 16 * M, columns = 8 * N;
    real sum[M][N][4] = {};

    // rows[2 i] and rows[2 i + 1] are row g of the upper and the lower half of the i-th product of 16.
    __device__ void add(const Four (&rows)[2 * M], const Four (&columns)[N]) {
        for (int i = 0; i < M; ++i)
            for (int n = 0; n < N; ++n) multiply_add(sum[i][n], rows[2 * i], rows[2 * i + 1], columns[n]);
    }
    // Writes the sums to shared memory, in rows that are `stride` apart. row(i) is the number of rows[i] in the tile.
    template <class Row> __device__ void put(real* to, int stride, Row row) const {
        const int t = threadIdx.x % 4;
        for (int i = 0; i < 2 * M; ++i)
            for (int first = 0; first < 2 * N; first += 4) {
                Pack<real, 4> pack;
                for (int j = 0; j < 4; ++j)
                    pack.entry[j] = sum[i / 2][(first + j) % N][2 * (i % 2) + (first + j) / N];
                store_pack<real, 4>(to + row(i) * stride + 2 * N * t + first, pack);
            }
    }
};

// Reads entries k ... k + 3 of row `row` of x, (rows, length), in rows `columns` apart; rows beyond repeat the last.
template <bool PACKED, typename T>
__device__ inline Four along_row(Rows<PACKED> packed, const T* x, int row, int rows, int columns, int k, int length) {
    real four[4];
    load_four(packed, x + (long long)within(row, rows) * columns + k, length - k, four);
    return rounded(four[0], four[1], four[2], four[3]);
}

// Takes entry n of each of the four rows that `load_rows` has read.
template <int N> __device__ inline Four down_column(const real (&x)[4][N / 4][4], int n) {
    return rounded(x[0][n / 4][n % 4], x[1][n / 4][n % 4], x[2][n / 4][n % 4], x[3][n / 4][n % 4]);
}
#endif
