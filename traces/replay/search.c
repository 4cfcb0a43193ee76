#include "traces/replay/search.h"

#include <math.h>

enum status search_rate(double first, double target, search_probe *probe, void *context,
                        struct error *err)
{
    double passed = 0, failed = INFINITY, rate = first;
    bool go_on = true;
    for (int i = 0; i < SEARCH_PROBES && go_on; i++) {
        double attainment = 0;
        enum status status = probe(context, rate, &attainment, &go_on, err);
        if (status) return status;
        if (attainment >= target)
            passed = rate;
        else
            failed = rate;
        if (failed <= passed * SEARCH_RATIO || (passed == 0 && i + 1 == SEARCH_DOWN)) break;
        rate = passed == 0 ? failed / 2 : isinf(failed) ? passed * 2 : sqrt(passed * failed);
    }
    return ST_OK;
}
