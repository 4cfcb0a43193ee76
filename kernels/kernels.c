#include "kernels/kernels.h"

const char *dtype_name(enum dtype type)
{
    switch (type) {
    case DT_F32:
        return "f32";
    case DT_F16:
        return "f16";
    case DT_BF16:
        return "bf16";
    }
    die("dtype %d", (int)type);
}
