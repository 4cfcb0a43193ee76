/* A GGUF file: refused with words, or every row of it can be read and its tokenizer used.
 *
 * Input: the file. */
#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_checkpoint(file_in_memory(data, size));
    return 0;
}
