// What kernels.cu needs of CUDA, for a host compiler: a block is a number of real threads with a barrier, and the
// blocks of a grid run one after the other.
#pragma once

#include <barrier>
#include <thread>
#include <vector>

struct Dim3 {
    unsigned x;
};

inline thread_local Dim3 threadIdx, blockIdx, blockDim, gridDim;
inline std::barrier<>* block_barrier = nullptr;

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static

inline void __syncthreads() {
    if (block_barrier) block_barrier->arrive_and_wait();
}

template <class Kernel>
void run_grid(unsigned blocks, unsigned threads, Kernel kernel) {
    std::barrier<> barrier(threads);
    block_barrier = threads > 1 ? &barrier : nullptr;
    const auto run_thread = [&](unsigned thread) {
        threadIdx.x = thread;
        blockDim.x = threads;
        gridDim.x = blocks;
        for (unsigned block = 0; block < blocks; ++block) {
            blockIdx.x = block;
            kernel();
            __syncthreads();
        }
    };
    std::vector<std::jthread> others;
    for (unsigned thread = 1; thread < threads; ++thread) others.emplace_back(run_thread, thread);
    run_thread(0);
}
