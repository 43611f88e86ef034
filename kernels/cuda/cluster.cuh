// Thread-block clusters, whose blocks write to each other's shared memory (sm_90 and later), and copies from global to
// shared memory that go on while the threads compute. A cluster of one is an ordinary block, on any architecture.
// Compiled as C++, all of it is what the including program makes of it (tests/host_cuda.h).
#pragma once

#ifdef __CUDACC__

#define DELTAPROP_DYNAMIC_SHARED(NAME) extern __shared__ __align__(16) unsigned char NAME[]

// Whether this architecture has clusters of more than one block.
#if __CUDA_ARCH__ >= 900
#define DELTAPROP_HAS_CLUSTERS 1
#else
#define DELTAPROP_HAS_CLUSTERS 0
#endif

template <int BLOCKS> __device__ inline int cluster_rank() {
    unsigned rank = 0;
#if DELTAPROP_HAS_CLUSTERS
    if (BLOCKS > 1) asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
    return (int)rank;
}

// Every thread of the cluster has come here, and what each wrote before is seen by all after.
template <int BLOCKS> __device__ inline void cluster_sync() {
#if DELTAPROP_HAS_CLUSTERS
    if (BLOCKS > 1) {
        asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
        return;
    }
#endif
    __syncthreads();
}

// The address in block `rank` of what lies at `mine` in this one's shared memory.
template <int BLOCKS, typename T> __device__ inline T* of_block(T* mine, int rank) {
#if DELTAPROP_HAS_CLUSTERS
    if (BLOCKS > 1) {
        T* theirs;
        asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(mine), "r"(rank));
        return theirs;
    }
#endif
    return mine;
}

// Where in shared memory.
__device__ inline unsigned shared_place(const void* x) { return (unsigned)__cvta_generic_to_shared(x); }

// An Arrivals counts the bytes that blocks of the cluster send to the block in whose shared memory it lies: a barrier
// that costs the blocks no fence. It has phases. A phase ends when as many bytes have come as one thread of that
// block has said it expects; their parities alternate, the first is 0.
typedef unsigned long long Arrivals;

// One thread; a barrier of the cluster has to follow.
__device__ inline void arrivals_begin(Arrivals* arrivals) {
#if DELTAPROP_HAS_CLUSTERS
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n\tfence.mbarrier_init.release.cluster;" ::"r"(
                     shared_place(arrivals))
                 : "memory");
#endif
}

// One thread, once a phase, before or after the first bytes come.
__device__ inline void arrivals_expected(Arrivals* arrivals, int bytes) {
#if DELTAPROP_HAS_CLUSTERS
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_place(arrivals)), "r"(bytes)
                 : "memory");
#endif
}

// Waits for the end of the phase of this parity: what was sent in it is seen from then on.
__device__ inline void arrivals_wait(Arrivals* arrivals, unsigned parity) {
#if DELTAPROP_HAS_CLUSTERS
    unsigned ended = 0;
    while (!ended)
        asm volatile("{\n\t.reg .pred ended;\n\t"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 ended, [%1], %2;\n\t"
                     "selp.u32 %0, 1, 0, ended;\n\t}"
                     : "=r"(ended)
                     : "r"(shared_place(arrivals)), "r"(parity)
                     : "memory");
#endif
}

// Writes 4, 8 or 16 bytes to where `mine` lies, in block `rank`, and tells its `arrivals`.
template <typename T> __device__ inline void send(T* mine, const T& x, Arrivals* arrivals, int rank) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "a number or 16 bytes");
#if DELTAPROP_HAS_CLUSTERS
    unsigned to, theirs;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_place(mine)), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(theirs) : "r"(shared_place(arrivals)), "r"(rank));
    const unsigned* words = reinterpret_cast<const unsigned*>(&x);
    if constexpr (sizeof(T) == 16)
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                         to),
                     "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]), "r"(theirs)
                     : "memory");
    else if constexpr (sizeof(T) == 8)
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(to),
                     "r"(words[0]), "r"(words[1]), "r"(theirs)
                     : "memory");
    else
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to),
                     "r"(words[0]), "r"(theirs)
                     : "memory");
#endif
}

// 4, 8 or 16 bytes, to which both addresses are aligned, from global to shared memory; there after copies_done().
__device__ inline void copy_async(void* to, const void* from, int bytes) {
    const unsigned shared = shared_place(to);
    if (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
    else if (bytes == 8)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(from) : "memory");
}

// Those of this thread only: a barrier has to follow before others read them.
__device__ inline void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#endif
