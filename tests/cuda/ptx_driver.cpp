/* Runs translated kernels of test_ptx.py by name: each line of stdin is a kernel's name and 96
 * words, three a lane; each line of stdout the 32 words it left. */
#include "tests/cuda/ptx_runtime.h"

#include <cstdio>

static const ptx::kernel *named(const char *name)
{
    for (auto &each : ptx::kernels())
        if (!std::strcmp(each.second.name, name)) return &each.second;
    std::fprintf(stderr, "no kernel %s\n", name);
    exit(1);
}

int main()
{
    char name[200];
    while (std::scanf("%199s", name) == 1) {
        uint32_t in[96], out[32];
        for (uint32_t &word : in)
            if (std::scanf("%x", &word) != 1) return 1;
        std::memset(out, 0xcd, sizeof out);
        void *from = in, *to = out, *values[] = {&from, &to};
        emu_run({name, named(name)->symbol, dim3(1), dim3(32), 0, nullptr, nullptr, values});
        for (uint32_t word : out)
            std::printf("%x ", word);
        std::printf("\n");
        std::fflush(stdout);
    }
    return 0;
}
